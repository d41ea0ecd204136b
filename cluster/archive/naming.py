"""How the files of an archive are named: patterns of paths, from which the pair_ids come."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

READ_EXTENSIONS = frozenset("png jpg jpeg jpe jfif tif tiff bmp webp".split())
"""Extensions of the formats that are read."""
IMAGE_EXTENSIONS = READ_EXTENSIONS | frozenset("gif jp2 j2k heic heif avif pgm ppm pnm".split())
"""A file with another extension is no image of the archive; one without any may be."""
PART = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""A named part of a pattern."""
LEADING_ZEROS = re.compile(r"(?<![0-9])(?<![0-9]\.)0+(?=[0-9])")
"""The zeros before a whole number; those behind a decimal point are none of them."""


class NamePattern:
    """How the paths of one side's files spell pair_ids.

    A pattern is a path with named parts, `{set}/lwir/{frame}`. The part `{id}` may span folders, the
    others stand for text without a slash. A pattern that ends in the extension of an image, `{id}.tiff`,
    takes files of that extension alone, in any case; any other takes every extension.
    """

    def __init__(self, text: str, *, flag: str = "pattern", ignore_case: bool = False) -> None:
        """Make a pattern of its text.

        Args:
            text: the pattern.
            flag: option that it was given with, for messages.
            ignore_case: whether letters fit in either case.

        Raises:
            ValueError: the text is no pattern.
        """
        pieces = PART.split(text)
        fixed, names = pieces[::2], pieces[1::2]
        self.text = text
        self.names = tuple(names)
        """Names of the parts, in the order of the pattern."""
        self.num_fixed = sum(map(len, fixed))
        """Number of letters outside the parts."""
        wrong = ""
        if not names or any("{" in piece or "}" in piece for piece in fixed):
            wrong = (
                "the text '{id}' exactly once, standing for the pair_id (for example '{id}_ir'), or "
                "several named parts (for example '{set}/lwir/{frame}'), and no other brace"
            )
        elif len(set(names)) < len(names):
            wrong = "each name in braces once"
        elif not all(fixed[1:-1]):
            wrong = "some text between two parts, since nothing else says where one ends"
        if wrong:
            raise ValueError(f"{flag} is {text!r}, expected {wrong}")
        stem, _, extension = fixed[-1].rpartition(".")
        self.extension = extension.lower() if extension.lower() in IMAGE_EXTENSIONS else ""
        """Extension that the pattern names, in small letters; empty where any will do."""
        if self.extension:
            fixed[-1] = stem
        spelled = re.escape(fixed[0])
        for name, piece in zip(names, fixed[1:], strict=True):
            spelled += f"(?P<{name}>{'.' if name == 'id' else '[^/]'}+)" + re.escape(piece)
        self.spelled = re.compile(spelled, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


@dataclass(frozen=True, kw_only=True)
class Naming:
    """How the files of an archive are named."""

    ir_pattern: str = "{id}"
    """Pattern of the infrared paths."""
    vis_pattern: str = "{id}"
    """Pattern of the visible paths, of the same named parts."""
    ignore_case: bool = False
    """Whether names that differ only in upper and lower case are one."""
    ignore_leading_zeros: bool = False
    """Whether names that differ only in the zeros before a number are one."""

    def __post_init__(self) -> None:
        ir, vis = self.patterns()
        if set(ir.names) != set(vis.names):
            raise ValueError(
                f"--ir-pattern is {ir.text!r} and --vis-pattern {vis.text!r}, expected the same names in "
                "braces in both: together they are the pair_id"
            )

    def patterns(self) -> tuple[NamePattern, NamePattern]:
        """Return the pattern of the infrared and that of the visible side."""
        return (
            NamePattern(self.ir_pattern, flag="--ir-pattern", ignore_case=self.ignore_case),
            NamePattern(self.vis_pattern, flag="--vis-pattern", ignore_case=self.ignore_case),
        )

    def fold(self) -> Callable[[str], str] | None:
        """Return what makes one key of all spellings of a pair_id; None where each is its own key."""
        if not (self.ignore_case or self.ignore_leading_zeros):
            return None

        def folded(pair_id: str) -> str:
            key = pair_id.casefold() if self.ignore_case else pair_id
            return LEADING_ZEROS.sub("", key) if self.ignore_leading_zeros else key

        return folded


def of_one_extension(pattern: str, paths: Sequence[str]) -> str:
    """Return a pattern that takes one of the files of one name; empty if extensions are equal."""
    extensions = {split_extension(path)[2].lower() for path in paths}
    return f"{pattern}.{max(extensions)}" if len(extensions) == len(paths) else ""


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
