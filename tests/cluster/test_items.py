"""The STAC items of an output: stored as files and in one table, and kept up to date by runs."""

import copy
import json
import sys
from datetime import datetime
from pathlib import Path

import geopandas
import pandas as pd
import pyarrow.parquet
import pystac
import pytest
import shapely
from rasterio.crs import CRS
from stac_geoparquet.arrow import stac_table_to_items

from cluster.archive.stac_item import footprint, stac_item
from cluster.fusing import items as run_items
from cluster.fusing.output import Output
from cluster.fusing.plan import make_plan
from cluster.storage import objects, urls
from cluster.storage.stac_table import TABLE, PackagesMissing, item_url, table_url, update_items
from cluster.storage.tables import Database
from cluster.text.run_log import RunLog
from tests.cluster.ledgers import Bench, ledger_row
from tests.cluster.stac_items import SQUARE, UTM, fused_item

NIGHT = 86_400.0


def stored_items(stac_url):
    """Return the items of the table by id, as stac-geoparquet gives them back."""
    table = pyarrow.parquet.read_table(f"{stac_url}/{TABLE}")
    return {read["id"]: read for read in stac_table_to_items(table)}


def files_of(stac_url):
    """Return the JSON files below OUT/stac, with a number that is another where one was put again."""
    found = objects.find_files(stac_url)
    return {file.path: Path(file.url).stat().st_ino for file in found if file.path != TABLE}


def test_items_are_stored_one_by_one_and_in_a_table_that_is_equal(tmp_path, monkeypatch):
    monkeypatch.setattr("cluster.storage.stac_table.CHUNK_ITEMS", 2)  # so that chunks are joined
    items = [fused_item(f"n/{number}", metrics={"SF": float(number)}) for number in range(5)]
    items[4]["properties"]["dmnet:SF"] = None
    items[4]["geometry"], items[4]["bbox"] = footprint(
        CRS.from_epsg(32660).to_wkt(), (10.0, 0, 800_000, 0, -10, 2e6), 1000, 5000
    )
    url = f"{tmp_path}/stac"
    assert update_items(url, iter(copy.deepcopy(items)), dropped={}) == 5
    for made in items:
        stored = json.loads(Path(item_url(url, made["id"])).read_text())
        assert stored == json.loads(json.dumps(made))
    found = stored_items(url)
    assert found.keys() == {made["id"] for made in items}
    for made in items:
        read = pystac.Item.from_dict(found[made["id"]])
        shown = {name: value for name, value in made["properties"].items() if value is not None}
        for name in ("datetime", "created"):  # the table has microseconds
            shown[name] = shown[name].replace("Z", ".000000Z")
        assert {name: read.properties[name] for name in shown} == shown
        assert shapely.equals(
            shapely.geometry.shape(read.geometry), shapely.geometry.shape(made["geometry"])
        )
        assert read.assets["fused"].href == made["assets"]["fused"]["href"]


def test_a_table_takes_new_items_of_other_columns_and_stays_one_of_geometry(tmp_path, monkeypatch):
    monkeypatch.setattr("cluster.storage.stac_table.CHUNK_ITEMS", 4)
    url, copied = f"{tmp_path}/stac", str(tmp_path / "copied.parquet")
    update_items(url, [fused_item(f"n/{number}") for number in range(6)], dropped={})
    objects.fetch(table_url(url), copied)
    new = [fused_item("n/1", metrics={"SF": 9.0, "VIF": 0.5, "EN": 7.0}, crs=UTM), fused_item("other")]
    dropped = {f"n/{number}": f"n/{number}" for number in (1, 2)}
    assert update_items(url, new, stored=copied, dropped=dropped) == 2
    found = stored_items(url)
    assert list(found) == ["n/0", "n/3", "n/4", "n/5", "n/1", "other"]
    again, kept = found["n/1"]["properties"], found["n/0"]["properties"]
    assert again["proj:wkt2"].startswith("PROJCRS[")
    assert (again["dmnet:SF"], again["dmnet:VIF"], again["dmnet:EN"]) == (9, 0.5, 7)
    assert (kept["dmnet:SF"], kept["proj:code"], kept["proj:wkt2"]) == (1.5, "EPSG:32632", None)
    frame = geopandas.read_parquet(f"{url}/{TABLE}")
    assert frame.crs.to_epsg() == 4326
    outlines = [shapely.geometry.shape(read["geometry"]) for read in found.values()]
    assert frame.geometry.geom_equals(geopandas.GeoSeries(outlines, crs=4326)).all()
    # Small parts don't pile up as row groups of their own.
    assert pyarrow.parquet.read_metadata(f"{url}/{TABLE}").num_row_groups == 2
    assert files_of(url).keys() == {"other.json", *(f"n/{number}.json" for number in (0, 1, 3, 4, 5))}


