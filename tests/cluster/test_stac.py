"""STAC: items as the pairs of an index, and fused pairs as items."""

import copy
import json
import math
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import pystac
import pytest
import rasterio
import shapely
from rasterio.crs import CRS
from rasterio.warp import transform as to_crs
from stac_geoparquet.arrow import parse_stac_items_to_arrow, stac_table_to_items, to_parquet

from cluster.archive import stac
from cluster.archive.config import IndexConfig
from cluster.archive.pair_index import build_index, load_index, unmatched_table_url
from cluster.archive.stac_item import footprint, stac_item
from cluster.storage import objects, tables
from cluster.storage.stac_table import TABLE, item_url, write_items

FUSED_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
UTM = CRS.from_epsg(32632).to_wkt()
SQUARE = (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)


def item(name, *, collection="summer", when="2020-05-01T10:00:00Z", properties=None, **hrefs):
    """Return an item with assets of these keys and hrefs."""
    fields = {
        "type": "Feature", "stac_version": "1.1.0", "stac_extensions": [], "id": name, "links": [],
        "geometry": {"type": "Point", "coordinates": [9, 45]}, "bbox": [9, 45, 9, 45],
        "properties": {"datetime": when, **(properties or {})},
        "assets": {key: {"href": href} for key, href in hrefs.items()},
    }  # fmt: skip
    return fields | ({"collection": collection} if collection else {})


def save(folder, items, **fields):
    """Write an ItemCollection, and return its path."""
    path = folder / "items.json"
    document = {"type": "FeatureCollection", "features": items, **fields}
    path.write_text(json.dumps(document))
    return str(path)


def index(document, ir_asset="nir", vis_asset="visual", suffix="parquet"):
    """Return the index of a document, the table of unmatched names, and the report."""
    output = f"{document}.index.{suffix}"
    report = build_index(
        IndexConfig(stac_url=document, ir_asset=ir_asset, vis_asset=vis_asset, output_url=output)
    )
    pairs, _ = load_index(output)
    return pairs, tables.read_table(unmatched_table_url(output)), report


def fused_item(pair_id="a/b", **changed):
    given = {
        "zarr_path": pair_id, "store_url": "/out/fused.zarr", "crs_wkt": UTM, "crs_code": "EPSG:32632",
        "transform": SQUARE, "height": 100, "width": 100, "num_bands": 3, "dtype": "uint8",
        "valid_share": 0.75, "ir_url": "s3://b/ir.tif", "vis_url": "s3://b/vis.tif",
        "moment": "2020-05-01T10:00:00Z", "fused_at": FUSED_AT, "metrics": {"SF": 1.5, "VIF": math.nan},
        "fingerprint": "f00d",
    }  # fmt: skip
    return stac_item(pair_id, **(given | changed))


def test_an_item_collection_and_its_geoparquet_give_the_same_index(tmp_path):
    items = [
        item("b", nir="b/nir.tif", visual="s3://bucket/b.tif", properties={"eo:cloud_cover": 12.5}),
        item("a", nir="a/nir.tif", visual="/data/a.tif", properties={"platform": "sentinel-2b"}),
        item("c", nir="c.tif", when="2020-05-01T12:00:00.250+02:00"),
    ]
    items[0]["assets"]["visual"] |= {"file:size": 77, "roles": ["data"]}
    document = save(tmp_path, items)
    to_parquet(parse_stac_items_to_arrow(copy.deepcopy(items)), tmp_path / "items.geo")
    found, left_out, report = index(document)
    of_table, also_left_out, _ = index(str(tmp_path / "items.geo"))
    pd.testing.assert_frame_equal(found, of_table)
    pd.testing.assert_frame_equal(left_out, also_left_out)
    assert list(found["pair_id"]) == ["a", "b"]
    assert list(found["ir_url"]) == [f"{tmp_path}/a/nir.tif", f"{tmp_path}/b/nir.tif"]
    assert list(found["vis_url"]) == ["/data/a.tif", "s3://bucket/b.tif"]
    assert list(found["vis_size"]) == [-1, 77] and set(found["ir_etag"]) == {""}
    assert list(found["datetime"]) == ["2020-05-01T10:00:00Z"] * 2
    assert found["platform"][0] == "sentinel-2b" and pd.isna(found["platform"][1])
    assert found["eo:cloud_cover"][1] == 12.5 and set(found["collection"]) == {"summer"}
    assert list(left_out["reason"]) == ["missing_partner"]
    assert left_out["detail"][0] == "no asset 'visual'; the item has 'nir'"
    assert report.num_pairs == 2 and report.pairs[0] == ("a", "a/nir.tif", "/data/a.tif")


