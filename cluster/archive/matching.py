"""Which files of two listings make a pair: names matched by pattern, the rest listed with its reason."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from cluster.storage.objects import FileInfo

SIDES = ("ir", "vis")
IMAGE_EXTENSIONS = frozenset(
    "png jpg jpeg jpe jfif tif tiff bmp webp gif jp2 j2k heic heif avif pgm ppm pnm".split()
)
"""A file with another extension is no image of the archive; one without any may be."""

Row = dict[str, Any]


def match_pairs(
    ir_files: Iterable[FileInfo],
    vis_files: Iterable[FileInfo],
    ir_pattern: str = "{id}",
    vis_pattern: str = "{id}",
) -> tuple[list[Row], list[Row]]:
    """Match two listings by pair_id: the relative path without extension, taken out of the pattern.

    Returns:
        Rows with the columns of SCHEMA and rows with those of UNMATCHED_SCHEMA, by pair_id.
    """
    unmatched: list[Row] = []
    found: dict[str, dict[str, list[FileInfo]]] = {}
    for side, files, pattern in (("ir", ir_files, ir_pattern), ("vis", vis_files, vis_pattern)):
        before, _, after = pattern.partition("{id}")
        spelled = re.compile(re.escape(before) + "(.+)" + re.escape(after), re.DOTALL)
        for file in files:
            stem, dot, extension = split_extension(file.path)
            if dot and extension.lower() not in IMAGE_EXTENSIONS:
                detail = f"{side}: the extension is none of an image"
                unmatched.append(_unmatched(stem, "not_image", detail, {side: file.url}))
            elif not _is_text(file.url):
                detail = f"{side}: the file's name is not UTF-8: rename it"
                unmatched.append(_unmatched(stem, "bad_name", detail, {side: file.url}))
            elif (match := spelled.fullmatch(stem)) is None:
                detail = f"{side}: the name does not fit the pattern {pattern!r}"
                unmatched.append(_unmatched(stem, "missing_partner", detail, {side: file.url}))
            else:
                found.setdefault(match[1], {"ir": [], "vis": []})[side].append(file)
    pairs: list[Row] = []
    for pair_id in sorted(found):
        sides = found[pair_id]
        side_urls = {side: sides[side][0].url for side in SIDES if sides[side]}
        several = [side for side in SIDES if len(sides[side]) > 1]
        if several:
            detail = "; ".join(
                f"{side}: {', '.join(repr(file.path) for file in sides[side])}" for side in several
            )
            unmatched.append(_unmatched(pair_id, "ambiguous", detail, side_urls))
        elif len(side_urls) == 1:
            missing = "vis" if "ir" in side_urls else "ir"
            detail = f"{missing}: no file of this name below the prefix"
            unmatched.append(_unmatched(pair_id, "missing_partner", detail, side_urls))
        else:
            ir, vis = sides["ir"][0], sides["vis"][0]
            pairs.append(
                {
                    "pair_id": pair_id,
                    "ir_url": ir.url,
                    "vis_url": vis.url,
                    "ir_size": ir.size,
                    "ir_etag": ir.etag,
                    "vis_size": vis.size,
                    "vis_etag": vis.etag,
                }
            )
    return pairs, sorted(unmatched, key=lambda row: (row["pair_id"], row["detail"]))


def split_extension(path: str) -> tuple[str, bool, str]:
    """Split a path at the last dot of the file's name, unless it begins with it.

    Returns:
        What is before the dot, whether there is one, and what is behind it.
    """
    folder, slash, name = path.rpartition("/")
    stem, dot, extension = name.rpartition(".")
    if not dot or not stem:
        return path, False, ""
    return f"{folder}{slash}{stem}", True, extension


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unmatched(pair_id: str, reason: str, detail: str, side_urls: dict[str, str]) -> Row:
    row = {"pair_id": pair_id, "reason": reason, "detail": detail}
    row |= {f"{side}_url": side_urls.get(side, "") for side in SIDES}
    return {name: value.encode("utf-8", "backslashreplace").decode() for name, value in row.items()}
