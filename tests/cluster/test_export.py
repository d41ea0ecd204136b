"""The parts of an export without Ray: formats, selection, record."""

import io
import os

import numpy as np
import pandas as pd
import pytest
import rasterio
import tifffile
from PIL import Image

from cluster.archive.encoding import DTYPES, encode_image
from cluster.exporting.config import ExportConfig
from cluster.exporting.record import Record
from cluster.exporting.selection import choose_pairs, file_of, open_tables
from cluster.exporting.writing import export_pair
from cluster.storage import fused_store, objects, tables
from cluster.storage.tables import Database

CASES = [(name, dtype) for name, dtypes in DTYPES.items() if name != "cog" for dtype in dtypes]


def image(shape, dtype):
    ramp = np.linspace(0, 1, int(np.prod(shape))).reshape(shape)
    return (ramp * (1 if dtype == "float32" else np.iinfo(dtype).max)).astype(dtype)


def decoded(data, format_):
    """Return pixels as another library than the one that wrote them reads them, where there is one."""
    if format_ == "tiff":
        return tifffile.imread(io.BytesIO(data))
    opened = Image.open(io.BytesIO(data))
    assert opened.format.lower() == format_
    return np.asarray(opened)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("shape", [(37, 53), (37, 53, 3)])
@pytest.mark.parametrize(("format_", "dtype"), CASES)
def test_an_image_comes_back_from_each_format_and_is_the_same_bytes_each_time(format_, dtype, shape):
    pixels = image(shape, dtype)
    data = encode_image(np.asfortranarray(pixels), format_, 95)
    assert data == encode_image(pixels, format_, 95)
    if format_ == "png" and dtype == "uint16" and len(shape) == 3:
        # not Pillow, which reads 16-bit colour with 8 bits
        with rasterio.MemoryFile(data) as file, file.open() as opened:
            back = np.moveaxis(opened.read(), 0, -1)
    else:
        back = decoded(data, format_)
    assert back.dtype == dtype and back.shape == shape
    if format_ == "jpeg":
        # a smooth ramp at quality 95, and two conversions of colour
        np.testing.assert_allclose(back.astype(int), pixels.astype(int), atol=4)
        assert len(encode_image(pixels, format_, 10)) < len(data)
    else:
        np.testing.assert_array_equal(back, pixels)


@pytest.mark.parametrize(
    ("format_", "shape", "dtype"),
    [
        ("jpeg", (8, 8), "uint16"), ("png", (8, 8), "float32"), ("tiff", (8, 8), "float64"),
        ("png", (8, 8, 2), "uint8"), ("png", (8,), "uint8"),
    ],
)  # fmt: skip
def test_pixels_that_a_format_does_not_hold_are_refused(format_, shape, dtype):
    with pytest.raises(ValueError, match=rf"the image is {dtype}.*for {format_}: export it in another"):
        encode_image(np.zeros(shape, dtype), format_, 95)


def make_output(tmp_path, names, dtype="uint8"):
    """Write an output as fuse_archive does, as far as an export reads it."""
    output = str(tmp_path / "out")
    store = f"{output}/fused.zarr"
    fused_store.create_store(store, {})
    for number, name in enumerate(names):
        pixels = image((9, 12), dtype) // (number + 1)
        fused_store.write_fused(store, fused_store.escape_pair_id(name), pixels, {})
    table = pd.DataFrame({"pair_id": names, "VIF": np.arange(len(names)) / 10, "dtype": dtype})
    table["height"], table["width"] = 9, 12
    table["zarr_path"] = [fused_store.escape_pair_id(name) for name in names]
    tables.write_table(f"{output}/metrics.parquet/part-000000.parquet", table)
    for name in names:
        put_in_ledger(output, name, 100.25)
    return output


def put_in_ledger(output, name, recorded_at):
    frame = pd.DataFrame({"pair_id": [name], "recorded_at": [recorded_at], "status": ["fused"]})
    part = f"part-{fused_store.escape_pair_id(name).replace('/', '-')}-{recorded_at}.parquet"
    tables.write_table(f"{output}/ledger/{part}", frame)


def chosen(database):
    return sorted(name for (name,) in database._rows("select pair_id from chosen"))


def todo(database):
    return sorted(name for (name,) in database._rows("select pair_id from todo"))


