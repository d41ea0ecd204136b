"""What strangers' TIFFs and VRTs may not do: have GDAL open another file, an address or a program."""

import numpy as np
import pytest
import rasterio

from cluster.archive.reasons import BadImage
from cluster.archive.sources.open import open_source
from cluster.archive.sources.source import Window
from cluster.storage import objects
from tests.cluster.test_decode import tiff
from tests.cluster.test_decode_library import gdal_tiff
from tests.cluster.test_sources import DEEP, GREY, TILES

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
VRT = """<VRTDataset rasterXSize="203" rasterYSize="150">
  <VRTRasterBand dataType="Byte" band="1">{source}</VRTRasterBand>
</VRTDataset>"""
SOURCE = """<SimpleSource>
  <SourceFilename relativeToVRT="1">a.tif</SourceFilename><SourceBand>1</SourceBand>
</SimpleSource>"""


def read_all(url):
    with open_source(url, max_pixels=10**6) as source:
        return source.read(Window(0, 0, source.height, source.width))


@pytest.fixture(params=["local", "s3"])
def folder(request, tmp_path):
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("s3") + "/set"


def test_a_mosaic_of_tiffs_beside_a_vrt_is_read_with_its_gaps(folder):
    place = {"crs": "EPSG:32633", "nodata": 7}
    for number, (name, x) in enumerate([("a.tif", 0), ("below/é b.tif", 203)]):
        pixels = DEEP + number
        data = gdal_tiff(pixels, transform=rasterio.Affine(1, 0, x, 0, -1, 300), **place, **TILES)
        objects.put_bytes(f"{folder}/{name}", data)
    rectangle = (
        '<SrcRect xOff="0" yOff="0" xSize="203" ySize="150"/>'
        '<DstRect xOff="{}" yOff="10" xSize="203" ySize="150"/>'
    )
    sources = "".join(
        f'<ComplexSource resampling="nearest"><SourceFilename relativeToVRT="1">{name}</SourceFilename>'
        f'<SourceBand>1</SourceBand>{rectangle.format(x)}<NODATA>7</NODATA></ComplexSource>'
        for name, x in [("a.tif", 0), ("below/é b.tif", 203)]
    )
    text = (
        '<VRTDataset rasterXSize="406" rasterYSize="170"><SRS>EPSG:32633</SRS>'
        "<GeoTransform>0, 1, 0, 310, 0, -1</GeoTransform><Metadata><MDI key='a'>b</MDI></Metadata>"
        f'<VRTRasterBand dataType="UInt16" band="1"><NoDataValue>7</NoDataValue>{sources}</VRTRasterBand>'
        "</VRTDataset>"
    )
    objects.put_bytes(f"{folder}/all.vrt", text.encode())
    with open_source(f"{folder}/all.vrt", max_pixels=10**6) as source:
        assert (source.height, source.width, source.dtype) == (170, 406, "uint16")
        assert source.transform == (1, 0, 0, 0, -1, 310) and source.nodata == 7
        expected = np.full((170, 406), 7, np.uint16)
        expected[10:160] = np.hstack([DEEP, DEEP + 1])
        for window in (Window(0, 0, 170, 406), Window(5, 190, 60, 33)):
            image = source.read(window)
            part = expected[window.y :, window.x :][: window.height, : window.width]
            np.testing.assert_array_equal(image.valid, part != 7)
            np.testing.assert_array_equal(image.pixels[image.valid], part[image.valid])
        assert source.overview(100).valid[:1].sum() == 0
    objects.delete(f"{folder}/below/é b.tif")
    with open_source(f"{folder}/all.vrt", max_pixels=10**6) as source:
        source.read(Window(0, 0, 170, 203))
        with pytest.raises(BadImage, match="missing_file: 'é b.tif' is not there, expected it as a VRT"):
            source.read(Window(0, 0, 170, 406))


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../secret.tif",
        "below/../../secret.tif",
        "/vsicurl/http://127.0.0.1:9/a.tif",
        "vrt://a.tif",
        "GTIFF_DIR:1:a.tif",
        "http://127.0.0.1:9/a.tif",
        "..\\secret.tif",
        "",
    ],
)
def test_a_vrt_reaches_no_other_place(name, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "secret.tif").write_bytes(gdal_tiff(GREY))
    for filename in (f'relativeToVRT="1">{name}', f'relativeToVRT="0">{name}', f">{name}"):
        source = f"<SimpleSource><SourceFilename {filename}</SourceFilename></SimpleSource>"
        (tmp_path / "set" / "a.vrt").write_text(VRT.format(source=source))
        with pytest.raises(BadImage, match="^wrong_type: a VRT with the source .*expected a plain"):
            read_all(str(tmp_path / "set" / "a.vrt"))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("<VRTDataset ", '<VRTDataset subClass="VRTWarpedDataset" ', "an attribute subClass="),
        (' band="1"', ' band="1" subClass="VRTRawRasterBand"', "an attribute subClass="),
        (' band="1"', ' band="1" subClass="VRTDerivedRasterBand"', "an attribute subClass="),
        (SOURCE, SOURCE + "<PixelFunctionType>a.b</PixelFunctionType>", "element 'PixelFunctionType'"),
        (SOURCE, f"<Overview>{SOURCE}</Overview>", "an element 'Overview'"),
        (SOURCE, SOURCE.replace("</Simple", "<OpenOptions/></Simple"), "an element 'OpenOptions'"),
        (SOURCE, SOURCE.replace("SimpleSource", "AveragedSource"), "an element 'AveragedSource'"),
        ("<VRTRasterBand", "<SRS>/etc/passwd</SRS><VRTRasterBand", "a coordinate reference system '/etc"),
        ("<VRTRasterBand", "<GDALWarpOptions/><VRTRasterBand", "an element 'GDALWarpOptions'"),
        ("</VRTDataset>", "", "unreadable: a VRT that is no plain XML"),
        ("<VRTRasterBand", "<![CDATA[a]]><VRTRasterBand", "it has a declaration"),
    ],
)
def test_a_vrt_that_is_more_than_a_mosaic_is_refused(before, after, said, tmp_path):
    (tmp_path / "a.tif").write_bytes(gdal_tiff(GREY))
    text = VRT.format(source=SOURCE)
    (tmp_path / "a.vrt").write_text(text)
    np.testing.assert_array_equal(read_all(str(tmp_path / "a.vrt")).pixels, GREY)
    assert before in text
    (tmp_path / "a.vrt").write_text(text.replace(before, after))
    with pytest.raises(BadImage, match=said):
        read_all(str(tmp_path / "a.vrt"))


