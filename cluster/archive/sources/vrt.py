"""VRTs: mosaics of TIFFs that lie beside them, read by windows.

A VRT can have GDAL open any file, address or program that GDAL knows. So GDAL is never given the file
itself, but a document written anew from the parts that a plain mosaic has. Its sources are the TIFFs that
the VRT names by paths relative to itself; anything else in it is refused.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import rasterio
from rasterio.enums import ColorInterp

from cluster.archive.reasons import BadImage
from cluster.archive.sources.bands import check_bands, picture_bands
from cluster.archive.sources.gdal_files import GdalFiles, call_gdal
from cluster.archive.sources.image import Mask
from cluster.archive.sources.raster import RasterSource, check_blocks, what_is_where
from cluster.archive.sources.source import Window
from cluster.archive.sources.tiff import as_read
from cluster.storage.ranges import RangeFile
from cluster.storage.urls import join_url, redact_url

MAX_VRT_BYTES = 8 << 20
"""Largest VRT that is read, in bytes: some 12,000 sources."""
NAME = "mosaic/mosaic.vrt"
"""What GDAL calls the file."""
Attributes = frozenset[str]
TEXT: dict[str, Attributes] = {
    "SRS": frozenset({"dataAxisToSRSAxisMapping"}),
    "GeoTransform": frozenset(),
    "ColorInterp": frozenset(),
    "NoDataValue": frozenset(),
    "HideNoDataValue": frozenset(),
    "SourceBand": frozenset(),
    "NODATA": frozenset(),
    "UseMaskBand": frozenset(),
    "SourceProperties": frozenset({"RasterXSize", "RasterYSize", "DataType", "BlockXSize", "BlockYSize"}),
    "SrcRect": frozenset({"xOff", "yOff", "xSize", "ySize"}),
    "DstRect": frozenset({"xOff", "yOff", "xSize", "ySize"}),
    "OverviewList": frozenset({"resampling"}),
}
"""Elements without others below that go into the document for GDAL, and their attributes."""
NESTED: dict[str, Attributes] = {
    "VRTDataset": frozenset({"rasterXSize", "rasterYSize"}),
    "VRTRasterBand": frozenset({"dataType", "band", "blockXSize", "blockYSize"}),
    "MaskBand": frozenset(),
    "SimpleSource": frozenset({"resampling"}),
    "ComplexSource": frozenset({"resampling"}),
}
"""Elements with others below that go into the document for GDAL, and their attributes."""
LEFT_OUT = frozenset(
    {"Metadata", "Description", "UnitType", "Offset", "Scale", "Histograms", "BlockXSize", "BlockYSize"}
)
"""Elements that are left out, since they change no pixel."""
PLAIN_SRS = re.compile(r"\s*(EPSG:\d+|[A-Za-z_]+\[)")
"""How a coordinate reference system begins that names no file and no address."""
RECTANGLE = ("xOff", "yOff", "xSize", "ySize")
Rectangle = tuple[float, float, float, float]


@contextmanager
def open_vrt(file: RangeFile, *, max_pixels: int, bands: Sequence[int] | None) -> Iterator[RasterSource]:
    """Open a VRT by GDAL; arguments and errors as of `open.open_source`.

    Raises:
        BadImage: it is damaged, or more than a mosaic of TIFFs beside it.
    """
    document, sources = plain_mosaic(_text(file), file.url)
    named: dict[str, RangeFile | io.BytesIO | str] = {
        f"mosaic/{name}": url for url, name in sources.items()
    }
    named[NAME] = io.BytesIO(ElementTree.tostring(document, encoding="utf-8"))
    files = GdalFiles(named, max_pixels)
    files.num_fetched_before = file.num_fetched
    dataset = call_gdal(files, file.size, lambda: rasterio.open(NAME, driver="VRT", opener=files))
    try:
        check_blocks(dataset, max_pixels)
        alpha = dataset.count if dataset.colorinterp[-1] == ColorInterp.alpha else None
        if bands is None:
            read = picture_bands(file.url, dataset.count, alpha is not None)
        else:
            check_bands(file.url, dataset.count, bands)
            read = tuple(bands)
        kind = np.dtype(dataset.dtypes[read[0] - 1])
        yield RasterSource(
            **what_is_where(dataset),
            url=file.url,
            etag=file.etag,
            dtype=as_read(np.zeros(1, kind)).dtype.name,
            is_colour=len(read) == 3,
            nodata=dataset.nodatavals[read[0] - 1],
            dataset=dataset,
            files=files,
            file_bytes=file.size,
            bands=read,
            alpha=alpha if alpha not in read and kind in (np.uint8, np.uint16) else None,
            parts=tuple(sources),
            stored_in=partial(_covered, _rectangles(document, read[0])),
        )
    finally:
        dataset.close()


def plain_mosaic(text: str, url: str) -> tuple[Element, dict[str, str]]:
    """Return the document that GDAL reads in a VRT's place, and the name in it of each source's URL.

    Args:
        text: the VRT.
        url: of the VRT; its sources lie in the same folder or below.

    Raises:
        BadImage: the VRT is damaged, or has an element, an attribute or a source that is not allowed.
    """
    try:
        if re.search(r"<!(?!--)", text):
            raise ElementTree.ParseError("it has a declaration")
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise BadImage(
            "unreadable", f"a VRT that is no plain XML ({error}), expected one that gdalbuildvrt wrote"
        ) from error
    sources: dict[str, str] = {}
    try:
        return _copied(root, url.rpartition("/")[0], sources), sources
    except RecursionError:
        raise _refused("elements in each other a thousand times") from None


def _copied(element: Element, folder_url: str, sources: dict[str, str]) -> Element:
    allowed = NESTED[element.tag] if element.tag in NESTED else TEXT.get(element.tag)
    if element.tag == "SourceFilename":
        copy = Element("SourceFilename", {"relativeToVRT": "1", "shared": "0"})
        source_url = _source_url(element, folder_url)
        copy.text = sources.setdefault(source_url, f"{len(sources)}.tif")
        return copy
    if allowed is None:
        raise _refused(f"an element {element.tag[:60]!r}")
    for name, value in element.attrib.items():
        if name == "subClass" and element.tag == "VRTRasterBand" and value == "VRTSourcedRasterBand":
            continue
        if name not in allowed:
            raise _refused(f"an attribute {name[:60]}={value[:60]!r} of {element.tag}")
    kept = {name: value for name, value in element.attrib.items() if name in allowed}
    copy = Element(element.tag, kept)
    if element.tag in TEXT:
        if len(element):
            raise _refused(f"an element {element[0].tag[:60]!r} in {element.tag}")
        if element.tag == "SRS" and element.text and not PLAIN_SRS.match(element.text):
            raise _refused(f"a coordinate reference system {element.text.strip()[:60]!r}")
        copy.text = element.text
        return copy
    if element.tag.endswith("Source") and (element.find("SrcRect") is None) != (
        element.find("DstRect") is None
    ):
        raise _refused("a source with one of SrcRect and DstRect alone")
    for child in element:
        if child.tag not in LEFT_OUT:
            copy.append(_copied(child, folder_url, sources))
    return copy


def _source_url(element: Element, folder_url: str) -> str:
    """Return the URL of a source; it must be named by a path below the VRT's own folder."""
    path = (element.text or "").strip()
    parts = path.split("/")
    if (
        element.get("relativeToVRT") != "1"
        or not path.isprintable()
        or any(letter in path for letter in ":\\?*")
        or any(part in ("", ".", "..") for part in parts)
    ):
        raise _refused(f"the source {path[:200]!r}")
    return join_url(folder_url or ".", path)


