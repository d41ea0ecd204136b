"""Scenes in the store: written by windows, whole at their end, never mixed with what lay there before."""

import os

import numpy as np
import pytest
import rioxarray  # noqa: F401 - adds .rio to xarray
import xarray as xr
import zarr

from cluster.storage import fused_store, objects
from cluster.storage.scene_store import (
    create_scene,
    finish_scene,
    read_scene_window,
    write_overviews,
    write_scene_window,
)
from cluster.storage.urls import StorageError
from tests.cluster.scenes import UTM, files_of, layout_of, on_earth, picture, put_scene, put_windows


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
