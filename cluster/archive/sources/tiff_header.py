"""The header of a TIFF that is read by windows, read and checked before GDAL sees the file.

GDAL follows the metadata of a TIFF: a domain OVERVIEWS may name any file or address as the place of the
reduced images, and GDAL opens it. So a header that names another place is refused.
"""

from __future__ import annotations

from itertools import islice
from typing import BinaryIO, cast
from xml.etree import ElementTree

from tifffile import TiffFile, TiffPage

from cluster.archive.reasons import BadImage
from cluster.archive.sources.image import damaged
from cluster.archive.sources.tiff import ORIENTATION, full_page
from cluster.storage.ranges import RangeFile
from cluster.storage.urls import StorageError

GEO_KEYS, GDAL_METADATA = 34735, 42112
PLACES = ((273, 279), (324, 325))
"""Tags that list offsets and sizes of strips, or of tiles; a file has one of the two."""
OTHER_PLACES = ("OVERVIEWS", "OVERVIEW_FILE", "PROXYOVERVIEWREQUEST")
"""Words of GDAL's metadata, in capitals, by which a file names another one."""
MAX_PAGES = 64
"""Most pages of a file that is read by windows; reduced images and masks need two for each halving."""


def read_header(file: RangeFile) -> TiffPage:
    """Return the page of full resolution, the first of the file as GDAL reads it, with its tags.

    Raises:
        BadImage: the header is damaged, names other files, or is of a kind that is not read by windows.
        StorageError: the file can't be read.
    """
    file.seek(0)
    try:
        with TiffFile(cast(BinaryIO, file)) as tiff:
            pages = [page for page in islice(tiff.pages, MAX_PAGES) if isinstance(page, TiffPage)]
            page = full_page(pages)
            tag = page.tags.get(ORIENTATION)
            turned = tag is not None and tag.value not in (0, 1)
            metadata = [tag.value for other in pages for tag in other.tags if tag.code == GDAL_METADATA]
            # tifffile leaves out a tag whose values lie behind the end
            is_whole = any(set(tags) <= set(page.tags.keys()) for tags in PLACES) and all(
                tag.valueoffset + tag.valuebytecount <= file.size for tag in page.tags
            )
            if not page.is_tiled:
                page.databytecounts  # noqa: B018  loads them while tifffile has the file
    except (BadImage, StorageError):
        raise
    except Exception as error:  # a parser of damaged bytes may raise any error
        raise damaged(file.size, "TIFF", error) from error
    if not is_whole:  # GDAL would take the tiles for ones that a sparse file leaves out
        raise BadImage(
            "truncated",
            f"{file.size} bytes of TIFF whose header ends later, expected the whole file: copy it again",
        )
    for text in metadata:
        check_metadata(text)
    if page is not pages[0] or turned:
        what = "that an orientation tag turns" if turned else "whose first page is a reduced one"
        raise BadImage(
            "wrong_type",
            f"a TIFF {what}, expected one whose windows can be read as they are stored: convert it "
            "(gdal_translate -of COG)",
        )
    return page


def check_block(what: str, height: int, width: int, bands: int, max_pixels: int) -> None:
    """Raise BadImage where a strip or a tile, which is read whole, is too large.

    Args:
        what: name of the image.
        height: of the strip or tile, in pixels.
        width: of the strip or tile, in pixels.
        bands: number of bands that lie together in it, of which up to four count as one pixel.
        max_pixels: most pixels that are read at once.
    """
    if height * width * -(-bands // 4) > max_pixels:
        counted = "1 band" if bands == 1 else f"{bands} bands"
        raise BadImage(
            "too_many_pixels",
            f"{what} in strips or tiles of {height} x {width} px (height x width) and {counted}, which "
            f"are read whole, expected at most {max_pixels} pixels in one: store it in tiles "
            "(gdal_translate -of COG), or raise --max-pixels where memory allows",
        )


def check_metadata(text: object) -> None:
    """Raise BadImage where the metadata that GDAL keeps in a TIFF name another file."""
    document = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    try:
        if "<!" in document or "<?" in document:
            raise ElementTree.ParseError("a declaration or an instruction")
        root = ElementTree.fromstring(document.strip("\0 \r\n\t"))
    except ElementTree.ParseError as error:
        raise BadImage(
            "wrong_type",
            f"a TIFF whose GDAL metadata are no plain XML ({error}), expected those that GDAL writes: "
            "convert it (gdal_translate -of COG)",
        ) from error
    for element in root.iter():
        said = [element.tag, element.text or "", element.tail or "", *element.attrib.values()]
        if any(place in " ".join(said).upper() for place in OTHER_PLACES):
            raise BadImage(
                "wrong_type",
                "a TIFF whose metadata name another file for its reduced images, expected them inside: "
                "convert it (gdal_translate -of COG)",
            )