def test_a_time_is_written_in_one_spelling(tmp_path):
    times = ("2020-05-01T12:00:00.250+02:00", "2020-05-01T10:00:00", "yesterday", None)
    document = save(
        tmp_path, [item(str(n), when=when, nir="n", visual="v") for n, when in enumerate(times)]
    )
    found, _, _ = index(document)
    assert list(found["datetime"][:3]) == [
        "2020-05-01T10:00:00.250000Z", "2020-05-01T10:00:00Z", "yesterday"
    ]  # fmt: skip
    assert pd.isna(found["datetime"][3])


@pytest.mark.parametrize(
    ("document", "href", "url"),
    [
        ("/d/stac/items.json", "./a/../n.tif", "/d/stac/n.tif"),
        ("/d/stac/items.json", "../n.tif", "/d/n.tif"),
        ("/d/items.json", "file:///x/n.tif", "/x/n.tif"),
        ("s3://b/stac/items.json", "../n.tif", "s3://b/n.tif"),
        ("s3://b/items.json", "/x/n.tif", "/x/n.tif"),
        ("https://h/s/items.json?sig=1", "n.tif", "https://h/s/n.tif"),
        ("https://h/s/items.json", "/n.tif", "https://h/n.tif"),
        ("/d/items.json", "https://h/n.tif?sig=1", "https://h/n.tif?sig=1"),
    ],
)
def test_a_relative_href_is_below_the_document(document, href, url):
    assert stac._Hrefs(document).url_of({"href": href}) == (url, "")


def test_every_item_that_is_no_pair_has_a_reason(tmp_path):
    document = save(
        tmp_path,
        [
            item("good", nir="n", visual="v"), item("twice", nir="n", visual="v"),
            item("twice", nir="m", visual="w"), item("half", visual="v", qa="q"), item("none"),
            item("far", nir="nosuch://x/n?sig=hunter2", visual="v"), item("empty", nir="", visual="v"),
            item(7, nir="n", visual="v"), item("bad\ud800", nir="n", visual="v"), "no item",
            {"id": "odd", "assets": ["nir", "visual"]},
        ],
    )  # fmt: skip
    found, left_out, report = index(document)
    assert list(found["pair_id"]) == ["good"]
    reasons = dict(zip(left_out["pair_id"], left_out["reason"], strict=True))
    assert reasons == {
        "twice": "ambiguous", "half": "missing_partner", "none": "missing_partner",
        "far": "missing_partner", "empty": "missing_partner", "odd": "missing_partner",
        "item 8": "bad_name", "item 9": "bad_name", "item 10": "bad_name",
    }  # fmt: skip
    details = dict(zip(left_out["pair_id"], left_out["detail"], strict=True))
    assert details["half"] == "no asset 'nir'; the item has 'visual', 'qa'"
    assert details["none"] == "no asset 'nir', 'visual'; the item has no assets"
    assert details["twice"].startswith("2 items have this id")
    assert "URLs of nosuch:// can't be used" in details["far"] and "hunter2" not in details["far"]
    assert details["empty"] == "ir: the asset 'nir' has no href"
    assert report.num_unmatched == {"missing_partner": 5, "bad_name": 3, "ambiguous": 1}


def test_one_asset_may_be_both_sides(tmp_path):
    document = save(tmp_path, [item("a", image="a.tif")])
    found, _, _ = index(document, "image", "image", suffix="csv")
    assert found["ir_url"][0] == found["vis_url"][0] == f"{tmp_path}/a.tif"


def test_ids_are_below_their_collections_where_there_are_several(tmp_path):
    one = [item(name, nir="n", visual="v") for name in "ab"]
    assert list(index(save(tmp_path, one))[0]["pair_id"]) == ["a", "b"]
    more = [*one, item("a", collection="winter", nir="n", visual="v"),
            item("c", collection=None, nir="n", visual="v")]  # fmt: skip
    expected = ["c", "summer/a", "summer/b", "winter/a"]
    assert list(index(save(tmp_path, more))[0]["pair_id"]) == expected


