"""Ranges of a file: only what is read is fetched, and of one version."""

import os

import pytest

from cluster.storage import objects
from cluster.storage.ranges import BLOCK_BYTES, FIRST_BYTES, RangeFile
from cluster.storage.urls import StorageError

DATA = os.urandom(FIRST_BYTES + 5 * BLOCK_BYTES + 100)


@pytest.fixture(params=["local", "s3", "memory"])
def url(request, tmp_path):
    place = {"local": str(tmp_path), "memory": f"memory://{tmp_path.name}"}.get(request.param)
    url = f"{place or request.getfixturevalue('s3')}/é a.bin"
    objects.put_bytes(url, DATA)
    return url


@pytest.fixture
def requests(monkeypatch):
    """What this process has asked the S3 server for, request by request."""
    import s3fs

    asked = []
    call = s3fs.S3FileSystem._call_s3

    async def noted(store, method, *given, **options):
        asked.append((method, options.get("Range", "")))
        return await call(store, method, *given, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", noted)
    return asked


def test_ranges_are_those_of_the_file_and_little_else_is_fetched(url):
    with RangeFile(url) as file:
        assert file.size == len(DATA)
        assert file.read(10) == DATA[:10] and file.read(4) == DATA[10:14]
        # one block for both, or the beginning; in memory, where it came without a version, both
        begun = file.num_fetched
        assert begun in (BLOCK_BYTES, FIRST_BYTES, FIRST_BYTES + BLOCK_BYTES)
        file.seek(-10, os.SEEK_END)
        assert file.read() == DATA[-10:] and file.read(5) == b""
        place = FIRST_BYTES + BLOCK_BYTES
        file.seek(place - 5)
        assert file.read(10) == DATA[place - 5 : place + 5]
        offsets, sizes = [place + 7, place + 100_000, len(DATA) - 3], [5, 70_000, 3]
        expected = [DATA[at : at + size] for at, size in zip(offsets, sizes, strict=True)]
        assert file.get_byte_ranges(offsets, sizes) == expected
        assert file.num_fetched == begun + 2 * BLOCK_BYTES + 100 + sum(sizes)
        file.seek(0)
        assert file.read() == DATA
        assert file.keep_whole() == DATA
        fetched = file.num_fetched
        assert file.get_byte_ranges(offsets, sizes) == expected and file.num_fetched == fetched


def test_the_version_that_is_read_is_the_one_that_a_listing_names(url):
    (listed,) = objects.list_files(url.rpartition("/")[0])
    with RangeFile(url) as file:
        assert file.etag == listed.etag


def test_a_file_that_is_replaced_while_it_is_read_is_an_error(url):
    with RangeFile(url) as file:
        file.read(10)
        objects.put_bytes(url, DATA[::-1])
        with pytest.raises(StorageError, match="replaced while it was read, expected one version"):
            file.get_byte_ranges([FIRST_BYTES], [100])
    with RangeFile(url) as file:
        objects.delete(url)
        with pytest.raises(StorageError, match="replaced while it was read"):
            file.keep_whole()


def test_a_file_of_the_first_bytes_costs_one_request(s3, requests):
    url = f"{s3}/a.bin"
    for size in (1, FIRST_BYTES - 1, FIRST_BYTES):
        objects.put_bytes(url, DATA[:size])
        requests.clear()
        with RangeFile(url) as file:
            assert file.keep_whole() == DATA[:size]
        assert requests == [("get_object", f"bytes=0-{FIRST_BYTES - 1}")]
    objects.put_bytes(url, DATA)
    requests.clear()
    with RangeFile(url) as file:
        assert file.keep_whole() == DATA and file.num_fetched == len(DATA)
    assert len(requests) == 2
    requests.clear()
    with RangeFile(url, first_bytes=2 * len(DATA)) as file:
        assert file.read() == DATA and file.num_fetched == len(DATA)
    assert len(requests) == 1


def test_an_empty_file_is_one(url):
    objects.put_bytes(url, b"")
    with RangeFile(url) as file:
        assert (file.size, file.read(), file.keep_whole()) == (0, b"", b"")


def test_a_store_that_knows_no_ranges_gives_the_whole_file_once(s3, requests, monkeypatch):
    import s3fs

    call = s3fs.S3FileSystem._call_s3

    async def without_range(store, method, *given, **options):
        return await call(store, method, *given, **{k: v for k, v in options.items() if k != "Range"})

    url = f"{s3}/a.bin"
    objects.put_bytes(url, DATA)
    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", without_range)
    requests.clear()
    with RangeFile(url) as file:
        file.seek(-100, os.SEEK_END)
        assert file.read() == DATA[-100:] and file.keep_whole() == DATA
    assert len(requests) == 1


def test_what_is_no_file_is_named(url, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        RangeFile(url.replace("a.bin", "nothing"))
    with pytest.raises(StorageError, match="no regular file"):
        RangeFile(str(tmp_path))
