"""Cloud Optimized GeoTIFFs: of frames and of scenes, against the store that they are made from."""

import resource
import tempfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
import zarr
from rio_cogeo.cogeo import cog_validate

from cluster.archive.cog import windows_of, write_cog
from cluster.archive.sources.zarr_array import open_zarr
from cluster.exporting.writing import export_pair
from cluster.storage import fused_store, objects

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
SCENE = (3, 1500, 2100)
CHUNK = 1024
TRANSFORM = rasterio.Affine(10, 0, 500_000, 0, -20, 4_000_000)
HOLE = np.s_[1100:1300, 900:1200]
"""Pixels without data: in the last row of windows, so that windows before them have none."""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The temporary folder, which each test must leave empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def ramp(shape, dtype="uint8"):
    """Return smooth pixels, of which no two chunks are equal."""
    y, x = np.ogrid[: shape[-2], : shape[-1]]
    values = (y * 0.3 + x * 0.7 + np.arange(np.prod(shape[:-2])).reshape(*shape[:-2], 1, 1) * 40) % 256
    scale = {"uint8": 1, "uint16": 256, "float32": 1 / 256}[dtype]
    return (values * scale).astype(dtype)


def write_scene(store, path, pixels, valid, place="cf"):
    """Write a scene as fuse_archive stores it: in chunks, with its mask, CRS and transform."""
    group = zarr.create_group(f"{store}/{path}")
    names = ("band", "y", "x")[-pixels.ndim :]
    chunks = (*pixels.shape[:-2], CHUNK, CHUNK)
    # else chunks of nothing but zeros are not stored
    kept = {"config": {"write_empty_chunks": True}}
    fused = group.create_array("fused", data=pixels, chunks=chunks, dimension_names=names, **kept)
    fused.attrs["ancillary_variables"] = "valid"
    group.create_array(
        "valid", data=valid.astype("u1"), chunks=chunks[-2:], dimension_names=names[-2:], **kept
    )
    if place == "geozarr":
        fused.attrs.update({"proj:code": "EPSG:32633", "spatial:transform": list(TRANSFORM)[:6]})
    else:
        fused.attrs["grid_mapping"] = "spatial_ref"
        wkt = rasterio.crs.CRS.from_epsg(32633).to_wkt()
        numbers = " ".join(map(str, TRANSFORM.to_gdal()))
        at = group.create_array("spatial_ref", shape=(), dtype="i4")
        at.attrs.update({"crs_wkt": wkt, "GeoTransform": numbers})


def converted(store, path, cog):
    """Write the fused image of a pair as a COG that is valid in every respect; return its path."""
    source = open_zarr(f"{store}/{path}/fused", max_pixels=CHUNK**2, bands=None)
    write_cog(source, str(cog))
    assert cog_validate(str(cog), strict=True) == (True, [], [])
    return str(cog)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("bands", [(), (3,)])
@pytest.mark.parametrize("has_hole", [False, True])
def test_a_frame_becomes_a_valid_cog_with_the_same_pixels(tmp_path, dtype, bands, has_hole):
    pixels = ramp((*bands, 330, 700), dtype)
    valid = np.ones(pixels.shape[-2:], np.bool_)
    valid[20:50, 600:] = not has_hole
    if has_hole and dtype == "float32":  # NaN is no data by itself
        pixels[..., 300:, 0] = np.nan
    store = str(tmp_path / "fused.zarr")
    stored = np.moveaxis(pixels, 0, -1) if bands else pixels
    fused_store.write_fused(store, "a", stored, {}, valid if has_hole else None)
    path = converted(store, "a", tmp_path / "a.tif")
    with rasterio.open(path) as image:
        np.testing.assert_array_equal(image.read(), pixels.reshape(-1, *valid.shape))
        has_data = valid & np.isfinite(pixels).reshape(-1, *valid.shape).all(axis=0)
        np.testing.assert_array_equal(image.read_masks(1) != 0, has_data)
        assert image.dtypes[0] == dtype and image.crs is None and image.transform.is_identity
        has_mask = rasterio.enums.MaskFlags.per_dataset in image.mask_flag_enums[0]
        assert has_mask == has_hole
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].photometric.name == ("RGB" if bands else "MINISBLACK")
    again = converted(store, "a", tmp_path / "again.tif")
    assert Path(path).read_bytes() == Path(again).read_bytes()


@pytest.mark.parametrize("place", ["geozarr", "cf"])
def test_a_scene_becomes_a_valid_cog_at_its_place_on_the_earth(tmp_path, place):
    pixels, valid = ramp(SCENE), np.ones(SCENE[1:], np.bool_)
    valid[HOLE] = False
    write_scene(tmp_path / "fused.zarr", "day/a", pixels, valid, place)
    source = open_zarr(f"{tmp_path}/fused.zarr/day/a/fused", max_pixels=CHUNK**2, bands=None)
    assert [tuple(window) for window in windows_of(source)] == [
        (0, 0, 1024, 1024), (0, 1024, 1024, 1024), (0, 2048, 1024, 52),
        (1024, 0, 476, 1024), (1024, 1024, 476, 1024), (1024, 2048, 476, 52),
    ]  # fmt: skip
    with rasterio.open(converted(tmp_path / "fused.zarr", "day/a", tmp_path / "a.tif")) as image:
        np.testing.assert_array_equal(image.read(), pixels)
        for band in (1, 2, 3):
            np.testing.assert_array_equal(image.read_masks(band) != 0, valid)
        assert image.crs.to_epsg() == 32633 and image.transform == TRANSFORM
        assert image.bounds == (500_000, 4_000_000 - 1500 * 20, 500_000 + 2100 * 10, 4_000_000)
        assert image.overviews(1) == [2, 4, 8] and image.block_shapes[0] == (512, 512)
        assert image.compression.name == "deflate"


