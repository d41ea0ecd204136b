"""Scenes in the store: written by windows, opened by other software, never mixed with what lay there."""

import os

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - adds .rio to xarray
import xarray as xr
import zarr
import zarr_cm
from rasterio.crs import CRS

from cluster.archive.sources.open import open_source
from cluster.archive.sources.source import Window
from cluster.storage import fused_store, objects
from cluster.storage.scene_store import (
    SceneLayout,
    create_scene,
    finish_scene,
    read_scene_window,
    write_overviews,
    write_scene_window,
)
from cluster.storage.urls import StorageError

UTM = CRS.from_epsg(32610)
PLACE = (30.0, 0.0, 500_000.0, 0.0, -30.0, 4_100_000.0)


def layout_of(height=100, width=150, bands=1, dtype="uint8", window=64, **changed):
    return SceneLayout(
        height=height, width=width, bands=bands, dtype=dtype, window=window, **changed
    )


def on_earth(crs=UTM, wkt="WKT2_2019", **changed):
    code = crs.to_epsg()
    return layout_of(
        **{
            "crs_wkt": crs.to_wkt(version=wkt),
            "crs_code": f"EPSG:{code}" if code else "",
            "transform": PLACE,
        }
        | changed
    )


def picture(layout, seed=0):
    """Return random pixels, (H, W[, bands]), and flags, most of them set."""
    generator = np.random.default_rng(seed)
    shape = (layout.height, layout.width, layout.bands)[: 2 + (layout.bands > 1)]
    pixels = (generator.random(shape) * 250 + 1).astype(layout.dtype)
    return pixels, generator.random(shape[:2]) > 0.1


def put_windows(store, name, layout, pixels, valid):
    n = layout.window
    for row in range(layout.num_rows):
        for column in range(layout.num_columns):
            place = np.s_[row * n : row * n + n, column * n : column * n + n]
            write_scene_window(store, name, layout, row, column, pixels[place], valid[place])


def put_scene(store, name, layout, pixels=None, valid=None):
    """Store a whole scene as a run does."""
    if pixels is None:
        pixels, valid = picture(layout)
    create_scene(store, name, layout)
    put_windows(store, name, layout, pixels, valid)
    write_overviews(store, name, layout)
    finish_scene(store, name, layout, {"pair_id": name})
    return pixels, valid


def files_of(url):
    return sorted(file.path for file in objects.find_files(url))


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint8"), (3, "uint16"), (1, "float32")])
@pytest.mark.parametrize("size", [(100, 150), (64, 128), (65, 1)])
def test_a_scene_comes_back_whole_and_by_windows(tmp_path, size, dtype, bands):
    store, layout = str(tmp_path), layout_of(*size, bands=bands, dtype=dtype)
    pixels, valid = put_scene(store, "a", layout)
    np.testing.assert_array_equal(fused_store.read_fused(store, "a"), pixels)
    np.testing.assert_array_equal(fused_store.read_valid(store, "a"), valid)
    height, width = size
    for y, x, h, w in ((0, 0, height, width), (60, 0, 4, 1), (height - 1, width - 1, 1, 1)):
        found, flags = read_scene_window(store, "a", layout, y, x, h, w)
        np.testing.assert_array_equal(found, pixels[y : y + h, x : x + w])
        np.testing.assert_array_equal(flags, valid[y : y + h, x : x + w])
    array = zarr.open_array(f"{store}/a/fused", mode="r")
    assert array.shape == layout.shape and array.shards is None
    assert array.chunks == ((3, 64, 64) if bands == 3 else (64, 64))


def test_a_window_is_two_whole_objects_zeros_too_and_twice_the_same(tmp_path):
    store, layout = str(tmp_path), layout_of()
    create_scene(store, "a", layout)
    before = files_of(f"{store}/a")
    black = np.zeros((36, 22), np.uint8)
    for _ in range(2):
        num_bytes = write_scene_window(store, "a", layout, 1, 2, black, None)
    new = sorted(set(files_of(f"{store}/a")) - set(before))
    assert new == ["fused/c/1/2", "valid/c/1/2"]
    assert num_bytes == sum(len(objects.read_bytes(f"{store}/a/{path}")) for path in new)
    pixels, valid = read_scene_window(store, "a", layout, 64, 128, 36, 22)
    assert not pixels.any() and valid.all()


