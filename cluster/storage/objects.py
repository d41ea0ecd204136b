"""Files and objects as bytes, on local folders and object stores: list, read, put, create, delete.

Every write puts one whole object, so nobody ever sees half of one.
"""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO

import fsspec

from cluster.storage.s3 import filesystem, guarded, list_pages, storage_error
from cluster.storage.urls import StorageError, is_remote, is_web, local_path, redact_url

HALF_PUT = ".put-"
"""Beginning of the name of a local file that a process is writing, or was when it died."""
NUM_THREADS = 16
"""Requests to a store that one process has under way at once."""


@dataclass(frozen=True)
class FileInfo:
    """One file of a listing."""

    path: str
    """Below the listed URL, with forward slashes."""
    url: str
    """Whole URL."""
    size: int
    """Size in bytes; -1 where it is not known, as of a dangling link."""
    etag: str
    """What the store calls this version of the bytes; changes when they change."""


def list_files(url: str) -> list[FileInfo]:
    """Return every file below a folder or prefix, sorted by path.

    Linked folders are followed once each, so that a loop of links ends.

    Raises:
        StorageError: there is no such folder, nothing below the prefix, or no way to it.
    """
    if is_web(url):
        raise StorageError(
            f"{redact_url(url)!r} is a folder of a web server, which can't be listed, expected a local "
            "folder, an s3:// prefix or one of another store that fsspec lists: for images on a web "
            "server give an --index whose ir_url and vis_url are the https:// URLs of the single files"
        )
    if is_remote(url):
        files = list(_find_remote(url))
        if not files:
            raise StorageError(
                f"nothing is below {redact_url(url)!r}, expected objects: check bucket and prefix"
            )
    else:
        root = local_path(url)
        if not os.path.isdir(root):
            kind = "a file" if os.path.exists(root) else "not there"
            raise StorageError(f"{root!r} is {kind}, expected a folder: check the path")
        files = list(_walk(root))
    return sorted(files, key=lambda file: file.path)


def exists(url: str) -> bool:
    """Return whether there is an object (or, locally, also a folder) of this URL."""
    if not is_remote(url):
        return os.path.exists(local_path(url))
    return bool(guarded(url, lambda filesystem: filesystem.exists(url)))


def read_bytes(url: str) -> bytes:
    """Return a whole file.

    Raises:
        FileNotFoundError: there is none.
        StorageError: it can't be read.
    """
    if is_remote(url):
        data: bytes = guarded(url, lambda filesystem: filesystem.cat_file(url))
        return data
    with open_regular(url) as file:
        try:
            return file.read()
        except OSError as error:
            raise storage_error(url, error) from error


def open_regular(url: str) -> BinaryIO:
    """Open a local file for reading, unbuffered.

    Raises:
        FileNotFoundError: there is none.
        StorageError: it is a folder, a pipe or a device, or can't be opened.
    """
    try:
        # Without waiting, since a pipe may lie there, and nobody may write to it.
        handle = os.open(local_path(url), os.O_RDONLY | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise StorageError(f"{url!r} is no regular file, expected one: check the path")
        return os.fdopen(handle, "rb", buffering=0)
    except (FileNotFoundError, StorageError):
        raise
    except (OSError, ValueError) as error:
        raise storage_error(url, error) from error


def local_etag(status: os.stat_result) -> str:
    """Return what tells a version of a local file from others: the time of its change and its size."""
    return f"{status.st_mtime_ns:x}-{status.st_size:x}"


def put_bytes(url: str, data: bytes) -> None:
    """Write a whole file, visible only once it is complete; makes the folders it needs.

    Raises:
        StorageError: it can't be written.
    """
    if is_remote(url):
        _put(url, lambda filesystem: filesystem.pipe_file(url, data))
        return
    with file_to_put(url) as path, open(path, "wb") as file:
        file.write(data)


def create_bytes(url: str, data: bytes) -> bool:
    """Write a small file where none is yet; return whether it was written: the store lets one win.

    Locally a reader may find it empty for a moment.

    Raises:
        StorageError: it can't be written.
    """
    if is_remote(url):
        try:
            filesystem(url.split("://", 1)[0]).pipe_file(url, data, mode="create")
        except FileExistsError:
            return False
        except Exception as error:
            code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code")
            if code in ("PreconditionFailed", "ConditionalRequestConflict"):
                return False
            raise storage_error(url, error) from error
        return True
    path = local_path(url)
    created = False
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "xb") as file:
            created = True
            file.write(data)
    except FileExistsError:
        return False
    except OSError as error:
        if created:  # the disk is full
            os.unlink(path)
        raise storage_error(url, error) from error
    return True