def test_a_single_item_is_a_document(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(item("a", nir="n", visual="v")))
    assert list(index(str(tmp_path / "a.json"))[0]["pair_id"]) == ["a"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "no input was given, expected both --ir URL and --vis URL, or --stac FILE"),
        ({"stac_url": "i.json", "ir_asset": "nir"}, "--stac --ir-asset was given, expected both"),
        ({"ir_url": "a"}, "--ir was given, expected both"),
        ({"stac_url": "i", "ir_asset": "a", "vis_asset": "b", "ignore_case": True}, "names of files"),
    ],
)
def test_an_input_is_two_prefixes_or_a_document_with_two_assets(given, message):
    with pytest.raises(ValueError, match=message):
        IndexConfig(output_url="o.csv", **given)


def test_a_dry_run_writes_nothing(tmp_path):
    document = save(tmp_path, [item("a", nir="n", visual="v")])
    config = IndexConfig(
        stac_url=document, ir_asset="nir", vis_asset="visual", dry_run=True,
        output_url=str(tmp_path / "pairs.csv"),
    )  # fmt: skip
    assert build_index(config).pairs == [("a", "n", "v")]
    assert [path.name for path in tmp_path.iterdir()] == ["items.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is neither JSON nor Parquet"),
        (b"[" * 100_000, "is neither JSON nor Parquet"),
        (b"[1]", "JSON of the type 'list', expected an ItemCollection"),
        (b'{"type": "Catalog"}', "JSON of the type 'Catalog', expected an ItemCollection"),
        (b'{"type": "FeatureCollection", "features": []}', "has no item, expected one a pair"),
        (b"PAR1 is not all", "can't be read as stac-geoparquet"),
    ],
)
def test_a_document_that_is_none_is_named(tmp_path, content, message):
    path = tmp_path / "items"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"items' .*{message}"):
        index(str(path))


def test_a_parquet_file_of_something_else_is_named(tmp_path):
    pd.DataFrame({"id": ["a"], "assets": ["x"]}).to_parquet(tmp_path / "pairs.parquet")
    with pytest.raises(ValueError, match="as stac-geoparquet .it lacks the column 'id', or the column"):
        index(str(tmp_path / "pairs.parquet"))


def test_a_missing_document_is_named(tmp_path):
    with pytest.raises(ValueError, match="no.json' is not there, expected an ItemCollection"):
        index(str(tmp_path / "no.json"))


def test_a_page_of_a_search_is_not_taken_for_all_of_it(tmp_path):
    document = save(tmp_path, [item("a", nir="n", visual="v")], links=[{"rel": "next", "href": "x"}])
    with pytest.raises(ValueError, match="one page of a search: its 1 items end with a link"):
        index(document)


def test_assets_that_no_item_has_are_answered_with_those_there_are(tmp_path):
    document = save(tmp_path, [item("a", B08="n", visual="v"), item("b", B08="n")])
    with pytest.raises(ValueError, match=r"there are 'B08' \(2 items\), 'visual' \(1 items\): name two"):
        index(document)


def test_a_huge_document_is_refused_before_it_is_read(tmp_path):
    with open(tmp_path / "items.json", "wb") as file:
        file.truncate(stac.MAX_DOCUMENT_BYTES + 1)  # a hole: no byte of it is stored
    with pytest.raises(ValueError, match="has 1,073,741,825 bytes, expected at most 1,073,741,824"):
        index(str(tmp_path / "items.json"))


def test_the_footprint_of_a_utm_square_is_its_corners_and_its_sides_between_them():
    geometry, bbox = footprint(UTM, SQUARE, 100, 100)
    place = shapely.geometry.shape(geometry)
    x, y = [500_000, 500_000, 501_000, 501_000], [5_000_000, 4_999_000, 4_999_000, 5_000_000]
    corners = np.array(to_crs(UTM, "EPSG:4326", x, y)).T
    ring = np.array(place.exterior.coords)
    for corner in corners:
        assert np.abs(ring - corner).max(axis=1).min() < 1e-12  # the same transformation of a point
    assert corners[0][0] == pytest.approx(9, abs=1e-9)  # the zone's central meridian
    assert shapely.is_ccw(place.exterior) and len(ring) == 4 * 8 + 1
    assert bbox == list(place.bounds)
    east, north = (np.array(numbers) for numbers in to_crs("EPSG:4326", UTM, *ring.T))
    on_a_side = [np.abs(east - 500_000), np.abs(east - 501_000), np.abs(north - 5e6),
                 np.abs(north - 4_999_000)]  # fmt: skip
    assert np.min(on_a_side, axis=0).max() < 1e-5  # metres, of the way there and back