def _refused(what: str) -> BadImage:
    return BadImage(
        "wrong_type",
        f"a VRT with {what}, expected a plain mosaic of TIFFs in its own folder or below, named by "
        "relative paths: write it there by gdalbuildvrt, or convert it (gdal_translate -of COG)",
    )


def _text(file: RangeFile) -> str:
    if file.size > MAX_VRT_BYTES:
        raise BadImage(
            "wrong_type",
            f"{redact_url(file.url)!r} is a VRT of {file.size} bytes, expected at most {MAX_VRT_BYTES}: "
            "build it of fewer sources",
        )
    try:
        return file.read().decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise BadImage("unreadable", f"a VRT that is no UTF-8 ({error}), expected UTF-8") from error


def _rectangles(document: Element, band: int) -> list[Rectangle]:
    """Return left, top, right and bottom, in pixels, of what each source of a band covers."""
    found = []
    number = 0
    for element in document.findall("VRTRasterBand"):
        number = int(element.get("band", number + 1))
        if number != band:
            continue
        for source in (*element.iterfind("SimpleSource"), *element.iterfind("ComplexSource")):
            place = source.find("DstRect")
            if place is None:
                found.append((-np.inf, -np.inf, np.inf, np.inf))
                continue
            x, y, width, height = (float(place.get(name, 0)) for name in RECTANGLE)
            found.append((x, y, x + width, y + height))
    return found


def _covered(rectangles: list[Rectangle], window: Window, step: int) -> Mask | None:
    """Return which pixels of a window lie in a source; None for all."""
    y = np.arange(window.y, window.y + window.height, step) + 0.5
    x = np.arange(window.x, window.x + window.width, step) + 0.5
    covered = np.zeros((len(y), len(x)), np.bool_)
    for left, top, right, bottom in rectangles:
        rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)
        if rows.any() and columns.any():
            covered[np.ix_(rows, columns)] = True
    return None if covered.all() else covered
