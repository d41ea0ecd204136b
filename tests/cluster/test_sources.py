"""Sources: windows of an image are those of the image decoded whole, whatever reads them."""

import contextlib
import io

import numpy as np
import pytest
import rasterio
import zarr
from PIL import Image

from cluster.archive.reasons import BadImage
from cluster.archive.sources.frames import decode_image
from cluster.archive.sources.open import open_source
from cluster.archive.sources.raster import RasterSource
from cluster.archive.sources.source import DecodedSource, Window, data_of, digest_of
from cluster.archive.sources.zarr_array import ZarrSource
from cluster.storage import fused_store, objects, ranges
from cluster.storage.urls import StorageError
from tests.cluster.test_decode import tiff
from tests.cluster.test_decode_library import gdal_tiff

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
RNG = np.random.default_rng(0)
GREY = RNG.integers(1, 256, (150, 203), dtype=np.uint8)
COLOUR = RNG.integers(1, 256, (150, 203, 3), dtype=np.uint8)
DEEP = RNG.integers(1, 65536, (150, 203), dtype=np.uint16)
MASK = np.ones(GREY.shape, bool)
MASK[:40, :60] = False
ALPHA = np.where(MASK, 255, 0).astype(np.uint8)
TILES = {"tiled": True, "blockxsize": 64, "blockysize": 32}
WHOLE = Window(0, 0, 150, 203)
WINDOWS = (WHOLE, Window(31, 57, 64, 77), Window(149, 0, 1, 203), Window(10, 200, 100, 3))
"""The whole image, one across tiles, and two at its edges."""


def with_border(pixels, value):
    bordered = pixels.astype(np.float32) if value < 0 else pixels.copy()
    bordered[:40, :60] = value
    return bordered


def tiffs():
    """Return a TIFF of each kind that is read."""
    sparse = DEEP.copy()
    sparse[32:64, 64:128] = 0
    return {
        "grey": gdal_tiff(GREY, **TILES),
        "strips": gdal_tiff(COLOUR, compress="deflate"),
        "deep": gdal_tiff(DEEP, **TILES),
        "signed": gdal_tiff(DEEP.astype(np.int32) - 30000, compress="lzw"),
        "bytes with a sign": gdal_tiff((GREY.astype(np.int16) - 128).astype(np.int8)),
        "double": gdal_tiff(DEEP / 7.0),
        "float with a border": gdal_tiff(with_border(DEEP, -9999.0), nodata=-9999.0, **TILES),
        "deep with a border": gdal_tiff(with_border(DEEP, 0), nodata=0),
        "colour with a border": gdal_tiff(with_border(COLOUR, 0), nodata=0, interleave="band"),
        "internal mask": gdal_tiff(GREY, MASK, **TILES),
        "alpha": gdal_tiff(np.dstack([COLOUR, ALPHA]), photometric="RGB", alpha="yes", **TILES),
        "grey and alpha": gdal_tiff(np.dstack([GREY, ALPHA]), alpha="yes"),
        "alpha that is no mask": gdal_tiff(np.dstack([COLOUR, GREY]), photometric="RGB", alpha="yes"),
        "sparse": gdal_tiff(sparse, compress="lzw", sparse_ok=True, **TILES),
        "sparse strips": gdal_tiff(with_border(DEEP, 0) * (np.arange(150) > 80)[:, None], sparse_ok=True),
        "white is zero": tiff(DEEP, photometric="miniswhite", rowsperstrip=16),
        "one bit": gdal_tiff(GREY & 1, nbits=1, **TILES),
        "four bits": gdal_tiff(GREY & 15, nbits=4, **TILES),
        "RGB and more": gdal_tiff(with_border(np.dstack([COLOUR, GREY]), 7), photometric="RGB", nodata=7),
        "grey and more": tiff(np.dstack([GREY, GREY]), photometric="minisblack", planarconfig="contig"),
        "palette": tiff(GREY, photometric="palette", colormap=np.arange(768).reshape(3, 256) * 80),
        "grey palette": tiff(GREY, photometric="palette", colormap=np.tile(np.arange(256), (3, 1)) * 257),
        "CMYK": tiff(np.dstack([COLOUR, GREY]), photometric="separated"),
        "planes": gdal_tiff(COLOUR, interleave="band", photometric="RGB", **TILES),
        "sparse planes": gdal_tiff(np.dstack([sparse] * 3), interleave="band", sparse_ok=True, **TILES),
        "big-endian BigTIFF": tiff(DEEP, byteorder=">", bigtiff=True),
        "NaN": gdal_tiff(np.where(MASK, DEEP.astype(np.float32), np.nan), nodata=np.nan),
    }


