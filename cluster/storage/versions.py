"""Versions of files that are not opened: what a store tells of each, and one digest of many."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cluster.storage.objects import NUM_THREADS, find_files, local_etag
from cluster.storage.s3 import guarded, storage_error
from cluster.storage.urls import StorageError, is_remote, local_path, redact_url

DIGEST_BYTES = 16


def digest_versions(versions: Iterable[str]) -> str:
    """Return a digest of the versions of several files, in whatever order they come."""
    total = 0
    for version in versions:  # summed up, so that a million need not be kept and sorted
        digest = hashlib.blake2b(version.encode(errors="backslashreplace"), digest_size=DIGEST_BYTES)
        total += int.from_bytes(digest.digest(), "big")
    return f"{total % 2 ** (8 * DIGEST_BYTES):0{2 * DIGEST_BYTES}x}"


def versions_below(url: str) -> Iterator[str]:
    """Yield path, size and etag of each file below a folder or prefix, from one listing.

    Raises:
        StorageError: it can't be listed.
    """
    for file in find_files(url):
        yield f"{file.path} {file.size} {file.etag}"


def versions_of(urls: Iterable[str]) -> Iterator[str]:
    """Yield the number of each file with what its store tells of it, nothing where there is no such file.

    Each file takes one request, and several requests are under way at once.

    Raises:
        StorageError: a store can't be asked.
    """
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for number, version in enumerate(pool.map(_version_of, urls)):
            yield f"{number} {version}"


def info_of(url: str) -> dict[str, Any]:
    """Return what a remote store tells of a file, as fsspec has it.

    Raises:
        FileNotFoundError: there is no such file.
        StorageError: the store can't be asked.
    """
    info: dict[str, Any] = guarded(url, lambda store: store.info(url))
    if info.get("type") == "directory":
        raise FileNotFoundError(f"{redact_url(url)!r} is a folder")
    return info


def info_if_told(url: str) -> dict[str, Any]:
    """Return what a remote store tells of a file; nothing where it tells nothing, as some web servers."""
    try:
        return info_of(url)
    except (FileNotFoundError, StorageError):
        return {}


def etag_in(info: dict[str, Any]) -> str:
    """Return the etag in what a store tells of a file; empty where there is none."""
    return str(info.get("ETag", info.get("etag", ""))).strip('"')


def version_in(info: dict[str, Any]) -> list[str]:
    """Return the parts of what a store tells of a file that change with its bytes."""
    names = ("ETag", "etag", "size", "mtime", "created", "LastModified", "last_modified", "generation")
    return [f"{name}={info[name]}" for name in names if name in info]


def _version_of(url: str) -> str:
    try:
        if not is_remote(url):
            return local_etag(os.stat(local_path(url)))
        is_s3 = url.startswith(("s3://", "s3a://"))
        return " ".join(version_in(info_of(url) if is_s3 else info_if_told(url)))
    except FileNotFoundError:
        return ""
    except StorageError:
        raise
    except OSError as error:
        raise storage_error(url, error) from error
