"""What a pair is known by: its name, its sources, and numbers that stand for them.

A run holds eight bytes for a name and eight for name and sources together, not the texts: the index and
the ledger of an archive are compared by these, and the texts are read where a row is needed.
"""

from __future__ import annotations

import secrets
from zlib import crc32

import numpy as np
import pandas as pd
from numpy.typing import NDArray

KEYS = ["pair_id", "ir_size", "ir_etag", "vis_size", "vis_etag"]
URLS = ["ir_url", "vis_url"]
HASH_KEY = secrets.token_hex(8)
"""Of this process alone: nobody can choose names that get the same number."""


def pair_keys(frame: pd.DataFrame) -> NDArray[np.uint64]:
    """Return a number for each row's pair_id; they compare within this process only."""
    return _numbers(frame[["pair_id"]])


def source_keys(frame: pd.DataFrame) -> NDArray[np.uint64]:
    """Return a number for each row's KEYS, a source as far as the index knows it."""
    return _numbers(frame[KEYS])


def partition_of(pair_ids: pd.Series, partition: tuple[int, int]) -> pd.Series:
    """Return which pairs belong to a part of an archive, the same in every run and on every machine.

    Args:
        pair_ids: names.
        partition: (k, n): the k-th, from 1, of n parts.
    """
    part, parts = partition
    places = [crc32(name.encode("utf-8", "surrogatepass")) % parts for name in pair_ids.to_numpy()]
    return pd.Series(places, index=pair_ids.index, dtype="int64") == part - 1


def _numbers(frame: pd.DataFrame) -> NDArray[np.uint64]:
    hashed = pd.util.hash_pandas_object(frame, index=False, hash_key=HASH_KEY, categorize=False)
    numbers: NDArray[np.uint64] = hashed.to_numpy(dtype=np.uint64)
    return numbers
