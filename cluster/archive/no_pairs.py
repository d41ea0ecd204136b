"""What to tell a user whose two prefixes give no pair."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cluster.archive.name_reader import UNFIT
from cluster.archive.naming import READ_EXTENSIONS, Naming
from cluster.storage.urls import redact_url

SIDES = {"ir": "infrared", "vis": "visible"}
FOLDINGS = {
    "--ignore-case": Naming(ignore_case=True),
    "--ignore-leading-zeros": Naming(ignore_leading_zeros=True),
    "--ignore-case --ignore-leading-zeros": Naming(ignore_case=True, ignore_leading_zeros=True),
}
"""Options of index_archive by which more names are equal."""

Row = dict[str, Any]


def no_pairs_message(
    prefixes: dict[str, str], num_files: dict[str, int], naming: Naming, unmatched: list[Row]
) -> str:
    """Return the error for two prefixes without a pair: what was left out and why, and what to do.

    Args:
        prefixes: URL of the prefix of each side.
        num_files: number of files below it.
        naming: how their names were read.
        unmatched: every name below the prefixes, as `match_pairs` lists them.
    """
    ir, vis = (redact_url(prefixes[side]) for side in SIDES)
    left_out = "; ".join(
        f"{reason}: {count}, for example {row['pair_id']!r} ({row['detail']})"
        for reason, count, row in counted(unmatched)
    )
    return (
        f"no infrared file below {ir!r} has a visible partner below {vis!r}. Names left out: "
        f"{left_out or 'none'}. {_advice(num_files, naming, unmatched)}"
    )


def counted(unmatched: list[Row]) -> list[tuple[str, int, Row]]:
    """Return each reason of unmatched names, how many names have it, and the first of them."""
    counts = Counter(row["reason"] for row in unmatched)
    first = {row["reason"]: row for row in reversed(unmatched)}
    return [(reason, count, first[reason]) for reason, count in counts.most_common()]


def _advice(num_files: dict[str, int], naming: Naming, unmatched: list[Row]) -> str:
    names: dict[str, set[str]] = {}
    for side, word in SIDES.items():
        pattern = getattr(naming, f"{side}_pattern")
        rows = [row for row in unmatched if row[f"{side}_url"]]
        reasons = {row["reason"] for row in rows}
        if not num_files[side]:
            return f"The {word} folder is empty, expected images: check --{side}"
        if rows and reasons <= {"not_image"}:
            return (
                f"None of the {word} files is an image that is read, expected one of the extensions "
                f"{', '.join(sorted(READ_EXTENSIONS))}: check --{side}, or convert the files"
            )
        if rows and reasons <= {"not_image", "other_extension"}:
            return (
                f"No {word} file has the extension that {pattern!r} names, expected files that have: "
                f"change --{side}-pattern"
            )
        unfit = {row["pair_id"] for row in rows if UNFIT in row["detail"]}
        names[side] = {row["pair_id"] for row in rows if row["reason"] == "missing_partner"} - unfit
        if unfit and not names[side] and "ambiguous" not in reasons:
            return (
                f"No {word} name fits {pattern!r}, expected names that do: change --{side}-pattern of "
                "jobs/index_archive.py"
            )
    if "ambiguous" in {row["reason"] for row in unmatched} or not all(names.values()):
        return "Expected one file of each name on each side: what to do stands beside the examples"
    for options, folding in FOLDINGS.items():
        fold = folding.fold()
        assert fold is not None
        if num := len(set(map(fold, names["ir"])) & set(map(fold, names["vis"]))):
            return f"Expected equal names, as {num} are by {options} of jobs/index_archive.py"
    ir, vis = (min(names[side]) for side in SIDES)
    return (
        f"Expected equal relative paths without extension, not names as {ir!r} and {vis!r}: say by "
        "--ir-pattern and --vis-pattern of jobs/index_archive.py where in them the pair_id is (for "
        "example '{id}_ir' and '{id}_rgb'), or write an index of your own with the columns pair_id, "
        "ir_url and vis_url"
    )