def delete(url: str) -> None:
    """Remove a file; one that is not there is no error."""
    try:
        if is_remote(url):
            guarded(url, lambda filesystem: filesystem.rm_file(url))
        else:
            os.unlink(local_path(url))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise storage_error(url, error) from error


def find_files(url: str) -> Iterator[FileInfo]:
    """Yield the files of a folder or prefix, of which nothing need be there, in no certain order.

    Raises:
        StorageError: there is no way to it.
    """
    if is_remote(url):
        yield from _find_remote(url)
    elif os.path.exists(local_path(url)):
        yield from _walk(local_path(url))


def is_file(url: str) -> bool:
    """Return whether something that is no folder is there."""
    if is_remote(url):
        try:
            # Not its `isfile`, which takes every error for an answer of no.
            return bool(guarded(url, lambda filesystem: filesystem.info(url))["type"] == "file")
        except FileNotFoundError:
            return False
    return os.path.exists(local_path(url)) and not os.path.isdir(local_path(url))


def fetch(url: str, path: str) -> None:
    """Copy a file to a local path.

    Raises:
        StorageError: it is not there or cannot be read, or the path cannot be written.
    """
    try:
        data = read_bytes(url)
    except FileNotFoundError as error:
        raise storage_error(url, error) from error
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise storage_error(path, error) from error


@contextmanager
def file_to_put(url: str) -> Iterator[str]:
    """Yield a path to write a file to, which is then put whole; makes the folders it needs."""
    remote, path = is_remote(url), local_path(url)
    folder = tempfile.gettempdir() if remote else os.path.dirname(path) or "."
    temporary = os.path.join(folder, HALF_PUT + secrets.token_hex(8))
    try:
        os.makedirs(folder, exist_ok=True)
        # Made by an ordinary open, so that it gets the permissions of the process's umask.
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if remote else 0o666))
        yield temporary
        if remote:
            _put(url, lambda filesystem: filesystem.put_file(temporary, url))
        else:
            os.replace(temporary, path)
    except OSError as error:
        raise storage_error(temporary if remote else url, error) from error
    finally:
        with suppress(OSError):  # it is in its place
            os.unlink(temporary)


def _put(url: str, call: Callable[[fsspec.AbstractFileSystem], None]) -> None:
    try:
        guarded(url, call)
    except FileNotFoundError as error:  # the store has forgotten an upload in parts
        raise storage_error(url, error) from error


def _walk(root: str) -> Iterator[FileInfo]:
    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_raise):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        for name in files:
            path = os.path.join(folder, name)
            try:
                info = os.stat(path)
                size, etag = info.st_size, local_etag(info)
            except OSError:
                size, etag = -1, ""
            relative = os.path.relpath(path, root).replace(os.sep, "/")
            yield FileInfo(relative, os.path.abspath(path), size, etag)


def _raise(error: OSError) -> None:
    raise storage_error(str(error.filename), error) from error


def _find_remote(url: str) -> Iterator[FileInfo]:
    scheme = url.split("://", 1)[0]
    prefix = filesystem(scheme)._strip_protocol(url).rstrip("/") + "/"
    for page in list_pages(url):
        for info in page:
            name = str(info["name"])
            if info.get("type") == "file" and name.startswith(prefix) and not name.endswith("/"):
                yield FileInfo(
                    path=name.removeprefix(prefix),
                    url=f"{scheme}://{name}",
                    size=-1 if info.get("size") is None else int(info["size"]),
                    etag=str(info.get("ETag", info.get("etag", ""))).strip('"'),
                )