@pytest.mark.parametrize(
    ("crs", "transform", "west", "east"),
    [
        (32660, (10.0, 0, 800_000, 0, -10, 2e6), 179.8, -179.9),
        (4326, (0.001, 0, 179.5, 0, -0.001, 10), 179.5, -179.5),
        (4326, (0.001, 0, 200, 0, 0.001, 10), -160, -159),
    ],
)
def test_longitudes_end_at_the_antimeridian(crs, transform, west, east):
    geometry, bbox = footprint(CRS.from_epsg(crs).to_wkt(), transform, 1000, 5000 if crs > 5000 else 1000)
    place = shapely.geometry.shape(geometry)
    assert place.is_valid and -180 <= place.bounds[0] and place.bounds[2] <= 180
    assert bbox[0] == pytest.approx(west, abs=0.5) and bbox[2] == pytest.approx(east, abs=0.5)
    assert (geometry["type"] == "MultiPolygon") == (west > east) == (bbox[0] > bbox[2])


@pytest.mark.parametrize(
    ("wkt", "transform"),
    [
        ('LOCAL_CS["plan",UNIT["metre",1]]', SQUARE),
        ("nonsense", SQUARE),
        (UTM, (math.inf, 0, 0, 0, 1, 0)),
        (UTM, (0, 0, 5e5, 0, 0, 5e6)),
    ],
)
def test_an_image_without_a_place_on_the_earth_is_named(wkt, transform):
    with pytest.raises(ValueError, match="an image of 100 x 100 px .* has no place on the earth"):
        footprint(wkt, transform, 100, 100)


def test_an_item_says_where_the_image_is_and_what_it_was_made_of():
    made = fused_item()
    # A schema of an extension is on the network; that of the core comes with pystac.
    pystac.Item.from_dict(copy.deepcopy(made) | {"stac_extensions": []}).validate()
    read = pystac.Item.from_dict(copy.deepcopy(made))
    assert read.ext.proj.code == "EPSG:32632" and read.ext.proj.shape == [100, 100]
    assert read.ext.proj.transform == list(SQUARE) and read.datetime.isoformat()[:10] == "2020-05-01"
    assert made["properties"]["created"] == "2026-03-01T12:00:00Z"
    assert made["properties"]["dmnet:datetime_is"] == "acquired"
    assert made["properties"]["dmnet:SF"] == 1.5 and made["properties"]["dmnet:VIF"] is None
    assert made["properties"]["dmnet:valid_share"] == 0.75
    assert made["assets"]["fused"] == {
        "href": "/out/fused.zarr/a/b", "type": "application/vnd+zarr", "roles": ["data"],
        "title": "Infrared and visible image, fused", "data_type": "uint8",
        "bands": [{"name": "red"}, {"name": "green"}, {"name": "blue"}],
    }  # fmt: skip
    sources = [link["href"] for link in made["links"] if link["rel"] == "derived_from"]
    assert sources == ["s3://b/ir.tif", "s3://b/vis.tif"]


def test_a_crs_without_a_code_is_given_as_wkt2():
    properties = fused_item(crs_code=None)["properties"]
    assert properties["proj:code"] is None and properties["proj:wkt2"].startswith("PROJCRS[")


@pytest.mark.parametrize("moment", [None, "", "yesterday", pd.NaT])
def test_an_item_without_a_time_has_that_of_its_fusing_and_says_so(moment):
    properties = fused_item(moment=moment)["properties"]
    assert properties["datetime"] == properties["created"] == "2026-03-01T12:00:00Z"
    assert properties["dmnet:datetime_is"] == "fused"


def test_no_secret_of_a_url_is_in_an_item():
    made = fused_item(
        ir_url="https://user:hunter2@h/ir.tif?sig=hunter2", vis_url="s3://key:hunter2@b/vis.tif",
        store_url="s3://key:hunter2@b/fused.zarr",
    )  # fmt: skip
    assert "hunter2" not in json.dumps(made)
    assert made["assets"]["fused"]["href"] == "s3://b/fused.zarr/a/b"


def test_items_are_stored_one_by_one_and_in_a_table_that_is_equal(tmp_path, monkeypatch):
    monkeypatch.setattr("cluster.storage.stac_table.CHUNK_ITEMS", 2)  # so that chunks are joined
    items = [fused_item(f"n/{number}", metrics={"SF": float(number)}) for number in range(5)]
    items[4]["properties"]["dmnet:SF"] = None
    items[4]["geometry"], items[4]["bbox"] = footprint(
        CRS.from_epsg(32660).to_wkt(), (10.0, 0, 800_000, 0, -10, 2e6), 1000, 5000
    )
    url = f"{tmp_path}/stac"
    assert write_items(url, iter(copy.deepcopy(items))) == 5
    for made in items:
        stored = json.loads(Path(item_url(url, made["id"])).read_text())
        assert stored == json.loads(json.dumps(made))
    table = pyarrow.parquet.read_table(f"{url}/{TABLE}")
    found = {read["id"]: read for read in stac_table_to_items(table)}
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