def test_a_rectangle_is_read_of_the_chunks_that_it_meets_and_of_no_other(tmp_path):
    store, layout = str(tmp_path), layout_of()
    create_scene(store, "a", layout)
    pixels, valid = picture(layout)
    write_scene_window(store, "a", layout, 0, 1, pixels[:64, 64:128], valid[:64, 64:128])
    found, _ = read_scene_window(store, "a", layout, 10, 70, 54, 58)
    np.testing.assert_array_equal(found, pixels[10:64, 70:128])
    with pytest.raises(FileNotFoundError, match="c/0/0"):
        read_scene_window(store, "a", layout, 10, 63, 54, 58)


@pytest.mark.filterwarnings("ignore:Object at fused is not recognized")
def test_an_unfinished_scene_is_none_and_a_finished_one_is_one(tmp_path):
    store, layout = str(tmp_path), layout_of()
    pixels, valid = picture(layout)
    fused_store.create_store(store, {})
    fused_store.create_groups(store, ["a"])  # as for a pair below it
    create_scene(store, "a", layout)
    for step in (put_windows, lambda *_: write_overviews(store, "a", layout)):
        step(store, "a", layout, pixels, valid)
        assert fused_store.list_fused(store) == []
        with pytest.raises(FileNotFoundError, match=r"fused/zarr\.json"):
            fused_store.read_fused(store, "a")
        assert "fused" not in xr.open_zarr(store, group="a", consolidated=False)
    finish_scene(store, "a", layout, {"pair_id": "a"})
    assert fused_store.list_fused(store) == ["a"]
    assert zarr.open_group(f"{store}/a", mode="r").attrs["pair_id"] == "a"
    create_scene(store, "a", layout)  # to be fused again
    assert fused_store.list_fused(store) == []
    assert dict(zarr.open_group(f"{store}/a", mode="r").attrs) == {}


def test_an_image_beyond_max_pixels_is_not_read_whole(tmp_path):
    store = str(tmp_path)
    put_scene(store, "a", layout_of(bands=3))
    with pytest.raises(StorageError, match="100 x 150 pixels, expected at most 14999"):
        fused_store.read_fused(store, "a", max_pixels=14999)
    assert fused_store.read_fused(store, "a", max_pixels=15000).shape == (100, 150, 3)


# Overviews


