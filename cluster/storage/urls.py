"""URLs of files and folders, and the error for one that cannot be used.

A URL is a local path or s3://bucket/key; any other fsspec scheme works where its package is installed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable


class StorageError(ValueError):
    """A store or an object can't be used as asked; one line without credentials."""


def is_remote(url: str) -> bool:
    """Return whether a URL has a scheme other than file."""
    return "://" in url and not url.startswith("file://")


def is_web(url: str) -> bool:
    """Return whether a URL is of a web server: files there can be read, not listed and not written."""
    return url.startswith(("http://", "https://"))


def local_path(url: str) -> str:
    """Return the path of a local URL."""
    return url.removeprefix("file://")


def absolute_url(url: str) -> str:
    """Return a local path as an absolute one, any other URL as it is."""
    return url if is_remote(url) else os.path.abspath(local_path(url))


def expand_home(path: str) -> str:
    """Return a path that begins with ~ or ~user with that user's home in place of it, any other as it is.

    Raises:
        ValueError: there is no such user.
    """
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        user = path.partition("/")[0]
        raise ValueError(
            f"path {path!r} begins with {user!r}, expected a user of this machine behind the ~: correct "
            f"it, or write './{path}' for a file or folder of that name"
        )
    return expanded


def join_url(url: str, *parts: str) -> str:
    """Return the URL of something below `url`."""
    return "/".join([url.rstrip("/") or "/", *(part.strip("/") for part in parts)])


def path_below(url: str, folder_url: str) -> str | None:
    """Return the path of a URL below a folder: empty where it is the folder, None where it is elsewhere.

    Spellings of one place are equal: a relative path, a slash at the end, a link to a local folder, and
    credentials or their absence.
    """
    for resolved in (os.path.abspath, os.path.realpath):
        place, folder = (_place(given, resolved) for given in (url, folder_url))
        if place == folder:
            return ""
        if place.startswith(f"{folder}/"):
            return place[len(folder) + 1 :]
    return None


def _place(url: str, resolved: Callable[[str], str]) -> str:
    if not is_remote(url):
        return resolved(local_path(url)).rstrip("/")
    scheme, _, rest = redact_url(url).rstrip("/").partition("://")
    return f"{'s3' if scheme == 's3a' else scheme}://{rest}"


def redact_url(url: str) -> str:
    """Return a URL without user, password and query, which may be secrets."""
    if not is_remote(url):
        return url
    scheme, rest = url.split("://", 1)
    if not any(mark in rest for mark in "?@:"):
        return url
    before, _, query = rest.partition("?")
    if "=" in query or scheme not in ("s3", "s3a"):  # there a ? may be a letter of the key
        rest = before
    host = rest.partition("/")[0]
    if "@" in host:
        rest = host.rpartition("@")[2] + rest[len(host) :]
    elif re.search(r"^[^\[].*:(?!\d*$)", host):  # no port: a password that holds a slash
        rest = rest.partition("@")[2]
    return f"{scheme}://{rest}"
