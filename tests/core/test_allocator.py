"""Memory that a process keeps: what the next image takes is there already."""

import platform
import subprocess
import sys

import pytest

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


GLIBC = platform.libc_ver()[0] == "glibc"


@pytest.mark.skipif(not GLIBC, reason="the C library is not glibc on Linux")
def test_memory_that_was_freed_is_not_faulted_in_again():
    faults = {}
    for what in ("keep", "leave"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, what], capture_output=True, text=True, check=True
        )
        faults[what] = int(done.stdout)
    assert faults["keep"] < 0.1 * faults["leave"]


RENEWING = """
import torch
from dmnet_core.allocator import keep_memory, renew_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
assert not renew_memory((1, 1, 2000, 2000))  # nothing is kept yet
assert keep_memory()
renew_memory((1, 1, 1000, 1000))
maps = [torch.zeros(12_000_000) for _ in range(4)]
del maps
kept = resident()
assert not renew_memory((1, 1, 1000, 1000)) and resident() > 0.9 * kept
assert renew_memory((1, 1, 1000, 1024)) and resident() < kept - 150e6
renew_memory((1, 1, 64, 64))
assert not renew_memory((1, 1, 64, 96))  # small images
"""


@pytest.mark.skipif(not GLIBC, reason="the C library is not glibc on Linux")
def test_memory_of_large_images_is_given_back_where_their_size_changes():
    done = subprocess.run([sys.executable, "-c", RENEWING], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
