"""How stores are reached: the fsspec file system of a scheme, its time limits and retries, its errors."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeVar

import fsspec
import pyarrow.fs

from cluster.storage.urls import StorageError, is_remote, local_path, redact_url
from cluster.text.plain_text import one_line

SILENCE_S = 15
"""A connection on which nothing moves for so long is given up, and the request sent again."""
S3_ROUNDS = 3
"""Times that s3fs has botocore try a request, and that it reads a body again from its start."""
KEYS_PER_PAGE = 1000
"""Most objects that one answer to a listing names; S3 allows no more."""
TRANSIENT_STATUS = (429, 500, 502, 503, 504)
T = TypeVar("T")


def _new_socket(address: tuple[Any, ...]) -> socket.socket:
    """Return a socket that ends a PUT which the store doesn't read; aiohttp has no limit for that."""
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_S * 1000)
    return made


S3_OPTIONS: dict[str, Any] = {
    "use_listings_cache": False,
    # An object is one GET: ranges side by side may be of two versions, and a cut one isn't repeated.
    "max_concurrency": 1,
    "config_kwargs": {
        "connect_timeout": 5,
        "read_timeout": SILENCE_S,
        # 6 attempts, with waits of up to 1, 2, 4, 8 and 16 s: with S3_ROUNDS about 45 s of patience
        "retries": {"mode": "standard", "max_attempts": 5},
        "connector_args": {"socket_factory": _new_socket},
    },
}


def arrow_filesystem(url: str) -> tuple[Any, str]:
    """Return the file system as pyarrow has it, None for a local one, and the path on it."""
    if not is_remote(url):
        return None, local_path(url)
    store = filesystem(url.split("://", 1)[0])
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(store)), store._strip_protocol(url)


@cache
def filesystem(scheme: str, *, asynchronous: bool = False) -> fsspec.AbstractFileSystem:
    """Return the file system of a scheme, with this project's limits and retries; one a process.

    Args:
        scheme: what stands before :// in a URL.
        asynchronous: whether its coroutines are awaited in the caller's event loop, as zarr does.

    Raises:
        StorageError: fsspec knows no such scheme, or lacks the package or the settings for it.
    """
    if scheme not in ("s3", "s3a"):
        try:
            found = fsspec.filesystem(scheme)
            if not asynchronous:
                return found
            return fsspec.filesystem(scheme, asynchronous=True) if found.async_impl else _awaited(found)
        except (ImportError, TypeError, ValueError) as error:
            raise StorageError(
                f"URLs of {scheme}:// can't be used ({type(error).__name__}: {short_line(error)}), "
                "expected local paths, s3://, or another scheme of fsspec whose package is installed: "
                "install it, or copy the files to a place that can be used"
            ) from error
    import s3fs

    # By itself s3fs tries again after SlowDown, not after the same answer to a HEAD, which has no body.
    s3fs.core.set_custom_error_handler(may_pass)
    filesystem = fsspec.filesystem(scheme, asynchronous=asynchronous, **S3_OPTIONS)
    filesystem.retries = S3_ROUNDS
    return filesystem


def _awaited(plain: fsspec.AbstractFileSystem) -> fsspec.AbstractFileSystem:
    from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

    return AsyncFileSystemWrapper(plain, asynchronous=True)


def list_pages(url: str) -> Iterator[list[dict[str, Any]]]:
    """Yield the objects below a URL as fsspec describes them, page by page where the store is S3."""
    scheme = url.split("://", 1)[0]
    if scheme not in ("s3", "s3a"):
        yield list(guarded(url, lambda store: store.find(url, detail=True)).values())
        return
    bucket, _, key = filesystem(scheme)._strip_protocol(url).rstrip("/").partition("/")
    request = {"Bucket": bucket, "Prefix": f"{key}/" if key else "", "MaxKeys": KEYS_PER_PAGE}
    while True:
        page = guarded(url, lambda store: store.call_s3("list_objects_v2", **request))
        yield [
            {"name": f"{bucket}/{found['Key']}", "type": "file", "size": found["Size"]} | found
            for found in page.get("Contents", ())
        ]
        if not page.get("IsTruncated"):
            return
        request["ContinuationToken"] = page["NextContinuationToken"]


def may_pass(error: BaseException | None) -> bool:
    """Return whether a store's error may be gone at the next try: overload, a connection that broke."""
    import s3fs
    from botocore.exceptions import ClientError, ConnectionError  # type: ignore[import-untyped]

    if isinstance(error, ClientError):
        return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in TRANSIENT_STATUS
    return isinstance(error, (ConnectionError, *s3fs.core.S3_RETRYABLE_ERRORS))


def guarded(url: str, call: Callable[[fsspec.AbstractFileSystem], T]) -> T:
    """Call with the file system of a URL; any failure but a missing object is a StorageError."""
    try:
        return call(filesystem(url.split("://", 1)[0]))
    except StorageError:
        raise
    except FileNotFoundError as error:
        if _lacks_bucket(error):
            raise storage_error(url, error) from error
        # Some stores answer without a text, and then the error by itself says "None".
        raise FileNotFoundError(errno.ENOENT, "no such object", redact_url(url)) from error
    # Each store's library raises its own errors, botocore's share no base with OSError.
    except Exception as error:
        raise storage_error(url, error) from error


def _lacks_bucket(error: BaseException | None) -> bool:
    """Return whether a store's answer behind an error was that there is no such bucket."""
    from botocore.exceptions import ClientError

    while error is not None:
        answer = error.response if isinstance(error, ClientError) else {}
        if answer.get("Error", {}).get("Code") == "NoSuchBucket":
            return True
        error = error.__cause__ or error.__context__
    return False


def storage_error(url: str, error: Exception) -> StorageError:
    """Return what a library raised about a URL as one line without credentials, and what to do."""
    if is_remote(url):
        hint = "check the URL, the credentials and the endpoint"
        if may_pass(error) or may_pass(error.__cause__):
            hint += ", and run the same command again when the store is well"
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "make room and run the same command again"
    else:
        hint = "check the path"
    return StorageError(
        f"{redact_url(url)!r} can't be used ({type(error).__name__}: {short_line(error)}): {hint}"
    )


def short_line(error: Exception) -> str:
    """Return an error's text in one line, with what looks like a credential in a URL taken out."""
    return one_line(error)[:300]
