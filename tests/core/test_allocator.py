"""Memory that a process keeps: what the next image takes is there already."""

import subprocess
import sys

import pytest

from dmnet_core.allocator import keep_memory

PROGRAM = """
import resource, sys, torch
from dmnet_core.allocator import keep_memory
if sys.argv[1] == "keep":
    assert keep_memory()
for _ in range(8):  # until what is kept fits
    maps = [torch.zeros(12_000_000) for _ in range(4)]  # 48 MB each: above what malloc keeps by itself
    del maps
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
maps = [torch.zeros(12_000_000) for _ in range(4)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not keep_memory(), reason="the C library is not glibc on Linux")
def test_memory_that_was_freed_is_not_faulted_in_again():
    faults = {}
    for what in ("keep", "leave"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, what], capture_output=True, text=True, check=True
        )
        faults[what] = int(done.stdout)
    assert faults["keep"] < 0.1 * faults["leave"]