def select(output, tmp_path, database, **options):
    config = ExportConfig(fused_url=output, output_url=str(tmp_path / "images"), **options)
    open_tables(database, config)
    choose_pairs(database, config)
    return config


def test_a_list_and_a_condition_choose_pairs_and_unknown_names_are_told(tmp_path):
    output = make_output(tmp_path, ["a", "day 1/b", "é", " c"])
    (tmp_path / "list.txt").write_bytes("\ufeffa\r\né\n\n c\nnobody\na\n".encode())
    listed = {"pairs_url": str(tmp_path / "list.txt")}
    for options, expected in (
        ({}, [" c", "a", "day 1/b", "é"]),
        ({"where": "VIF > 0.05 -- low ones stay"}, [" c", "day 1/b", "é"]),
        ({"where": "pair_id like 'day%' or \"VIF\" = 0"}, ["a", "day 1/b"]),
        (listed, [" c", "a", "é"]),
        (listed | {"where": "VIF < 0.25"}, ["a", "é"]),
        ({"where": "VIF > 7"}, []),
    ):
        with Database() as database:
            select(output, tmp_path, database, **options)
            assert chosen(database) == todo(database) == expected
            unknown = database.frame("from unknown")["pair_id"].tolist()
            assert unknown == (["nobody"] if "pairs_url" in options else [])


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("NOPE < 1", 'Referenced column "NOPE" not found'),
        ("VIF <", "syntax error"),
        ("true) ; drop table metrics; select (1", "several statements"),
        ("pair_id", "Could not convert string"),
        ("pair_id in (select content from read_text('{file}'))", "disabled by configuration"),
        ("exists (from read_csv('{file}'))", "disabled by configuration"),
        ("exists (from '{file}')", "disabled by configuration"),
        ("exists (from config)", "does not exist"),
        ("true) ; copy metrics to '{file}.csv'; select (1", "several statements"),
    ],
)
def test_a_condition_that_is_wrong_or_reaches_out_of_the_table_is_one_line(tmp_path, where, said):
    output = make_output(tmp_path, ["a"])
    (tmp_path / "secret.csv").write_text("hunter2\nhunter3\n")
    with Database() as database, pytest.raises(ValueError, match="--where .* can't be used") as caught:
        select(output, tmp_path, database, where=where.format(file=tmp_path / "secret.csv"))
    line = str(caught.value)
    assert said in line and "hunter" not in line and "\n" not in line
    columns = '"pair_id", "VIF", "dtype", "height", "width", "zarr_path"'
    assert line.endswith(f"condition on the columns {columns}")
    assert sorted(os.listdir(tmp_path)) == ["out", "secret.csv"]


def test_a_closed_database_writes_no_file_changes_no_setting_and_still_spills(tmp_path):
    with Database() as database:
        database.run("set memory_limit = '60MB'")
        database.run("create table numbers as select range as n, md5(range::varchar) as t from range(10)")
        database.close_to_files()
        for statement in (
            f"copy numbers to '{tmp_path}/x.csv'", f"attach '{tmp_path}/x.db'", "install httpfs",
            "set enable_external_access = true", "set lock_configuration = false",
        ):  # fmt: skip
            with pytest.raises(ValueError, match="Permission Error|Cannot change configuration"):
                database.run(statement)
        assert os.listdir(tmp_path) == []
        # twice the memory that it may take
        database.run("create table many as select md5(range::varchar) as t from range(3000000)")
        assert database.first("select count(distinct t) from many") == (3_000_000,)


def test_a_format_that_does_not_hold_the_pixels_is_refused_before_any_is_written(tmp_path):
    output = make_output(tmp_path, ["a", "b"], "uint16")
    with Database() as database, pytest.raises(ValueError, match="--format is jpeg") as caught:
        select(output, tmp_path, database, image_format="jpeg")
    assert "of the 2 chosen pairs 2 are uint16, expected uint8" in str(caught.value)
    assert "give --format png or tiff" in str(caught.value)
    with Database() as database:
        select(output, tmp_path, database, image_format="jpeg", where="dtype = 'uint8'")
        assert chosen(database) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "is not there"), (b"\xff\xfe", "no text in UTF-8"), (b"\n \n", "names no pair")],
)
def test_a_list_that_cannot_be_used_is_named(tmp_path, text, message):
    output = make_output(tmp_path, ["a"])
    if text is not None:
        (tmp_path / "list.txt").write_bytes(text)
    with Database() as database, pytest.raises(ValueError, match=rf"--pairs .*list\.txt.* {message}"):
        select(output, tmp_path, database, pairs_url=str(tmp_path / "list.txt"))