def test_without_items_there_is_no_table(tmp_path):
    url, copied = f"{tmp_path}/stac", str(tmp_path / "copied.parquet")
    assert update_items(url, [fused_item()], dropped={}) == 1
    objects.fetch(table_url(url), copied)
    assert update_items(url, [], stored=copied, dropped={"a/b": "a/b"}) == 0
    assert not list(objects.find_files(url))


def test_no_pair_id_makes_a_folder_of_another_item_or_of_the_table(tmp_path):
    names = ["a", "a.json/b", "items.parquet/c"]
    assert update_items(f"{tmp_path}/stac", [fused_item(name) for name in names], dropped={}) == 3
    assert (tmp_path / "stac" / "a%2Ejson" / "b.json").is_file()


def test_a_missing_package_for_the_table_is_named(tmp_path, monkeypatch):
    made = fused_item()
    monkeypatch.setitem(sys.modules, "stac_geoparquet.arrow", None)
    with pytest.raises(PackagesMissing, match=r"can't be made .*pip install 'dmnet-archive\[stac\]'"):
        update_items(str(tmp_path), [made], dropped={})


class Nights(Bench):
    """A bench that ends runs, with the output of all of them."""

    def __init__(self, database, folder):
        super().__init__(database, folder)
        self.output = Output(f"{folder}/out")
        self.rows = []

    def end(self, *names, rows=(), **columns):
        """Put rows into the ledger, and bring the items of an index of these names up to date."""
        self.rows += rows
        self.put_index(*names, **columns)
        self.put_ledger(*self.rows)
        make_plan(self.database, "F", None)
        run_items.write_items(self.database, self.output, RunLog("run", as_json=False))


@pytest.fixture
def nights(tmp_path):
    with Database() as database:
        yield Nights(database, tmp_path)


def fused(name, night=1, status="fused", **changed):
    """Return the ledger row of a pair that was fused in some night."""
    place = {"crs": "EPSG:32632", "transform": " ".join(map(repr, SQUARE))}
    sizes = {"height": 100, "width": 100, "bands": 3, "dtype": "uint8", "zarr_path": name}
    return ledger_row(name, status, recorded_at=night * NIGHT + 0.123456, **(place | sizes | changed))


def test_the_fused_pairs_with_a_place_on_the_earth_have_items(nights, capsys):
    moments = ["2020-05-01 10:00:00+02", None, "", "", ""]
    rows = [
        fused("a", SF=2.5, valid_share=0.75), fused("n/b", crs=UTM, bands=1),
        fused("nowhere", crs="", transform=""), fused("bad", status="rejected", reason="empty"),
        fused("plan", crs='LOCAL_CS["plan",UNIT["metre",1]]'),
    ]  # fmt: skip
    nights.end("a", "n/b", "nowhere", "bad", "plan", rows=rows, carried={"datetime": moments})
    url = nights.output.stac
    assert files_of(url).keys() == {"a.json", "n/b.json"} and stored_items(url).keys() == {"a", "n/b"}
    a, b = (json.loads(Path(item_url(url, name)).read_text()) for name in ("a", "n/b"))
    assert a["properties"]["datetime"] == "2020-05-01T08:00:00Z" and a["properties"]["dmnet:SF"] == 2.5
    assert b["properties"]["datetime"] == b["properties"]["created"] == "1970-01-02T00:00:00.123456Z"
    assert a["properties"]["proj:code"] == "EPSG:32632" and "proj:wkt2" in b["properties"]
    place = json.loads(json.dumps(footprint(UTM, SQUARE, 100, 100)))
    assert [a["geometry"], a["bbox"]] == [b["geometry"], b["bbox"]] == place
    assert a["assets"]["fused"]["href"] == f"{nights.output.store}/a"
    assert [band["name"] for band in b["assets"]["fused"]["bands"]] == ["grey"]
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("1 pairs with a CRS have no STAC item, for example 'plan': an image of 100")
    assert said[1:] == ["2 STAC items written, 0 earlier ones replaced or removed"]


