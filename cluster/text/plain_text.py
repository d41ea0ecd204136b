"""Text that comes from outside, made fit to be shown: one line, no secret, nothing a terminal obeys.

Names of files, messages of parsers and URLs all may hold what an archive's owner never meant to print.
"""

from __future__ import annotations

import re

SECRETS = (
    # user:password@, also where the password holds a slash or no scheme is before it
    (re.compile(r"(\w+://)?[^\s'\"/(]*:(?!//)[^\s'\"]*@"), r"\1"),
    (re.compile(r"(\w+://)[^/\s'\"@]*@"), r"\1"),
    (re.compile(r"(?<=[^\s'\"(])\?[^\s'\")]+"), ""),
)
"""What looks like a credential in a URL, and what is left of it."""


def printable(text: str) -> str:
    """Return text with a ? for each letter that is no letter to see: it moves no cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def one_line(text: object) -> str:
    """Return an error or a URL as one line to print, with what looks like a credential taken out."""
    line = " ".join(str(text).split())
    for pattern, left in SECRETS:
        line = pattern.sub(left, line)
    return printable(line)
