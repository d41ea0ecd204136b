"""Matching names into pairs, and the index file."""

import hashlib

import pandas as pd
import pytest

from cluster.archive.config import IndexConfig
from cluster.archive.matching import match_pairs
from cluster.archive.naming import Naming
from cluster.archive.pair_index import build_index, load_index, open_index
from cluster.storage import tables
from cluster.storage.objects import FileInfo
from cluster.storage.tables import Database


def listing(*paths, root="/r"):
    return [FileInfo(path, f"{root}/{path}", 1, "e") for path in paths]


def ids(rows):
    return [row["pair_id"] for row in rows]


def reasons(rows):
    return {row["pair_id"]: row["reason"] for row in rows}


def test_names_match_by_relative_path_without_extension():
    pairs, unmatched = match_pairs(
        listing("day/1.JPG", "night/1.png", "v1.2.tif", "noext"),
        listing("day/1.png", "night/1.TIFF", "v1.2.jpeg", "noext"),
    )
    assert ids(pairs) == ["day/1", "night/1", "noext", "v1.2"]
    assert pairs[0]["ir_url"] == "/r/day/1.JPG" and pairs[0]["vis_url"] == "/r/day/1.png"
    assert unmatched == []


def test_every_name_without_a_pair_has_a_reason():
    pairs, unmatched = match_pairs(
        listing("a.png", "b.png", "b.jpg", "c.png", "notes.txt", "bad\udcff.png"),
        listing("b.png", "c.png", "d.png"),
    )
    assert ids(pairs) == ["c"]
    assert reasons(unmatched) == {
        "a": "missing_partner",
        "b": "ambiguous",
        "d": "missing_partner",
        "notes": "not_image",
        "bad\\udcff": "bad_name",
    }
    detail = next(row["detail"] for row in unmatched if row["pair_id"] == "b")
    assert "b.png" in detail and "b.jpg" in detail


def test_patterns_take_the_pair_id_out_of_either_name():
    pairs, unmatched = match_pairs(
        listing("x/007_ir.png", "x/odd.png"),
        listing("rgb_x/007.png"),
        Naming(ir_pattern="{id}_ir", vis_pattern="rgb_{id}"),
    )
    assert ids(pairs) == ["x/007"]
    assert reasons(unmatched) == {"x/odd": "missing_partner"}


def test_two_names_that_become_one_pair_id_are_ambiguous():
    _, unmatched = match_pairs(listing("a.png"), listing("a.png", "a.tif"))
    assert reasons(unmatched) == {"a": "ambiguous"}


def opened(database, *urls, **options):
    open_index(database, *urls, **options)
    return database.frame("from pairs order by __row")


@pytest.fixture
def archive(tmp_path):
    for side, names in (("ir", ("1.png", "n/2.png", "3.png")), ("vis", ("1.jpg", "n/2.PNG"))):
        for name in names:
            path = tmp_path / side / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"bytes")
    return tmp_path


def build(archive, name):
    return build_index(
        IndexConfig(
            ir_url=str(archive / "ir"), vis_url=str(archive / "vis"), output_url=str(archive / name)
        )
    )


@pytest.mark.parametrize("name", ["pairs.parquet", "pairs.csv"])
def test_a_built_index_loads_with_its_unmatched_names(archive, name):
    report = build(archive, name)
    assert (report.num_pairs, report.num_unmatched) == (2, {"missing_partner": 1})
    with Database() as database:
        table = opened(database, str(archive / name))
        assert list(table["pair_id"]) == ["1", "n/2"]
        assert list(table["ir_size"]) == [5, 5]
        found = database.frame("from unmatched")
        assert dict(zip(found["pair_id"], found["reason"], strict=True)) == {"3": "missing_partner"}
        direct = opened(database, None, str(archive / "ir"), str(archive / "vis"))
        pd.testing.assert_frame_equal(direct, table, check_dtype=False)