@contextlib.contextmanager
def opened(data, tmp_path, **options):
    path = tmp_path / "image"
    path.write_bytes(data)
    with open_source(str(path), **{"max_pixels": 10**6} | options) as source:
        yield source


def assert_same(found, expected, window=None):
    place = np.s_[:, :] if window is None else np.s_[
        window.y : window.y + window.height, window.x : window.x + window.width
    ]
    assert found.pixels.dtype == expected.pixels.dtype
    np.testing.assert_array_equal(data_of(found), data_of(expected)[place])
    there = data_of(found)
    np.testing.assert_array_equal(found.pixels[there], expected.pixels[place][there])


@pytest.mark.parametrize("kind", sorted(tiffs()))
def test_windows_by_gdal_are_those_of_the_tiff_decoded_whole(kind, tmp_path):
    data = tiffs()[kind]
    whole = decode_image(data, max_pixels=10**6)
    with opened(data, tmp_path) as plain, opened(data, tmp_path, max_pixels=20_000) as source:
        assert isinstance(plain, DecodedSource) and isinstance(source, RasterSource)
        assert (source.height, source.width, source.crs, source.transform) == (150, 203, "", None)
        assert (source.dtype, source.is_colour) == (plain.dtype, plain.is_colour)
        assert source.dtype == whole.pixels.dtype.name
        for window in WINDOWS:
            assert_same(source.read(window), whole, window)
            assert_same(plain.read(window), whole, window)
        assert source.overview(300).pixels.shape == plain.overview(300).pixels.shape
        assert_same(source.overview(300), whole)
        small = source.overview(64)
        assert small.pixels.shape[:2] == (38, 51)
        assert_same(small, plain.overview(64))


