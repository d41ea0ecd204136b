"""Which files of two listings make a pair: names matched by pattern, the rest listed with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cluster.archive.name_reader import NameReader, as_text
from cluster.archive.naming import Naming, of_one_extension
from cluster.storage.objects import FileInfo

SIDES = ("ir", "vis")
NO_PAIR = ("missing_partner", "ambiguous", "bad_name")
"""Reasons of names that count as rejected pairs."""
IGNORED = ("not_image", "other_extension")
"""Reasons of files that are listed as left out, and count as no pair."""
Row = dict[str, Any]
Named = dict[str, list[tuple[str, FileInfo]]]
"""The spelling of the pair_id and the file of each name of one side, by the key that both sides share."""


def match_pairs(
    ir_files: Sequence[FileInfo],
    vis_files: Sequence[FileInfo],
    naming: Naming | None = None,
    *,
    folders: tuple[str, str] | None = None,
    outputs: tuple[str | None, str | None] = (None, None),
) -> tuple[list[Row], list[Row]]:
    """Match two listings by pair_id: the relative path without extension, taken out of the pattern.

    A file that both listings hold belongs to one side: that whose pattern its name fits; of two, that
    whose folder and pattern spell out more of it.

    Args:
        ir_files: files below the infrared prefix.
        vis_files: files below the visible prefix.
        naming: how the files are named; by default each path is its pair's pair_id.
        folders: where one prefix is the other or lies below it, what comes before the paths of each
            side in the outer of both: empty, or a path with a slash at its end.
        outputs: path of the run's own output below each prefix, as `NameReader` takes it.

    Returns:
        Rows with the columns of SCHEMA and rows with those of UNMATCHED_SCHEMA, by pair_id.
    """
    naming = naming or Naming()
    patterns = naming.patterns()
    readers = [
        NameReader(pattern, files, order=patterns[0].names, output=output)
        for pattern, files, output in zip(patterns, (ir_files, vis_files), outputs, strict=True)
    ]
    fold = naming.fold()
    unmatched: list[Row] = []
    sides: tuple[Named, Named] = ({}, {})
    for number, files in enumerate((ir_files, vis_files)):
        side, read, named = SIDES[number], readers[number].read, sides[number]
        shared = _Shared(readers, folders, number) if folders else None
        for file in files:
            pair_id, reason, detail = read(file.path, file.url)
            if shared and shared.is_others(file, reason):
                continue
            if reason:
                unmatched.append(_unmatched(pair_id, reason, f"{side}: {detail}", {side: file.url}))
            else:
                named.setdefault(fold(pair_id) if fold else pair_id, []).append((pair_id, file))
    pairs: list[Row] = []
    for key in sides[0] | sides[1]:
        ir, vis = sides[0].get(key, []), sides[1].get(key, [])
        if len(ir) == len(vis) == 1:
            pairs.append(_pair(ir[0][0], ir[0][1], vis[0][1]))
        else:
            unmatched.append(_no_pair({"ir": ir, "vis": vis}, naming))
    pairs.sort(key=lambda row: row["pair_id"])
    return pairs, sorted(unmatched, key=lambda row: (row["pair_id"], row["detail"]))


class _Shared:
    """Tells to which side a file belongs, where the listings of both sides hold it."""

    def __init__(self, readers: Sequence[NameReader], folders: tuple[str, str], number: int) -> None:
        """Take what is known of both sides; `number` is 0 for the files of the infrared listing."""
        self.folder, self.other_folder = folders[number], folders[1 - number]
        self.read_other = readers[1 - number].read
        ir, vis = (
            len(folder) + reader.pattern.num_fixed
            for folder, reader in zip(folders, readers, strict=True)
        )
        self.is_ir = number == 0
        self.is_spelled_out = (ir >= vis) == self.is_ir
        """Whether this side's folder and pattern spell out more of a name than the other's."""

    def is_others(self, file: FileInfo, reason: str) -> bool:
        """Return whether a file is the other side's; `reason` is why this side's pattern leaves it."""
        path = self.folder + file.path
        if not path.startswith(self.other_folder):
            return False  # the other listing does not hold it
        _, others_reason, _ = self.read_other(path.removeprefix(self.other_folder), file.url)
        if bool(reason) != bool(others_reason):
            return bool(reason)
        return not (self.is_ir if reason else self.is_spelled_out)


def _pair(pair_id: str, ir: FileInfo, vis: FileInfo) -> Row:
    return {
        "pair_id": pair_id,
        "ir_url": ir.url,
        "vis_url": vis.url,
        "ir_size": ir.size,
        "ir_etag": ir.etag,
        "vis_size": vis.size,
        "vis_etag": vis.etag,
    }


def _no_pair(sides: dict[str, list[tuple[str, FileInfo]]], naming: Naming) -> Row:
    """Return the row of a name that one side lacks, or has several files of."""
    urls = {side: found[0][1].url for side, found in sides.items() if found}
    pair_id = (sides["ir"] or sides["vis"])[0][0]
    several = [side for side in SIDES if len(sides[side]) > 1]
    if several:
        patterns = {"ir": naming.ir_pattern, "vis": naming.vis_pattern}
        detail = "; ".join(f"{side}: {_several(sides[side], side, patterns[side])}" for side in several)
        return _unmatched(pair_id, "ambiguous", detail, urls)
    detail = f"{'vis' if sides['ir'] else 'ir'}: no file of this name below the prefix"
    return _unmatched(pair_id, "missing_partner", detail, urls)


def _several(found: Sequence[tuple[str, FileInfo]], side: str, pattern: str) -> str:
    """Name the files of one name, and say what to do about them."""
    paths = [file.path for _, file in found]
    if len({pair_id for pair_id, _ in found}) > 1:
        advice = "they are one name by --ignore-case or --ignore-leading-zeros: rename all but one"
    elif narrower := of_one_extension(pattern, paths):
        advice = f"take one by --{side}-pattern {narrower!r} of jobs/index_archive.py"
    else:
        advice = "their extensions differ only in case: rename all but one"
    return f"{', '.join(map(repr, paths))}: {advice}"


def _unmatched(pair_id: str, reason: str, detail: str, side_urls: dict[str, str]) -> Row:
    row = {"pair_id": pair_id, "reason": reason, "detail": detail}
    row |= {f"{side}_url": side_urls.get(side, "") for side in SIDES}
    return {name: as_text(value) for name, value in row.items()}