def test_an_index_of_ones_own_needs_three_columns_and_may_be_relative(archive):
    path = archive / "own.csv"
    path.write_text("pair_id,ir_url,vis_url,weather\n007,ir/1.png,vis/1.jpg,fog\n")
    table, num_unmatched = load_index(str(path))
    assert num_unmatched == 0
    row = table.iloc[0]
    assert (row["pair_id"], row["weather"]) == ("007", "fog")
    assert row["ir_url"] == str(archive / "ir/1.png")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pair_id,ir_url\n1,a\n", "no column vis_url"),
        ("pair_id,ir_url,vis_url\n", "no rows"),
        ("pair_id,ir_url,vis_url\n1,a,b\n1,c,d\n", "pair_id an earlier row has, for example '1'"),
        ("pair_id,ir_url,vis_url\n1,,b\n", "1 rows without ir_url"),
        ("pair_id,ir_url,vis_url,ir_size\n1,a,b,12k\n", "own.csv' has 1 rows whose ir_size is no number"),
    ],
)
def test_a_wrong_index_is_refused_with_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_index(str(path))


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_long_index_keeps_each_row_in_order_and_names_what_is_twice_far_apart(tmp_path, suffix):
    num_pairs = 30_000
    names = [f"p{number}" for number in range(num_pairs)]
    table = pd.DataFrame({"pair_id": names, "ir_url": "i.png", "vis_url": "v.png"})
    table = table.assign(ir_size=range(num_pairs), taken=pd.Timestamp("2026-05-01", tz="UTC"))
    url = str(tmp_path / f"pairs.{suffix}")
    tables.write_table(url, table)
    with Database() as database:
        index = opened(database, url)
        assert list(index["pair_id"]) == names and list(index["__row"]) == list(range(num_pairs))
        assert list(index["ir_size"]) == list(range(num_pairs)) and set(index["vis_size"]) == {-1}
        assert set(pd.to_datetime(index["taken"], utc=True)) == set(table["taken"])
        parts = [opened(database, url, partition=(part, 3))["pair_id"] for part in (1, 2, 3)]
        assert sorted(pd.concat(parts)) == sorted(names)
        assert min(map(len, parts)) > num_pairs / 4
        digests = [hashlib.md5(name.encode()).digest() for name in names]
        numbers = [int.from_bytes(digest[8:], "little") for digest in digests]
        assert list(parts[1]) == [n for n, number in zip(names, numbers, strict=True) if number % 3 == 1]

        names[-1] = names[0]
        tables.write_table(url, table.assign(pair_id=names))
        with pytest.raises(ValueError, match="1 rows whose pair_id an earlier row has, for example 'p0'"):
            opened(database, url)
        tables.write_table(url, table.assign(ir_url=[*table["ir_url"][:-1], ""]))
        with pytest.raises(ValueError, match="1 rows without ir_url"):
            opened(database, url)


def test_a_column_that_sql_cannot_tell_from_another_is_refused(tmp_path):
    row = pd.DataFrame({"pair_id": ["a"], "ir_url": ["i"], "vis_url": ["v"], "Site": [1], "site": [2]})
    for name in ("pairs.parquet", "pairs.csv"):
        tables.write_table(str(tmp_path / name), row)
        with pytest.raises(ValueError, match="'Site' and 'site', which SQL takes for one"):
            load_index(str(tmp_path / name))