def test_a_jpeg_in_a_tiff_is_decoded_alike(tmp_path):
    y, x = np.mgrid[:150, :203]
    smooth = np.dstack([x, y, 100 + x // 2]).astype(np.uint8)
    data = gdal_tiff(smooth, compress="jpeg", photometric="YCBCR", **TILES)
    whole = decode_image(data, max_pixels=10**6).pixels.astype(int)
    with opened(data, tmp_path, max_pixels=20_000) as source:
        found = source.read(Window(0, 0, source.height, source.width)).pixels
    assert np.abs(found - whole).max() <= 6  # two libraries interpolate colours each in its own way


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_other_files_are_decoded_whole_and_cut(kind, tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(COLOUR).save(buffer, kind)
    whole = decode_image(buffer.getvalue(), max_pixels=10**6)
    with opened(buffer.getvalue(), tmp_path) as source:
        assert source.num_bands == 3 and source.etag
        for window in WINDOWS:
            assert_same(source.read(window), whole, window)
    with opened(buffer.getvalue(), tmp_path, bands=(2,)) as source:
        np.testing.assert_array_equal(source.read(WINDOWS[0]).pixels, whole.pixels[..., 1])
    with pytest.raises(BadImage, match="too_many_pixels: 150 x 203"):
        opened(buffer.getvalue(), tmp_path, max_pixels=20_000).__enter__()


def test_the_bands_of_one_file_are_chosen_by_their_numbers(shared_data, tmp_path):
    folder = shared_data / "naip_rgbn"
    originals = sorted((folder / "vis").glob("*.tif"))[:2]
    assert len(originals) == 2
    for original in originals:
        path = tmp_path / original.name
        with rasterio.open(original) as vis, rasterio.open(folder / "ir" / original.name) as ir:
            with rasterio.open(path, "w", **vis.profile | {"count": 4}) as made:
                made.write(np.concatenate([vis.read(), ir.read()]))
        for bands, side in (((4,), "ir"), ((1, 2, 3), "vis")):
            whole = decode_image((folder / side / path.name).read_bytes(), max_pixels=10**7)
            with open_source(str(path), max_pixels=10**7, bands=bands) as source:
                assert source.num_bands == 4 and "26914" in source.crs
                assert_same(source.read(Window(0, 0, source.height, source.width)), whole)
                assert_same(source.read(Window(301, 5, 200, 300)), whole, Window(301, 5, 200, 300))
        with pytest.raises(BadImage, match=r"'m_.*tif' has 4 bands, and 5 asked for.* from 1 to 4"):
            open_source(str(path), max_pixels=10**7, bands=(5,)).__enter__()
        with pytest.raises(BadImage, match="has 4 bands, and 1, 2 asked for, expected one"):
            open_source(str(path), max_pixels=10**7, bands=(1, 2)).__enter__()


def test_a_reduced_image_has_data_where_some_of_its_pixels_have(tmp_path):
    speckled = np.where(RNG.random(GREY.shape) < 0.3, np.nan, GREY.astype(np.float32))
    with opened(gdal_tiff(speckled, **TILES), tmp_path, max_pixels=20_000) as source:
        small = source.overview(41)
    assert small.pixels.shape == (30, 41) and data_of(small).all()


def test_alpha_of_a_large_image_is_looked_at_here_and_there(tmp_path, monkeypatch):
    monkeypatch.setattr("cluster.archive.sources.open.WHOLE_BYTES", 0)
    pixels = RNG.integers(0, 256, (1600, 1600, 2), dtype=np.uint8)
    pixels[..., 1] = 255
    pixels[700, 900, 1] = 0
    path = tmp_path / "alpha.tif"
    path.write_bytes(gdal_tiff(pixels, alpha="yes", **TILES))
    with open_source(str(path), max_pixels=10**6) as source:
        assert isinstance(source, RasterSource)
        valid = source.read(Window(640, 832, 128, 128)).valid
        assert source.num_bytes < pixels.size / 2
    assert valid is not None and (~valid).sum() == 1 and not valid[60, 68]


def test_a_place_on_the_earth_is_told_and_overviews_are_used(tmp_path, monkeypatch):
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -20, 4_000_000)}
    path = tmp_path / "geo.tif"
    pixels = np.kron(GREY, np.ones((4, 4), np.uint8))
    path.write_bytes(gdal_tiff(pixels, **place, **TILES))
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([4], rasterio.enums.Resampling.average)
    with open_source(str(path), max_pixels=10**6) as source:  # small, so it is read whole
        assert source.digest == digest_of(path.read_bytes())
        assert source.num_bytes == path.stat().st_size
        source.read(Window(0, 0, source.height, source.width))
        assert source.num_bytes == path.stat().st_size
    monkeypatch.setattr("cluster.archive.sources.open.WHOLE_BYTES", 0)
    with open_source(str(path), max_pixels=10**6) as source:
        assert isinstance(source, RasterSource) and source.crs.startswith("PROJCS")
        assert source.transform == (10, 0, 500_000, 0, -20, 4_000_000)
        before = source.num_bytes
        assert source.digest == ""
        np.testing.assert_array_equal(source.overview(203).pixels, GREY)
        assert source.num_bytes - before < pixels.size / 4


def test_one_window_of_a_large_cog_on_s3_costs_a_twentieth_of_the_file(s3, tmp_path, monkeypatch):
    pixels = RNG.integers(0, 256, (6400, 6400), dtype=np.uint8)
    shape = {"width": 6400, "height": 6400, "count": 1, "dtype": "uint8"}
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="COG", blocksize=256, compress="none", **shape
    ) as dataset:
        dataset.write(pixels, 1)
    size = (tmp_path / "a.tif").stat().st_size
    assert size > 50e6
    url = f"{s3}/scenes/a.tif"
    objects.put_bytes(url, (tmp_path / "a.tif").read_bytes())
    requests = []
    fetch = ranges._S3Reader.fetch

    def counted(reader, wanted):
        requests.extend(wanted)
        return fetch(reader, wanted)

    monkeypatch.setattr(ranges._S3Reader, "fetch", counted)
    window = Window(2100, 3333, 1024, 1024)
    with open_source(url, max_pixels=10**6) as source:
        image = source.read(window)
        assert image.valid is None
        np.testing.assert_array_equal(image.pixels, pixels[2100:3124, 3333:4357])
        assert source.num_bytes < 0.05 * size, (source.num_bytes, len(requests))
        assert len(requests) < 11 and source.digest == ""
        objects.put_bytes(url, b"II*\0" + bytes(100))
        with pytest.raises(StorageError, match="a.tif' was replaced while it was read"):
            source.read(Window(5000, 5000, 256, 256))


