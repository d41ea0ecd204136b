"""Stored scenes as other software, and our own sources, open them: pixels, place, conventions."""

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
from cluster.storage import fused_store
from tests.cluster.scenes import PLACE, UTM, layout_of, on_earth, put_scene


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