def test_a_scene_without_a_hole_has_no_mask(tmp_path):
    pixels = ramp(SCENE[1:], "uint16")
    write_scene(tmp_path / "fused.zarr", "a", pixels, np.ones(SCENE[1:], np.bool_))
    with rasterio.open(converted(tmp_path / "fused.zarr", "a", tmp_path / "a.tif")) as image:
        np.testing.assert_array_equal(image.read(1), pixels)
        assert image.mask_flag_enums == ([rasterio.enums.MaskFlags.all_valid],)


@pytest.fixture
def scene(tmp_path):
    """The row of a scene of RGB, and the arguments of the step."""
    pixels, valid = ramp(SCENE), np.ones(SCENE[1:], np.bool_)
    valid[HOLE] = False
    write_scene(tmp_path / "fused.zarr", "a", pixels, valid)
    row = {"pair_id": "a", "zarr_path": "a", "height": 1500, "width": 2100, "file": "a.tif"}
    given = {"store_url": str(tmp_path / "fused.zarr"), "output_url": str(tmp_path / "images")}
    return row, given | {"quality": 0, "max_pixels": 1500 * 2100 - 1}


def test_a_scene_of_too_many_pixels_for_other_formats_is_exported_by_windows(scene, tmp_path):
    row, given = scene
    large = export_pair(row, **given, image_format="tiff")
    assert large["reason"] == "too_many_pixels"
    assert "1500 x 2100" in large["detail"] and large["detail"].endswith("or give --format cog")
    by_windows = export_pair(row, **given, image_format="cog")
    assert by_windows["reason"] == ""
    assert by_windows["num_bytes"] == (tmp_path / "images/a.tif").stat().st_size
    assert cog_validate(str(tmp_path / "images/a.tif"), strict=True) == (True, [], [])
    chunk = export_pair(row, **given | {"max_pixels": CHUNK**2 - 1}, image_format="cog")
    assert chunk["reason"] == "too_many_pixels" and "cog" not in chunk["detail"]


def test_a_frame_with_a_hole_is_exported_on_object_storage(s3, tmp_path):
    pixels, valid = np.moveaxis(ramp((3, 90, 120)), 0, -1), np.ones((90, 120), np.bool_)
    valid[:, :30] = False
    fused_store.write_fused(f"{s3}/fused.zarr", "day/a", pixels, {}, valid)
    row = {"pair_id": "day/a", "zarr_path": "day/a", "height": 90, "width": 120, "file": "day/a.tif"}
    given = {"store_url": f"{s3}/fused.zarr", "output_url": f"{s3}/images", "quality": 0}
    done = export_pair(row, **given, image_format="cog", max_pixels=90 * 120)
    data = objects.read_bytes(f"{s3}/images/day/a.tif")
    assert done["reason"] == "" and done["num_bytes"] == len(data)
    (tmp_path / "a.tif").write_bytes(data)
    assert cog_validate(str(tmp_path / "a.tif"), strict=True) == (True, [], [])
    with rasterio.open(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(image.read(), np.moveaxis(pixels, -1, 0))
        np.testing.assert_array_equal(image.read_masks(1) != 0, valid)
    objects.delete(f"{s3}/fused.zarr/day/a/fused/c/0/0/0")
    lost = export_pair(row, **given, image_format="cog", max_pixels=90 * 120)
    assert lost["reason"] == "missing_file"


@pytest.mark.parametrize("lost", ["fused/c/0/1/2", "valid/c/1/0"])
def test_a_scene_that_lost_a_chunk_is_no_image_with_a_hole(scene, tmp_path, lost):
    row, given = scene
    (tmp_path / "fused.zarr/a" / lost).unlink()
    done = export_pair(row, **given, image_format="cog")
    assert done["reason"] == "missing_file" and "lacks 1 of its chunks" in done["detail"]
    assert not (tmp_path / "images").exists()


@pytest.mark.parametrize("left", ["a thousand bytes", "one byte less"])
def test_a_disk_that_is_full_leaves_no_file(scene, tmp_path, left):
    row, given = scene
    size = export_pair(row, **given, image_format="cog")["num_bytes"]
    (tmp_path / "images/a.tif").unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    room = 1000 if left == "a thousand bytes" else size - 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        failed = export_pair(row, **given, image_format="cog")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert failed["reason"] == "failed"
    assert failed["detail"].startswith("export: StorageError: the GeoTIFF can't be written")
    assert list((tmp_path / "images").iterdir()) == []