def test_a_tiff_that_ends_early_is_refused_when_the_missing_part_is_read(tmp_path):
    data = gdal_tiff(np.tile(GREY, (4, 4)), **TILES)
    with opened(data[: len(data) // 2], tmp_path, max_pixels=10**5) as source:
        with pytest.raises(BadImage, match="^(truncated|unreadable): "):
            source.read(Window(0, 0, source.height, source.width))
    for length in (6, 20, 100, 200):
        with pytest.raises(BadImage, match="^(truncated|unreadable): "):
            with opened(data[:length], tmp_path, bands=(1,)) as source:
                source.read(Window(0, 0, 64, 64))


def test_what_cannot_be_read_by_windows_says_what_to_do(tmp_path):
    with pytest.raises(BadImage, match="^too_many_pixels: .* in strips or tiles of .*-of COG"):
        opened(tiff(GREY, compression="zlib", rowsperstrip=150), tmp_path, max_pixels=10_000).__enter__()
    many = gdal_tiff(np.zeros((64, 64, 30), np.uint8), **TILES)  # 2048 pixels of 30 bytes
    with opened(many, tmp_path, bands=(30,), max_pixels=20_000) as source:
        assert source.num_bands == 30
    with pytest.raises(BadImage, match="^too_many_pixels: an image in .* and 30 bands"):
        opened(many, tmp_path, bands=(30,), max_pixels=10_000).__enter__()
    with pytest.raises(BadImage, match="^wrong_type: .*an orientation tag turns"):
        opened(
            tiff(GREY, extratags=[(274, "H", 1, 6, True)]), tmp_path, bands=(1,)
        ).__enter__()


ZARRS = [("local", version, layout) for version in (2, 3) for layout in ("yx", "yxb", "byx")]


@pytest.mark.parametrize(("where", "version", "layout"), [*ZARRS, ("s3", 3, "yxb")])
def test_a_zarr_array_is_read_chunk_by_chunk(where, version, layout, request, tmp_path):
    root = str(tmp_path) if where == "local" else request.getfixturevalue("s3")
    pixels = DEEP if layout == "yx" else np.dstack([DEEP, DEEP[::-1], DEEP[:, ::-1], DEEP // 2])
    stored = np.moveaxis(pixels, 2, 0) if layout == "byx" else pixels
    chunks = {"yx": (80, 64), "yxb": (80, 64, 4), "byx": (1, 80, 64)}[layout]
    array = zarr.create_array(
        str(tmp_path / "made"), shape=stored.shape, chunks=chunks, dtype="u2", zarr_format=version
    )
    array[:] = stored
    array.attrs["_FillValue"] = int(DEEP[3, 5])
    for file in (tmp_path / "made").rglob("*"):
        if file.is_file():
            objects.put_bytes(f"{root}/b/a.zarr/{file.relative_to(tmp_path / 'made')}", file.read_bytes())
    bands = None if layout == "yx" else (4,)
    with open_source(f"{root}/b/a.zarr", max_pixels=10_000, bands=bands) as source:
        expected = pixels if bands is None else pixels[..., 3]
        for window in WINDOWS:
            image = source.read(window)
            place = np.s_[window.y : window.y + window.height, window.x : window.x + window.width]
            np.testing.assert_array_equal(image.pixels, expected[place])
            np.testing.assert_array_equal(data_of(image), expected[place] != DEEP[3, 5])
        assert source.overview(64).pixels.shape == (38, 51)
    with pytest.raises(BadImage, match="^too_many_pixels: 80 x 64 px"):
        open_source(f"{root}/b/a.zarr", max_pixels=1000, bands=bands).__enter__()
    with pytest.raises(FileNotFoundError, match="other"):
        open_source(f"{root}/b/other", max_pixels=10**6).__enter__()


def test_our_own_output_is_a_source_with_its_mask(tmp_path):
    store = str(tmp_path / "fused.zarr")
    fused_store.create_store(store, {})
    fused_store.write_fused(store, "a", COLOUR, {}, MASK)
    for url in (f"{store}/a", f"{store}/a/fused"):
        with open_source(url, max_pixels=10**6) as source:
            assert isinstance(source, ZarrSource) and source.is_colour
            image = source.read(Window(31, 57, 64, 77))
            np.testing.assert_array_equal(image.pixels, COLOUR[31:95, 57:134])
            np.testing.assert_array_equal(image.valid, MASK[31:95, 57:134])
    with pytest.raises(BadImage, match="group without an array 'fused'"):
        open_source(store, max_pixels=10**6).__enter__()


@pytest.mark.parametrize("kind", ["geozarr", "cf"])
def test_a_zarr_array_says_where_it_lies(kind, tmp_path):
    group = zarr.create_group(str(tmp_path / "g"))
    array = group.create_array("a", data=GREY, dimension_names=("y", "x"))
    if kind == "geozarr":
        array.attrs.update({"proj:code": "EPSG:32633", "spatial:transform": [10, 0, 5, 0, -20, 7]})
    else:
        array.attrs["grid_mapping"] = "spatial_ref"
        wkt = rasterio.crs.CRS.from_epsg(32633).to_wkt()
        place = group.create_array("spatial_ref", shape=(), dtype="i4")
        place.attrs.update({"crs_wkt": wkt, "GeoTransform": "5 10 0 7 0 -20"})
    with open_source(str(tmp_path / "g" / "a"), max_pixels=10**6) as source:
        assert rasterio.crs.CRS.from_wkt(source.crs).to_epsg() == 32633
        assert source.transform == (10, 0, 5, 0, -20, 7)


def test_a_codec_that_runs_what_a_file_says_is_refused(tmp_path):
    array = zarr.create_array(str(tmp_path / "a"), shape=(9, 9), dtype="u1", chunks=(9, 9), zarr_format=2)
    array[:] = 1
    text = (tmp_path / "a" / ".zarray").read_text()
    assert '"filters": null' in text
    for codec, said in (("base64", "with the codec 'base64', expected one of"), ("pickle", "pickle")):
        codecs = f'"filters": [{{"id": "{codec}"}}]'
        (tmp_path / "a" / ".zarray").write_text(text.replace('"filters": null', codecs))
        with pytest.raises(StorageError, match=said):
            open_source(str(tmp_path / "a"), max_pixels=10**6).__enter__()