def reduced(pixels, valid):
    """Return the means over pixels with data of 2 x 2 blocks, one block at a time."""
    height, width = (-(-side // 2) for side in valid.shape)
    means = np.zeros((height, width, *pixels.shape[2:]), pixels.dtype)
    flags = np.zeros((height, width), bool)
    for y, x in np.ndindex(height, width):
        block = np.s_[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        values = pixels[block][valid[block]].astype(float)
        flags[y, x] = len(values) > 0
        mean = values.mean(axis=0) if len(values) else pixels[2 * y, 2 * x]
        means[y, x] = mean if pixels.dtype.kind == "f" else np.rint(mean)
    return means, flags


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint8"), (3, "uint16"), (1, "float32")])
def test_overviews_are_means_of_pixels_with_data_down_to_512(tmp_path, bands, dtype):
    store, layout = str(tmp_path), layout_of(131, 1101, bands, dtype)
    assert [(n, level.height, level.width) for n, level in layout.overviews().items()] == [
        (2, 66, 551),
        (4, 33, 276),
    ]
    pixels, valid = picture(layout)
    valid[:20, :64] = False
    put_scene(store, "a", layout, pixels, valid)
    for reduction in (2, 4):
        pixels, valid = reduced(pixels, valid)
        group = zarr.open_group(f"{store}/a/overviews/{reduction}", mode="r")
        found = group["fused"][:]
        np.testing.assert_array_equal(found if bands == 1 else np.moveaxis(found, 0, 2), pixels)
        np.testing.assert_array_equal(group["valid"][:], valid)
        assert group["fused"].chunks[-2:] == (64, 64)
        assert not valid[0, 0] and valid[20 // reduction, 0]


def test_pixels_without_data_change_no_mean(tmp_path):
    store, layout = str(tmp_path), layout_of(4, 1024, dtype="float32", window=512)
    pixels = np.tile(np.float32([[10, 20], [30, np.nan]]), (2, 512))
    valid = ~np.isnan(pixels)
    valid[2:, 2:4] = False
    put_scene(store, "a", layout, pixels, valid)
    means = zarr.open_array(f"{store}/a/overviews/2/fused", mode="r")[:]
    flags = zarr.open_array(f"{store}/a/overviews/2/valid", mode="r")[:]
    assert not flags[1, 1] and flags.sum() == flags.size - 1
    assert means[1, 1] == 10  # the first of four without data
    assert set(means[flags == 1]) == {20}


def test_a_scene_up_to_512_has_no_overviews(tmp_path):
    put_scene(str(tmp_path), "a", layout_of(512, 300, window=256))
    assert not objects.exists(f"{tmp_path}/a/overviews")
    assert "multiscales" not in zarr.open_group(f"{tmp_path}/a", mode="r").attrs


# Other software


def corners(transform, height, width):
    a, b, c, d, e, f = transform
    return [(a * x + b * y + c, d * x + e * y + f) for y in (0, height) for x in (0, width)]


LAYOUTS = {
    "UTM": {},
    "UTM, old WKT, no code": {"wkt": "WKT1_GDAL", "crs_code": ""},
    "degrees": {"crs": CRS.from_epsg(4326), "transform": (1 / 3600, 0.0, 8.3, 0.0, -1 / 3600, 47.7)},
    "rows upwards": {"transform": (0.5, 0.0, 1e5, 0.0, 0.5, 2e6)},
}


@pytest.mark.parametrize(("name", "bands"), [("UTM", 3), *((name, 1) for name in LAYOUTS)])
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # rioxarray's own
def test_xarray_rioxarray_and_rasterio_find_a_scene_at_its_place(tmp_path, name, bands):
    store = str(tmp_path / "fused.zarr")
    layout = on_earth(height=300, width=700, window=256, bands=bands, **LAYOUTS[name])
    fused_store.create_store(store, {})
    pixels, valid = put_scene(store, "a b", layout)
    crs = CRS.from_wkt(layout.crs_wkt)
    sizes = {"a b": layout, "a b/overviews/2": layout.overviews()[2]}
    for place, size in sizes.items():
        expected = corners(size.transform, size.height, size.width)
        with rasterio.open(f"{store}/{place}/fused/c") as image:
            assert (image.height, image.width, image.count) == (size.height, size.width, bands)
            assert image.crs == crs and image.nodata is None
            np.testing.assert_allclose(
                corners(image.transform[:6], *image.shape), expected, rtol=1e-12
            )
            if size is layout:
                bands_last = np.moveaxis(image.read(), 0, -1).reshape(pixels.shape)
                np.testing.assert_array_equal(bands_last, pixels)
        with rasterio.open(f"{store}/{place}/valid/c") as mask:
            assert mask.crs == crs and mask.shape == (size.height, size.width)
        dataset = xr.open_zarr(store, group=place, consolidated=False, decode_coords="all")
        for image in (dataset["fused"], dataset["valid"]):
            assert image.rio.crs == crs
            found = corners(image.rio.transform()[:6], size.height, size.width)
            np.testing.assert_allclose(found, expected, rtol=1e-12)
            west, south, east, north = image.rio.bounds(recalc=True)  # from x and y
            centre = [(west + east) / 2, (south + north) / 2]
            np.testing.assert_allclose(centre, np.mean(expected, axis=0), rtol=1e-12)
    dataset = xr.open_zarr(store, group="a b", consolidated=False)
    assert dataset["fused"].dims == (("band",) if bands == 3 else ()) + ("y", "x")
    assert dataset["fused"].rio.crs == crs
    np.testing.assert_array_equal(dataset["valid"], valid)


def test_a_scene_on_a_turned_grid_keeps_crs_and_transform_but_has_no_coordinates(tmp_path):
    layout = on_earth(transform=(20.0, 10.0, 5e5, 10.0, -20.0, 4e6), height=600)
    put_scene(str(tmp_path), "a", layout)
    dataset = xr.open_zarr(str(tmp_path), group="a", consolidated=False, decode_coords="all")
    assert "x" not in dataset.coords and dataset["fused"].rio.crs == UTM
    assert dataset["fused"].rio.transform()[:6] == layout.transform
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        with rasterio.open(f"{tmp_path}/a/fused/c") as image:
            assert image.crs == UTM


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_scene_without_a_place_opens_with_its_pixels_alone(tmp_path):
    pixels, _ = put_scene(str(tmp_path), "a", layout_of(600, 100))
    with rasterio.open(f"{tmp_path}/a/fused/c") as image:
        assert image.crs is None
        np.testing.assert_array_equal(image.read(1), pixels)
    dataset = xr.open_zarr(str(tmp_path), group="a", consolidated=False)
    assert set(dataset.variables) == {"fused", "valid"}
    half = xr.open_zarr(str(tmp_path), group="a/overviews/2", consolidated=False)
    assert set(half.variables) == {"fused", "valid"} and half["fused"].shape == (300, 50)


@pytest.mark.parametrize("bands", [1, 3])
def test_its_geozarr_metadata_is_valid_and_names_what_is_there(tmp_path, bands):
    layout = on_earth(height=1200, width=700, window=256, bands=bands)
    put_scene(str(tmp_path), "a", layout)
    root = zarr.open_group(f"{tmp_path}/a", mode="r")
    for place, node in [("", root), *root.members(max_depth=None)]:
        document = node.metadata.to_dict() | {"attributes": dict(node.attrs)}
        kind = "group" if isinstance(node, zarr.Group) else "array"
        conventions = [entry["name"] for entry in node.attrs.get("zarr_conventions", [])]
        is_image = place.endswith(("fused", "valid"))
        is_size = kind == "group" and place != "overviews"
        assert ({"proj", "spatial"} <= set(conventions)) == (is_image or is_size), place
        assert ("multiscales" in conventions) == (place == "")
        for convention in conventions:
            check = getattr(getattr(zarr_cm, convention), f"validate_{kind}_metadata")
            check({"zarr_format": 3, "node_type": kind, **document})
        if is_image:
            assert node.attrs["proj:code"] == "EPSG:32610"
            assert CRS.from_wkt(node.attrs["proj:wkt2"]) == UTM
            assert node.attrs["spatial:shape"] == list(node.shape[-2:])
    for entry in root.attrs["multiscales"]["layout"]:
        array = root[entry["asset"]]
        assert list(array.shape[-2:]) == entry["spatial:shape"]
        assert array.attrs["spatial:transform"] == entry["spatial:transform"]
        assert len(entry.get("transform", {}).get("scale", array.shape)) == array.ndim
    assert root.attrs["spatial:bbox"] == [500_000.0, 4_064_000.0, 521_000.0, 4_100_000.0]


@pytest.mark.parametrize("bands", [1, 3])
def test_a_scene_can_be_a_source_again(tmp_path, bands):
    layout = on_earth(bands=bands)
    pixels, valid = put_scene(str(tmp_path), "a", layout)
    with open_source(f"{tmp_path}/a", max_pixels=64 * 64) as source:
        assert (source.height, source.width, source.transform) == (100, 150, PLACE)
        assert CRS.from_wkt(source.crs) == UTM
        found = source.read(Window(50, 60, 30, 40))
    np.testing.assert_array_equal(found.pixels, pixels[50:80, 60:100])
    np.testing.assert_array_equal(found.valid, valid[50:80, 60:100])


# What lay there before


EARLIER = {
    "frame": None,
    "colour frame": None,
    "other window": {"window": 32},
    "colour": {"bands": 3},
    "larger": {"height": 140, "width": 530},
    "smaller": {"height": 70, "width": 80},
    "other type": {"dtype": "uint16"},
    "on earth": {"on_earth": True, "height": 520},
    "the same": {},
}


def put_earlier(store, name, kind, value):
    """Store a result of one value, of another layout than the one that follows."""
    if EARLIER[kind] is None:
        shape = (100, 150, 3)[: 3 if kind.startswith("colour") else 2]
        pixels = np.full(shape, value, np.uint8)
        fused_store.write_fused(store, name, pixels, {}, np.ones(shape[:2], bool))
        return
    changed = dict(EARLIER[kind])
    make = on_earth if changed.pop("on_earth", False) else layout_of
    layout = make(**changed)
    shape = (layout.height, layout.width, layout.bands)[: 2 + (layout.bands > 1)]
    pixels = np.full(shape, value, layout.dtype)
    put_scene(store, name, layout, pixels, np.ones(shape[:2], bool))


@pytest.mark.parametrize("kind", EARLIER)
def test_no_pixel_of_an_earlier_result_is_left_in_a_scene(tmp_path, kind):
    store, layout = str(tmp_path / "s"), layout_of()
    put_scene(str(tmp_path / "new"), "a", layout)
    put_earlier(store, "a", kind, 99)
    put_earlier(store, "a/2", kind, 99)
    below = files_of(f"{store}/a/2")
    create_scene(store, "a", layout)
    assert fused_store.list_fused(store) == ["a/2"]
    if kind != "the same":
        with pytest.raises(FileNotFoundError, match="c/0/0"):
            read_scene_window(store, "a", layout, 0, 0, 1, 1)
    pixels, valid = picture(layout)
    put_windows(store, "a", layout, pixels, valid)
    finish_scene(store, "a", layout, {})
    np.testing.assert_array_equal(fused_store.read_fused(store, "a"), pixels)
    np.testing.assert_array_equal(fused_store.read_valid(store, "a"), valid)
    own = [path for path in files_of(f"{store}/a") if not path.startswith("2/")]
    assert own == files_of(f"{tmp_path}/new/a")
    assert files_of(f"{store}/a/2") == below


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("frame", (40, 50, 3)), ("colour", (40, 50, 3)), *((kind, (40, 50)) for kind in EARLIER)],
)
def test_no_object_of_an_earlier_result_is_left_in_a_frame(tmp_path, shape, kind):
    store, pixels = str(tmp_path / "s"), np.full(shape, 7, np.uint8)
    fused_store.write_fused(str(tmp_path / "new"), "a", pixels, {})
    put_earlier(store, "a", kind, 99)
    fused_store.write_fused(store, "a", pixels, {})
    assert files_of(f"{store}/a") == files_of(f"{tmp_path}/new/a")
    np.testing.assert_array_equal(fused_store.read_fused(store, "a"), pixels)
    assert fused_store.read_valid(store, "a") is None


def test_the_windows_of_another_attempt_at_the_same_scene_stay(tmp_path):
    store, layout = str(tmp_path), on_earth(height=600)
    pixels, valid = picture(layout)
    create_scene(store, "a", layout)
    put_windows(store, "a", layout, pixels, valid)
    create_scene(store, "a", layout)
    found, _ = read_scene_window(store, "a", layout, 0, 0, 600, 150)
    np.testing.assert_array_equal(found, pixels)


def test_a_scene_that_was_torn_while_it_was_replaced_leaves_nothing_behind(tmp_path):
    store, layout = str(tmp_path / "s"), layout_of()
    put_earlier(store, "a", "other window", 99)
    for path in ("zarr.json", "fused/zarr.json", "fused/c/0/1", "fused/c/.zarray"):
        objects.delete(f"{store}/a/{path}")
    create_scene(store, "a", layout)
    left = [path for path in files_of(f"{store}/a") if "/c/" in path]
    assert left == [f"{name}/c/{end}" for name in ("fused", "valid") for end in (".zarray", ".zattrs")]


def test_a_scene_is_deleted_without_the_pairs_below_it(tmp_path):
    store = str(tmp_path / "fused.zarr")
    frame = np.full((20, 30), 9, np.uint8)
    below = ["a/2", *map(fused_store.escape_pair_id, ("a/x", "a/overviews", "a/overviews/2"))]
    fused_store.create_store(store, {})
    for name in below:
        fused_store.write_fused(store, name, frame, {})
    put_scene(store, "a", on_earth(height=600, window=512))
    assert sorted(fused_store.list_fused(store)) == sorted(["a", *below])
    chunks = [part for name, part in fused_store.find_objects(store) if name == "a" and part[0] == "c"]
    assert sorted(chunks) == ["c/0/0", "c/1/0"]
    fused_store.delete_fused(store, "a")
    assert sorted(fused_store.list_fused(store)) == sorted(below)
    assert dict(zarr.open_group(f"{store}/a", mode="r").attrs) == {}
    for name in below:
        np.testing.assert_array_equal(fused_store.read_fused(store, name), frame)
        fused_store.delete_fused(store, name)
    put_scene(store, "b", on_earth(height=600, window=512))
    fused_store.delete_fused(store, "b")
    assert not os.path.exists(f"{store}/b")


def test_a_scene_comes_back_from_s3_and_a_frame_takes_its_place(s3):
    store, layout = f"{s3}/fused.zarr", on_earth(height=600, window=512, bands=3)
    fused_store.create_store(store, {})
    pixels, valid = put_scene(store, "a", layout)
    np.testing.assert_array_equal(fused_store.read_fused(store, "a"), pixels)
    np.testing.assert_array_equal(fused_store.read_valid(store, "a"), valid)
    options = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]}
    dataset = xr.open_zarr(store, group="a", consolidated=False, storage_options=options)
    np.testing.assert_array_equal(np.moveaxis(dataset["fused"].values, 0, 2), pixels)
    assert dataset["fused"].rio.crs == UTM
    fused_store.write_fused(store, "a", pixels[..., 0], {})
    assert files_of(f"{store}/a") == ["fused/c/.zarray", "fused/c/0/0", "fused/zarr.json", "zarr.json"]
    create_scene(store, "a", layout)
    put_windows(store, "a", layout, pixels, valid)
    fused_store.delete_fused(store, "a")
    assert files_of(f"{store}/a") == []


def test_names_of_arrays_are_no_names_of_pairs_below_a_pair():
    names = ("x", "a/x", "a/%78", "a/y", "a/spatial_ref", "a/overviews", "overviews/2", "a/2", "a/x/y")
    escaped = [fused_store.escape_pair_id(name) for name in names]
    assert len(set(escaped)) == len(names)
    assert escaped[0] == "x" and escaped[-2] == "a/2" and escaped[-3] == "overviews/2"
    taken = {"a/x", "a/y", "a/spatial_ref", "a/overviews", "a/x/y"}
    assert not taken & set(escaped)
