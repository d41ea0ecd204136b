"""Ranges of a file: only what is read is fetched, and of one version."""

import os

import pytest

from cluster.storage import objects
from cluster.storage.ranges import BLOCK_BYTES, RangeFile
from cluster.storage.urls import StorageError

DATA = os.urandom(5 * BLOCK_BYTES + 100)


@pytest.fixture(params=["local", "s3", "memory"])
def url(request, tmp_path):
    place = {"local": str(tmp_path), "memory": f"memory://{tmp_path.name}"}.get(request.param)
    url = f"{place or request.getfixturevalue('s3')}/é a.bin"
    objects.put_bytes(url, DATA)
    return url


def test_ranges_are_those_of_the_file_and_little_else_is_fetched(url):
    with RangeFile(url) as file:
        assert file.size == len(DATA)
        assert file.read(10) == DATA[:10] and file.read(4) == DATA[10:14]
        assert file.num_fetched == BLOCK_BYTES  # one block for both
        file.seek(-10, os.SEEK_END)
        assert file.read() == DATA[-10:] and file.read(5) == b""
        file.seek(BLOCK_BYTES - 5)
        assert file.read(10) == DATA[BLOCK_BYTES - 5 : BLOCK_BYTES + 5]
        offsets, sizes = [7, 100_000, len(DATA) - 3], [5, 70_000, 3]
        expected = [DATA[at : at + size] for at, size in zip(offsets, sizes, strict=True)]
        assert file.get_byte_ranges(offsets, sizes) == expected
        assert file.num_fetched == 2 * BLOCK_BYTES + 100 + sum(sizes)
        file.seek(0)
        assert file.read() == DATA


def test_the_version_that_is_read_is_the_one_that_a_listing_names(url):
    (listed,) = objects.list_files(url.rpartition("/")[0])
    with RangeFile(url) as file:
        assert file.etag == listed.etag


def test_a_file_that_is_replaced_while_it_is_read_is_an_error(url):
    with RangeFile(url) as file:
        file.read(10)
        objects.put_bytes(url, DATA[::-1])
        with pytest.raises(StorageError, match="replaced while it was read, expected one version"):
            file.get_byte_ranges([200_000], [100])
    with RangeFile(url) as file:
        objects.delete(url)
        with pytest.raises(StorageError, match="replaced while it was read"):
            file.read(10)


def test_what_is_no_file_is_named(url, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        RangeFile(url.replace("a.bin", "nothing"))
    with pytest.raises(StorageError, match="no regular file"):
        RangeFile(str(tmp_path))
