"""What a row of the pair index says about reading the pair: bands and a homography, as text.

Each has one form of text, so that equal values are equal texts: `1,2,3` and `1.0 0.0 5.0 ...`. A text
that means nothing is kept, and refused when its pair is read: one bad row stops no archive.
"""

from __future__ import annotations

import re

from cluster.archive.reasons import BadImage

BANDS = ("ir_bands", "vis_bands")
"""Columns of the numbers, from 1, of the bands that are read: one or three; empty for the picture."""
HOMOGRAPHY = "ir_to_vis"
"""Column of the nine numbers of a homography, row by row, from infrared to visible pixels; or empty."""
SEPARATORS = r"[\s,;\[\]()]+"
"""What may stand around and between the numbers of a text."""


def bands_of(column: str, text: str) -> tuple[int, ...] | None:
    """Return the bands that a text names; None where it is empty.

    Raises:
        BadImage: it names none; the message says the column.
    """
    words = _words(text)
    if not words:
        return None
    if len(words) in (1, 3) and all(re.fullmatch(r"0*[1-9][0-9]{0,5}(\.0*)?", word) for word in words):
        return tuple(int(float(word)) for word in words)
    raise BadImage(
        "wrong_type",
        f"{column} is {text[:60]!r}, expected the number of one band or of three, from 1, for example "
        "'4' or '1,2,3': correct the pair index, or leave it empty",
    )


def homography_of(text: str) -> tuple[float, ...] | None:
    """Return the nine numbers of a text; None where it is empty.

    Raises:
        BadImage: it has not nine numbers.
    """
    words = _words(text)
    if not words:
        return None
    try:
        numbers = tuple(map(float, words))
    except ValueError:
        numbers = ()
    if len(numbers) == 9:
        return numbers
    raise BadImage(
        "wrong_type",
        f"{HOMOGRAPHY} is {text[:200]!r}, expected nine numbers, row by row, of a homography from "
        "infrared to visible pixels: correct the pair index, or leave it empty",
    )


def bands_text(option: str) -> str:
    """Return the bands that an option of a command line names, in their one form.

    Raises:
        ValueError: it names none; the message is what was expected.
    """
    try:
        bands = bands_of("", option)
    except BadImage:
        bands = None
    if bands is None:
        raise ValueError("the number of one band or of three, from 1, for example 4 or 1,2,3")
    return ",".join(map(str, bands))


def bands_sql(column: str, kind: str) -> str:
    """Return the SQL for the text of a column of bands, of an SQL type; 4.0 becomes 4."""
    word = (
        "case when regexp_full_match(word, '0*[1-9][0-9]{0,5}(\\.0*)?') "
        "then word::double::bigint::varchar else word end"
    )
    return _sql(column, kind, word, ",")


def homography_sql(column: str, kind: str) -> str:
    """Return the SQL for the text of a column of homographies, of an SQL type."""
    return _sql(column, kind, "coalesce(try_cast(word as double)::varchar, word)", " ")


def _sql(column: str, kind: str, word: str, separator: str) -> str:
    text = f"array_to_string({column}, ' ')" if kind.endswith("]") else f"{column}::varchar"
    words = f"regexp_split_to_array(trim(regexp_replace({text}, '{SEPARATORS}', ' ', 'g')), ' ')"
    return (
        f"case when coalesce({text}, '') = '' then '' "
        f"else array_to_string(list_transform({words}, lambda word: {word}), '{separator}') end"
    )


def _words(text: str) -> list[str]:
    return [word for word in re.split(SEPARATORS, text) if word]