def test_what_is_no_output_of_fuse_archive_is_named(tmp_path):
    with Database() as database, pytest.raises(ValueError, match=r"out' has no metrics\.parquet"):
        select(str(tmp_path / "out"), tmp_path, database)
    tables.write_table(f"{tmp_path}/out/metrics.parquet/part-0.parquet", pd.DataFrame({"a": [1]}))
    missing = "has no column dtype, height, pair_id, width, zarr_path"
    with Database() as database, pytest.raises(ValueError, match=missing):
        select(str(tmp_path / "out"), tmp_path, database)


def test_only_images_that_are_whole_and_of_the_present_result_are_left_out(tmp_path):
    names = ["a", "day/b", "x"]
    output = make_output(tmp_path, names)

    def run(**options):
        """Export as the job does, without Ray; return the names that were written."""
        with Database() as database:
            config = select(output, tmp_path, database, **options)
            rows = [
                export_pair(
                    row, store_url=f"{output}/fused.zarr", output_url=config.output_url,
                    image_format=config.image_format, quality=config.quality or 0,
                    max_pixels=config.max_pixels,
                )
                for batch in database.batches("from todo")
                for row in batch
            ]  # fmt: skip
        record = Record(config.output_url)
        quality = config.quality if config.image_format == "jpeg" else 0
        record.add([row | {"format": config.image_format, "quality": quality} for row in rows])
        record.flush()
        assert not any(row["reason"] for row in rows)
        return sorted(row["pair_id"] for row in rows)

    assert run(where="pair_id = 'a'") == ["a"]
    assert run() == ["day/b", "x"]
    assert run() == []
    assert sorted(f.path for f in objects.list_files(f"{tmp_path}/images") if "part-" not in f.path) == [
        "a.png", "day/b.png", "x.png",
    ]  # fmt: skip
    put_in_ledger(output, "x", 200.5)  # it was fused again
    assert run() == ["x"] and run() == []
    (tmp_path / "images/a.png").unlink()
    (tmp_path / "images/day/b.png").write_bytes(b"half")
    assert run() == ["a", "day/b"] and run() == []
    assert run(overwrite=True) == sorted(names)
    jpeg = {"image_format": "jpeg", "quality": 90}
    assert run(**jpeg) == sorted(names) and run(**jpeg) == []
    assert run(image_format="jpeg", quality=50) == sorted(names) and run() == []
    # two formats whose files have one name
    assert run(image_format="tiff") == run(image_format="cog") == sorted(names)
    assert run(image_format="cog") == [] and run(image_format="tiff") == sorted(names)


def test_a_pair_whose_pixels_are_gone_or_whose_file_cannot_be_put_says_why(tmp_path):
    output = make_output(tmp_path, ["a"])
    given = {"output_url": str(tmp_path / "images"), "image_format": "png", "quality": 0}
    given |= {"store_url": f"{output}/fused.zarr", "max_pixels": 9 * 12}
    row = {"pair_id": "a", "zarr_path": "a", "height": 9, "width": 12, "file": "a.png"}
    gone = export_pair(row | {"zarr_path": "b"}, **given)
    assert gone["reason"] == "missing_file" and "--verify" in gone["detail"]
    large = export_pair(row, **given | {"max_pixels": 9 * 12 - 1})
    assert large["reason"] == "too_many_pixels" and large["detail"].endswith("or give --format cog")
    (tmp_path / "images").write_bytes(b"no folder")
    unwritten = export_pair(row, **given)
    assert unwritten["reason"] == "failed" and unwritten["detail"].startswith("export: StorageError")
    objects.put_bytes(f"{output}/fused.zarr/a/fused/c/0/0", b"no zstd")
    damaged = export_pair(row, **given)
    assert damaged["reason"] == "failed" and damaged["detail"].startswith("fused: ")


def test_no_image_leaves_the_output():
    for name in ("../x", "/etc/x", "a/../../x", "..", "", "a//b", "C:\\x", "a\0b"):
        path = file_of(name, "tiff")
        assert path.endswith(".tif") and not path.startswith("/")
        assert os.path.normpath(path) == path and ".." not in path.split("/")
    assert file_of("day/001", "jpeg") == "day/001.jpg"