def test_a_run_makes_only_the_items_of_what_is_new_and_removes_those_of_what_is_gone(
    nights, monkeypatch, capsys
):
    nights.end(*"abcdef", rows=[fused(name) for name in "abcdef"])
    url = nights.output.stac
    before, made = files_of(url), []
    table = Path(table_url(url)).stat().st_ino

    def make_item(pair_id, **given):
        made.append(pair_id)
        return stac_item(pair_id, **given)

    monkeypatch.setattr(run_items, "stac_item", make_item)
    capsys.readouterr()
    nights.end(*"abcdef")
    assert not made and Path(table_url(url)).stat().st_ino == table and not capsys.readouterr().out
    # b is fused again, c rejected, d pruned; e left the index and stays, f has no place any more.
    changed = [
        fused("b", 2, SF=4.0), fused("c", 2, "rejected", reason="empty"), fused("d", 2, "pruned"),
        fused("f", 2, crs="nonsense"), fused("g", 2),
    ]  # fmt: skip
    nights.end(*"abcfg", rows=changed)
    after = files_of(url)
    assert made == ["b", "f", "g"]
    assert after.keys() == {f"{name}.json" for name in "abeg"} and list(stored_items(url)) == list("aebg")
    assert [name for name in "abe" if after[f"{name}.json"] == before[f"{name}.json"]] == ["a", "e"]
    assert stored_items(url)["b"]["properties"]["dmnet:SF"] == 4
    assert "2 STAC items written, 4 earlier ones replaced or removed" in capsys.readouterr().out
    nights.end(rows=[fused(name, 3, "pruned") for name in "abefg"])
    assert not files_of(url) and not Path(table_url(url)).exists()


def test_items_that_an_interrupted_run_or_a_partition_left_out_are_made_by_the_next_run(nights):
    nights.end("a", "b", rows=[fused("a"), fused("b")])
    url = nights.output.stac
    nights.rows.append(fused("a", 2, SF=7.0, run_id="killed"))
    nights.end("a", "b")
    assert stored_items(url)["a"]["properties"]["dmnet:SF"] == 7
    objects.delete(table_url(url))
    nights.end("a", "b")
    assert stored_items(url).keys() == {"a", "b"}


@pytest.mark.parametrize(
    ("moments", "shown"),
    [
        (pd.Timestamp("2020-05-01T12:00:00.25", tz="Europe/Berlin"), "2020-05-01T10:00:00.250000Z"),
        (pd.Timestamp("2020-05-01"), "2020-05-01T00:00:00Z"),
        (pd.Timestamp("2020-05-01 10:00:00.123456789"), "2020-05-01T10:00:00.123456Z"),
        (datetime(2020, 5, 1).date(), "2020-05-01T00:00:00Z"),
        (1_588_327_200, "1970-01-02T00:00:00.123456Z"),
        ("0001-01-01T00:00:00+02:00", "1970-01-02T00:00:00.123456Z"),
    ],
)  # fmt: skip
def test_the_time_of_an_item_is_that_of_the_index_in_any_type_of_it(nights, moments, shown):
    nights.end("a", rows=[fused("a")], carried={"DateTime": moments})
    stored = json.loads(Path(item_url(nights.output.stac, "a")).read_text())
    assert stored["properties"]["datetime"] == shown
    assert datetime.fromisoformat(stored["properties"]["created"]).timestamp() == NIGHT + 0.123456


@pytest.mark.parametrize("package", ["pystac", "stac_geoparquet.arrow"])
def test_a_run_without_the_packages_for_stac_says_so_and_leaves_the_items(
    nights, package, monkeypatch, capsys
):
    nights.end("a", rows=[fused("a")])
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, package, None)
    url = nights.output.stac
    before = files_of(url)
    nights.end("b", rows=[fused("a", 2, "pruned"), fused("b", 2)])
    (said,) = capsys.readouterr().out.splitlines()
    assert said.startswith("STAC items are left as they are, 1 to make and 1 to remove: STAC items can't")
    assert said.endswith("pip install 'dmnet-archive[stac]'")
    assert files_of(url) == before and list(stored_items(url)) == ["a"]


def test_an_archive_without_a_place_needs_no_package_and_says_nothing(nights, monkeypatch, capsys):
    for package in ("pystac", "shapely", "stac_geoparquet", "stac_geoparquet.arrow"):
        monkeypatch.setitem(sys.modules, package, None)
    nights.end("a", rows=[fused("a", crs="", transform="")])
    assert not capsys.readouterr().out and not list(objects.find_files(nights.output.stac))


@pytest.mark.parametrize("content", [b"PAR1", None])
def test_a_table_of_something_else_is_named(nights, content):
    url = table_url(nights.output.stac)
    objects.put_bytes(url, content or pd.DataFrame({"id": ["a"]}).to_parquet())
    with pytest.raises(urls.StorageError, match=f"{TABLE}' can't be read .*: remove it, and"):
        nights.end("a", rows=[fused("a")])