def test_a_source_of_a_vrt_is_a_tiff_and_nothing_else(tmp_path):
    (tmp_path / "a.vrt").write_text(VRT.format(source=SOURCE))
    (tmp_path / "b.tif").write_bytes(gdal_tiff(GREY))
    inner = VRT.format(source=SOURCE.replace("a.tif", "b.tif"))
    for content in (inner.encode(), b"\x89PNG\r\n\x1a\n", b"", b"P5 203 150 255\n" + GREY.tobytes()):
        (tmp_path / "a.tif").write_bytes(content)
        with pytest.raises(BadImage, match="'a.tif' is named by a VRT and no TIFF"):
            read_all(str(tmp_path / "a.vrt"))


def test_a_strip_that_is_too_large_is_refused_in_a_source_of_a_vrt_too(tmp_path):
    (tmp_path / "a.vrt").write_text(VRT.format(source=SOURCE))
    (tmp_path / "a.tif").write_bytes(tiff(GREY, compression="zlib", rowsperstrip=150))
    with pytest.raises(BadImage, match="too_many_pixels: 'a.tif' in strips or tiles of 150 x 203 px"):
        with open_source(str(tmp_path / "a.vrt"), max_pixels=20_000) as source:
            source.read(Window(0, 0, 5, 5))


def metadata_that_names(path, domain="OVERVIEWS"):
    text = f'<GDALMetadata><Item name="OVERVIEW_FILE" domain="{domain}">{path}</Item></GDALMetadata>'
    return tiff(GREY, tile=(32, 64), extratags=[(42112, "s", 0, text, True)])


@pytest.mark.parametrize("domain", ["OVERVIEWS", "overviews", "&#79;VERVIEWS"])
def test_metadata_of_a_tiff_cannot_name_another_file_for_its_overviews(domain, tmp_path):
    (tmp_path / "secret.tif").write_bytes(gdal_tiff(np.full((75, 102), 77, np.uint8)))
    path = tmp_path / "a.tif"
    path.write_bytes(metadata_that_names(tmp_path / "secret.tif", domain))
    with rasterio.open(path) as dataset:  # what GDAL does by itself
        assert (dataset.read(1, out_shape=(75, 102)) == 77).all()
    (tmp_path / "a.vrt").write_text(VRT.format(source=SOURCE))
    for url, options in ((path, {"bands": (1,)}), (tmp_path / "a.vrt", {})):
        with pytest.raises(BadImage, match="metadata name another file for its reduced images"):
            with open_source(str(url), max_pixels=10**6, **options) as source:
                source.overview(102)


def test_metadata_that_expat_reads_otherwise_than_gdal_are_refused(tmp_path):
    for text in ("<a><!-- b --></a>", "<GDALMetadata>", "<?xml version='1.0'?><a/>"):
        (tmp_path / "a.tif").write_bytes(tiff(GREY, extratags=[(42112, "s", 0, text, True)]))
        with pytest.raises(BadImage, match="GDAL metadata are no plain XML"):
            open_source(str(tmp_path / "a.tif"), max_pixels=10**6, bands=(1,)).__enter__()


def test_files_beside_a_tiff_are_not_looked_for(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(gdal_tiff(GREY))
    (tmp_path / "a.tif.ovr").write_bytes(gdal_tiff(np.full((75, 102), 77, np.uint8)))
    (tmp_path / "a.tif.aux.xml").write_text(
        '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">/etc/passwd</MDI></Metadata>'
        '<PAMRasterBand band="1"><NoDataValue>5</NoDataValue></PAMRasterBand></PAMDataset>'
    )
    with open_source(str(path), max_pixels=10**6, bands=(1,)) as source:
        assert source.dataset.overviews(1) == [] and source.nodata is None
        np.testing.assert_array_equal(source.read(Window(0, 0, 150, 203)).pixels, GREY)