def test_columns_are_known_in_any_case_and_odd_sizes_are_unknown(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("Pair_ID,IR_URL,vis_url,IR_SIZE,vis_size,Site\n7,a,b,12,1e30,x\n8,c,d,,nan,y\n")
    table, _ = load_index(str(path))
    assert list(table["pair_id"]) == ["7", "8"] and list(table["Site"]) == ["x", "y"]
    assert list(table["ir_size"]) == [12, -1] and list(table["vis_size"]) == [-1, -1]
    assert len(table.columns) == 11
    path.write_text("pair_id,ir_url,vis_url,__row\n7,a,b,1\n")
    with pytest.raises(ValueError, match="a column '__row', expected none of that name"):
        load_index(str(path))


def test_a_column_of_any_name_is_carried(tmp_path):
    odd = {'say "x"; drop table pairs': [1], "$folder": [2], "é\n": [3], "rows": [4]}
    row = pd.DataFrame({"pair_id": ["a"], "ir_url": ["i"], "vis_url": ["v"], **odd})
    tables.write_table(str(tmp_path / "it's [a] *.parquet"), row)
    table, _ = load_index(str(tmp_path / "it's [a] *.parquet"))
    assert {name: list(table[name]) for name in odd} == odd


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_bands_and_homographies_have_one_form_however_they_are_written(tmp_path, suffix):
    url = str(tmp_path / f"pairs.{suffix}")
    rows = pd.DataFrame({"pair_id": list("abc"), "ir_url": "i.tif", "vis_url": "v.tif"})
    homographies = ["[[1, 0, 5], [0, 1.50, 0], [0, 0, 1]]", "", "1,0,x"]
    written = rows.assign(
        IR_bands=[4, None, 2], vis_bands=["3 2,1", "", "red"], ir_to_vis=homographies
    )
    tables.write_table(url, written)
    with Database() as database:
        found = opened(database, url, bands=("4", "1,2,3"))
        assert list(found["ir_bands"]) == ["4", "4", "2"]
        assert list(found["vis_bands"]) == ["3,2,1", "1,2,3", "red"]
        expected = ["1.0 0.0 5.0 0.0 1.5 0.0 0.0 0.0 1.0", "", "1.0 0.0 x"]
        assert list(found["ir_to_vis"]) == expected
        if suffix == "parquet":
            numbers = [[1, 0, 5, 0, 1.5, 0, 0, 0, 1], None, []]
            tables.write_table(url, rows.assign(ir_to_vis=numbers, vis_bands=[[1, 2, 3], [4], []]))
            found = opened(database, url)
            assert list(found["ir_to_vis"]) == [expected[0], "", ""]
            assert list(found["vis_bands"]) == ["1,2,3", "4", ""]


def test_one_folder_is_both_sides_where_other_bands_are_read(tmp_path):
    folder = tmp_path / "photos"
    for name in ("a.tif", "day/b.tif"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"bytes")
    given = {"ir_url": str(folder), "vis_url": str(folder), "output_url": str(tmp_path / "pairs.csv")}
    for bands in ({}, {"ir_bands": "4"}, {"ir_bands": "4", "vis_bands": "4"}):
        with pytest.raises(ValueError, match="name the same files, .*--ir-bands 4 --vis-bands 1,2,3"):
            build_index(IndexConfig(**given, **bands))
    assert build_index(IndexConfig(**given, ir_bands="4", vis_bands="1,2,3")).num_pairs == 2
    table, _ = load_index(str(tmp_path / "pairs.csv"))
    assert list(table["pair_id"]) == ["a", "day/b"] and list(table["ir_url"]) == list(table["vis_url"])
    assert set(table["ir_bands"]) == {"4"} and set(table["vis_bands"]) == {"1,2,3"}
    with Database() as database:
        direct = opened(database, None, str(folder), str(folder), bands=("4", "1,2,3"))
        pd.testing.assert_frame_equal(direct.drop(columns="__row"), table, check_dtype=False)


SHIFTED = "1.0 0.0 {} 0.0 1.0 0.0 0.0 0.0 1.0"


@pytest.mark.parametrize(
    ("patterns", "cameras"),
    [
        ({}, ["north", "north", "south"]),
        ({"ir_pattern": "{site}/{camera}_{id}", "vis_pattern": "{site}/{camera}_{id}"}, ["1", "7", "7"]),
        ({"ir_pattern": "{id}/{camera}_{n}", "vis_pattern": "{id}/{camera}_{n}"}, ["1", "7", "7"]),
    ],
)
def test_each_pair_gets_the_homography_of_its_camera(tmp_path, patterns, cameras):
    for side in ("ir", "vis"):
        for name in ("north/1_a.png", "north/7_b.png", "south/7_a.png"):
            (tmp_path / side / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / side / name).write_bytes(b"x")
    table = tmp_path / "cameras.csv"
    config = IndexConfig(
        ir_url=str(tmp_path / "ir"), vis_url=str(tmp_path / "vis"), cameras_url=str(table),
        output_url=str(tmp_path / "pairs.csv"), **patterns,
    )  # fmt: skip
    table.write_text('camera,ir_to_vis\n7,1 0 7 0 1 0 0 0 1\nnorth,"1,0,5,0,1,0,0,0,1"\n')
    known = {"7": SHIFTED.format("7.0"), "north": SHIFTED.format("5.0")}
    report = build_index(config)
    assert report.num_unknown_camera == sum(camera not in known for camera in cameras) == 1
    found, _ = load_index(str(tmp_path / "pairs.csv"))
    assert list(found["camera"]) == cameras
    assert list(found["ir_to_vis"]) == [known.get(camera, "") for camera in cameras]
    table.write_text(table.read_text() + "*,2 0 0 0 2 0 0 0 1\n")
    assert build_index(config).num_unknown_camera == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("camera\na\n", "has no column ir_to_vis"),
        ("camera,ir_to_vis\na,1 2\n", "of the camera 'a', ir_to_vis is '1.0 2.0', expected nine numbers"),
        ("camera,ir_to_vis\na,\na,\n", "names the camera 'a' twice"),
        (None, "cameras.csv' is not there"),
    ],
)
def test_a_wrong_table_of_cameras_is_refused(archive, text, message):
    if text is not None:
        (archive / "cameras.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        build_index(
            IndexConfig(
                ir_url=str(archive / "ir"), vis_url=str(archive / "vis"), output_url="o.csv",
                cameras_url=str(archive / "cameras.csv"),
            )
        )  # fmt: skip


def test_folders_without_a_common_name_say_so(tmp_path):
    for side, name in (("ir", "a_ir.png"), ("vis", "a_vis.png")):
        (tmp_path / side).mkdir()
        (tmp_path / side / name).write_bytes(b"x")
    with pytest.raises(ValueError, match="--ir-pattern"):
        build(tmp_path, "pairs.parquet")


def test_no_message_obeys_what_a_name_holds(tmp_path):
    names = ["\x1b[2J\n.png", "\x1b[2J\n.jpg"]
    _, unmatched = match_pairs(listing(*names), listing(names[0]))
    (row,) = unmatched
    assert row["reason"] == "ambiguous" and row["detail"].isprintable()
    (tmp_path / "pairs.csv").write_text("pair_id,ir_url,\x1b[2J\n1,a,b\n")
    with pytest.raises(ValueError, match="no column vis_url") as caught:
        load_index(str(tmp_path / "pairs.csv"))
    assert str(caught.value).isprintable()