def test_a_run_without_items_leaves_no_table_of_an_earlier_one(tmp_path):
    assert write_items(f"{tmp_path}/stac", [fused_item()]) == 1
    assert write_items(f"{tmp_path}/stac", []) == 0
    assert not (tmp_path / "stac" / TABLE).exists()


def test_no_pair_id_makes_a_folder_of_another_item_or_of_the_table(tmp_path):
    names = ["a", "a.json/b", "items.parquet/c"]
    assert write_items(f"{tmp_path}/stac", [fused_item(name) for name in names]) == 3
    assert (tmp_path / "stac" / "a%2Ejson" / "b.json").is_file()


def test_our_own_items_are_indexed_as_any_others(tmp_path):
    url = f"{tmp_path}/stac"
    write_items(url, [fused_item(name, store_url=f"{tmp_path}/fused.zarr") for name in ("a", "n/b")])
    found, left_out, _ = index(f"{url}/{TABLE}", "fused", "fused")
    assert list(found["pair_id"]) == ["a", "n/b"] and left_out.empty
    assert list(found["ir_url"]) == [f"{tmp_path}/fused.zarr/a", f"{tmp_path}/fused.zarr/n/b"]
    assert set(found["datetime"]) == {"2020-05-01T10:00:00Z"}
    one, _, _ = index(item_url(url, "n/b"), "fused", "fused")
    pd.testing.assert_frame_equal(one, found[1:].reset_index(drop=True), check_dtype=False)


def test_items_on_an_object_store_are_written_and_indexed_alike(s3):
    write_items(f"{s3}/out/stac", [fused_item(store_url=f"{s3}/out/fused.zarr")])
    objects.put_bytes(
        f"{s3}/in/items.json", json.dumps(item("a", nir="../n.tif", visual="v.tif")).encode()
    )
    found, _, _ = index(f"{s3}/in/items.json")
    assert (found["ir_url"][0], found["vis_url"][0]) == (f"{s3}/n.tif", f"{s3}/in/v.tif")
    for url in (f"{s3}/out/stac/{TABLE}", item_url(f"{s3}/out/stac", "a/b")):
        found, _, _ = index(url, "fused", "fused")
        assert (found["pair_id"][0], found["ir_url"][0]) == ("a/b", f"{s3}/out/fused.zarr/a/b")


@pytest.mark.parametrize("package", ["pystac", "shapely"])
def test_a_missing_package_is_named_with_what_installs_it(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=r"items can't be made .*pip install 'dmnet-archive\[stac\]'"):
        fused_item()


def test_a_missing_package_for_the_table_is_named(tmp_path, monkeypatch):
    made = fused_item()
    monkeypatch.setitem(sys.modules, "stac_geoparquet.arrow", None)
    with pytest.raises(ValueError, match=r"can't be written .*pip install 'dmnet-archive\[stac\]'"):
        write_items(str(tmp_path), [made])


def test_real_scenes_are_indexed_by_their_items_and_lie_where_their_files_say(shared_data, tmp_path):
    folder = shared_data / "naip_rgbn"
    items = []
    for path in sorted((folder / "vis").glob("*.tif")):
        with rasterio.open(path) as file:
            made = fused_item(
                path.stem, crs_wkt=file.crs.to_wkt(), transform=tuple(file.transform)[:6],
                height=file.height, width=file.width, crs_code=file.crs.to_string(),
            )  # fmt: skip
            bounds = rasterio.warp.transform_bounds(file.crs, "EPSG:4326", *file.bounds)
        np.testing.assert_allclose(made["bbox"], bounds, atol=1e-6)  # a tenth of a metre
        sides = {"nir": folder / "ir" / path.name, "visual": path}
        items.append(made | {"assets": {key: {"href": str(side)} for key, side in sides.items()}})
    found, left_out, _ = index(save(tmp_path, items))
    assert len(found) == 4 and left_out.empty
    assert all(Path(url).is_file() for url in [*found["ir_url"], *found["vis_url"]])
