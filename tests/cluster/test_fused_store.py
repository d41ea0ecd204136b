"""The store of fused images, on folders and on a real S3 server: written, opened, removed."""

import os

import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr

from cluster.storage import fused_store, objects
from cluster.storage.urls import StorageError


@pytest.mark.parametrize("shape", [(8, 8), (300, 513), (300, 513, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_fused_pixels_come_back_through_zarr_and_xarray(tmp_path, shape, dtype):
    store = str(tmp_path / "fused.zarr")
    pixels = (np.random.default_rng(0).random(shape) * 200).astype(dtype)
    fused_store.create_store(store, {"fingerprint": {"a": 1}})
    fused_store.create_groups(store, ["night"])
    for _ in range(2):  # running twice leaves the same
        written = fused_store.write_fused(store, "night/7", pixels, {"pair_id": "night/7"})
    assert written > 0
    assert fused_store.read_store_attributes(store) == {"fingerprint": {"a": 1}}
    np.testing.assert_array_equal(fused_store.read_fused(store, "night/7"), pixels)
    group = zarr.open_group(store, mode="r")
    np.testing.assert_array_equal(group["night/7/fused"][:], pixels)
    assert list(group.group_keys()) == ["night"]
    dataset = xr.open_zarr(store, group="night/7", consolidated=False)
    assert dataset["fused"].dims == ("y", "x", "band")[: len(shape)]
    np.testing.assert_array_equal(dataset["fused"].values, pixels)
    assert group["night/7/fused"].chunks == shape and group["night/7/fused"].shards is None
    chunks = [name for _, _, names in os.walk(f"{store}/night/7/fused/c") for name in names]
    assert sorted(chunks) == [".zarray", "0"]  # one window, one object


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("shape", [(8, 8), (300, 513), (300, 513, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_rasterio_opens_a_fused_image_and_its_mask_with_their_bands(tmp_path, shape, dtype):
    store, place = str(tmp_path / "fused.zarr"), fused_store.escape_pair_id("set 1/é")
    pixels = (np.random.default_rng(0).random(shape) * 200).astype(dtype)
    pixels[0] = 0
    valid = pixels.reshape(*shape[:2], -1)[:, :, 0] > 20
    fused_store.create_store(store, {})
    fused_store.write_fused(store, place, pixels, {}, valid)
    with rasterio.open(f"{store}/{place}/fused/c") as image:
        assert image.count == (shape[2] if len(shape) == 3 else 1)
        assert image.dtypes[0] == dtype and image.nodata is None  # black is no missing data
        bands_last = np.moveaxis(image.read(), 0, -1)
    np.testing.assert_array_equal(bands_last.reshape(shape), pixels)
    with rasterio.open(f"{store}/{place}/valid/c") as mask:
        np.testing.assert_array_equal(mask.read(1), valid.astype(np.uint8))


@pytest.mark.parametrize("shape", [(300, 513), (300, 513, 3)])
@pytest.mark.parametrize("where", ["local", "s3"])
def test_a_mask_is_stored_beside_the_pixels_and_goes_with_the_result_that_had_it(where, shape, request):
    fixture = request.getfixturevalue("tmp_path" if where == "local" else "s3")
    store = f"{fixture}/fused.zarr"
    pixels = np.zeros(shape, np.uint8)
    valid = np.random.default_rng(0).random(shape[:2]) > 0.5
    fused_store.create_store(store, {})
    fused_store.write_fused(store, "a", pixels, {})
    plain = [file.path for file in objects.list_files(store)]
    assert fused_store.read_valid(store, "a") is None
    fused_store.write_fused(store, "a", pixels, {}, valid)
    np.testing.assert_array_equal(fused_store.read_valid(store, "a"), valid)
    np.testing.assert_array_equal(fused_store.read_fused(store, "a"), pixels)
    assert fused_store.list_fused(store) == ["a"]
    chunk = "c/0/0/0" if len(shape) == 3 else "c/0/0"
    assert {part for name, part in fused_store.find_objects(store) if name == "a"} == {
        "array", "group", chunk
    }  # fmt: skip
    if where == "local":
        dataset = xr.open_zarr(store, group="a", consolidated=False)
        assert dataset["fused"].attrs["ancillary_variables"] == "valid"
        assert dataset["valid"].dims == ("y", "x") and dataset["valid"].dtype == np.uint8
        assert dataset["valid"].attrs["flag_meanings"].split() == ["no_data", "valid"]
    fused_store.write_fused(store, "a", pixels, {})
    assert fused_store.read_valid(store, "a") is None
    assert [file.path for file in objects.list_files(store)] == plain
    fused_store.write_fused(store, "a", pixels, {}, valid)
    fused_store.delete_fused(store, "a")
    assert [file.path for file in objects.list_files(store)] == ["zarr.json"]


def test_a_pair_is_the_same_bytes_each_time(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)
    for name in ("one", "two"):
        fused_store.write_fused(str(tmp_path / name), "a", pixels, {"pair_id": "a"}, pixels[:, :, 0] > 9)
    one, two = (objects.list_files(str(tmp_path / name)) for name in ("one", "two"))
    assert len(one) == 7 and [file.path for file in one] == [file.path for file in two]
    assert [objects.read_bytes(f.url) for f in one] == [objects.read_bytes(f.url) for f in two]


@pytest.mark.parametrize("shape", [(300, 513), (300, 513, 3)])
def test_an_array_of_an_older_store_in_shards_is_read_replaced_and_deleted(tmp_path, shape):
    store = str(tmp_path / "fused.zarr")
    pixels = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    fused_store.create_store(store, {})
    bands = shape[2:]
    for name in ("a", "b"):
        array = zarr.create_array(
            f"{store}/{name}/fused", shape=shape, dtype="uint8", chunks=(256, 256, *bands),
            shards=(512, 768, *bands), overwrite=True,
        )  # fmt: skip
        array[:] = pixels
    np.testing.assert_array_equal(fused_store.read_fused(store, "a"), pixels)
    fused_store.write_fused(store, "a", 255 - pixels, {})
    np.testing.assert_array_equal(fused_store.read_fused(store, "a"), 255 - pixels)
    fused_store.delete_fused(store, "b")
    assert fused_store.list_fused(store) == ["a"]
    assert not objects.exists(f"{store}/b")


def test_a_group_that_an_older_version_named_valid_is_no_mask(tmp_path):
    store = str(tmp_path / "fused.zarr")
    pixels = np.full((20, 30), 9, np.uint8)
    fused_store.write_fused(store, "a/valid", pixels, {})
    fused_store.write_fused(store, "a", pixels, {})
    assert fused_store.read_valid(store, "a") is None
    fused_store.delete_fused(store, "a")
    np.testing.assert_array_equal(fused_store.read_fused(store, "a/valid"), pixels)


def test_a_damaged_mask_is_named_and_replaced_by_the_next_result(tmp_path):
    store, pixels = str(tmp_path), np.full((20, 30), 9, np.uint8)
    fused_store.write_fused(store, "a", pixels, {}, pixels > 0)
    objects.put_bytes(f"{store}/a/valid/zarr.json", b"{")
    with pytest.raises(StorageError, match="a/valid' has a zarr.json of no"):
        fused_store.read_valid(store, "a")
    fused_store.write_fused(store, "a", pixels, {})
    assert fused_store.read_valid(store, "a") is None


def test_fused_pixels_come_back_from_s3(s3):
    store = f"{s3}/fused.zarr"
    pixels = np.arange(100 * 300, dtype=np.uint16).reshape(100, 300)
    fused_store.create_store(store, {})
    fused_store.write_fused(store, "a", pixels, {})
    np.testing.assert_array_equal(fused_store.read_fused(store, "a"), pixels)
    options = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]}
    dataset = xr.open_zarr(store, group="a", consolidated=False, storage_options=options)
    np.testing.assert_array_equal(dataset["fused"].values, pixels)


def test_a_pair_that_turns_from_grey_to_colour_and_back_is_overwritten(tmp_path):
    store = str(tmp_path / "fused.zarr")
    for shape in ((20, 30), (20, 30, 3), (20, 30)):
        pixels = np.full(shape, 9, np.uint8)
        fused_store.write_fused(store, "a", pixels, {})
        np.testing.assert_array_equal(fused_store.read_fused(store, "a"), pixels)
    black = np.zeros((20, 30), np.uint8)
    fused_store.write_fused(store, "a", black, {})
    np.testing.assert_array_equal(fused_store.read_fused(store, "a"), black)


@pytest.mark.parametrize("where", ["local", "s3"])
def test_deleting_a_pair_leaves_the_pairs_below_and_beside_it(where, tmp_path, request):
    place = str(tmp_path) if where == "local" else request.getfixturevalue("s3")
    store = f"{place}/fused.zarr"
    pixels = np.full((20, 30), 9, np.uint8)
    for name in ("a", "a/b", "a/b.c"):
        fused_store.write_fused(store, name, pixels, {})
    fused_store.delete_fused(store, "a")
    assert sorted(fused_store.list_fused(store)) == ["a/b", "a/b.c"]
    with pytest.raises(FileNotFoundError, match=r"a/fused/zarr\.json"):
        fused_store.read_fused(store, "a")
    fused_store.delete_fused(store, "a/b")
    np.testing.assert_array_equal(fused_store.read_fused(store, "a/b.c"), pixels)
    fused_store.delete_fused(store, "a/b.c")
    assert list(objects.find_files(f"{store}/a/b")) == list(objects.find_files(f"{store}/a/b.c")) == []


def test_no_pair_id_leaves_the_store_and_no_two_share_a_group(tmp_path):
    names = [
        "valid", "%76alid", "a/valid", "a/%76alid", "valid/c", "valid/valid",
        "a", "a/b", "a//b", "/a", "a/", "..", "../../etc/passwd", ".", "a/./b", "a/../b", "%2e%2e",
        "%2E%2E", "fused", "%66used", "zarr.json", "c", "C", "A", ".hidden", "a b", "a\nb", "a\\b",
        "-rf", "é", "e\u0301", "<script>", "=1+1", "'\"", "__x", "_x", "x" * 255, "x" * 254 + "y",
        "%", "%%", "", "a\udcffb",
    ]  # fmt: skip
    escaped = [fused_store.escape_pair_id(name) for name in names]
    assert len(set(escaped)) == len(names)
    assert escaped[0] == "valid" and escaped[2] != "a/valid"  # `valid` is an array of the pair a
    store = tmp_path / "store"
    for path in escaped:
        assert path.isascii() and path.isprintable()
        inside = os.path.normpath(store / path)
        assert inside.startswith(f"{store}/")
        assert not {"", ".", ".."} & set(path.split("/"))
        assert all(len(segment) <= 200 for segment in path.split("/"))
