"""A pair that kills the process that reads, fuses or writes it, each time: the run goes on without it."""

import dataclasses
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from cluster.storage import fused_store, objects, urls
from dmnet_core.checkpoint import save_checkpoint
from dmnet_core.model import DMNet
from dmnet_core.model.config import PARTS
from dmnet_core.synthetic import render_scene
from tests.chaos.faulty_s3 import Faults
from tests.core.test_model import TINY
from tests.e2e.archives import (
    check_pixels,
    fuse_arguments,
    png,
    processes_of,
    read_metrics,
    read_rejected,
    write_archive,
)
from tests.e2e.shared_ray import SharedRay

pytestmark = [pytest.mark.own_ray, pytest.mark.kills, pytest.mark.slow]
POISON = "day/001"
LARGE = 1200
"""Height and width; its fused colours, as floats, are more than `write_window`'s COUNTED_BYTES."""
ONE_WINDOW = ["--window", "1280"]
"""Options by which LARGE x LARGE pixels are one window."""
FUSER_LIMIT = 900_000_000
"""Bytes: an actor that holds the network has half of it, one that fuses LARGE goes beyond it."""


def write_large(archive):
    """Make the poison pair a large one."""
    ir, vis = render_scene("aerial", 1, 100, 100)
    tiles = LARGE // 100
    for side, pixels in (("ir", np.tile(ir, (tiles, tiles))), ("vis", np.tile(vis, (tiles, tiles, 1)))):
        objects.put_bytes(urls.join_url(archive, side, f"{POISON}.png"), png(pixels))


class MemoryKiller:
    """Kills the Ray's fusers that take more than FUSER_LIMIT while its `with` block runs."""

    def __init__(self):
        self.killed = set()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def _watch(self):
        while not self.ended.wait(0.02):
            for fuser in {*processes_of(SharedRay.running.node, "FuseWindows")} - self.killed:
                try:
                    pages = int(Path(f"/proc/{fuser}/statm").read_text().split()[1])
                    if pages * os.sysconf("SC_PAGE_SIZE") > FUSER_LIMIT:
                        os.kill(fuser, signal.SIGKILL)
                        self.killed.add(fuser)
                except (OSError, IndexError):
                    continue  # it ended


def check_all_but_poison(output, pairs):
    """Check what was fused and rejected; return the other pairs."""
    rejected = read_rejected(output)
    assert list(rejected["pair_id"]) == [POISON] and list(rejected["reason"]) == ["crashed"]
    others = {name: pair for name, pair in pairs.items() if name != POISON}
    assert sorted(read_metrics(output)["pair_id"]) == sorted(others)
    assert fused_store.list_fused(f"{output}/fused.zarr") == sorted(others)
    return others


def test_a_pair_that_kills_its_process_is_tried_three_times_and_rejected(s3, faulty_job):
    archive, output = f"{s3}/archive", f"{s3}/out"
    pairs = write_archive(archive, 4)
    run, proxy = faulty_job
    proxy.begin(Faults(kill_reader=1.0, only=f"/archive/ir/{POISON}.png"))
    job = run("fuse_archive", *fuse_arguments(archive, output))
    assert job.returncode == 0, job.stdout + job.stderr
    assert "4 = 3 fused + 1 rejected" in job.stdout
    assert proxy.injected["kill_reader"] == 3
    check_pixels(output, check_all_but_poison(output, pairs))

    again = run("fuse_archive", *fuse_arguments(archive, output))
    assert "nothing left to do" in again.stdout and proxy.injected["kill_reader"] == 3
    proxy.begin(Faults())
    retried = run("fuse_archive", *fuse_arguments(archive, output), "--reprocess")
    assert "4 = 4 fused + 0 rejected" in retried.stdout, retried.stdout + retried.stderr
    assert objects.exists(f"{output}/preview.png")


def test_a_pair_that_takes_its_actor_s_memory_is_fused_three_times_and_rejected(faulty_job, tmp_path):
    archive, output = str(tmp_path / "archive"), str(tmp_path / "out")
    pairs = write_archive(archive, 4)
    write_large(archive)
    run, _ = faulty_job
    with MemoryKiller() as killer:  # as a node whose memory runs out
        job = run("fuse_archive", *fuse_arguments(archive, output), *ONE_WINDOW)
    said = job.stdout + job.stderr
    assert job.returncode == 0, said
    assert "4 = 3 fused + 1 rejected" in said and len(killer.killed) == 3, (killer.killed, said)
    check_pixels(output, check_all_but_poison(output, pairs))


def test_a_large_pair_that_kills_its_writer_is_tried_three_times_and_rejected(s3, faulty_job, tmp_path):
    archive, output = f"{s3}/archive", f"{s3}/out"
    pairs = write_archive(archive, 4)
    write_large(archive)
    quick = DMNet(dataclasses.replace(TINY, without=PARTS))  # the pixels do not matter here
    (tmp_path / "quick.safetensors").write_bytes(save_checkpoint(quick, {}))
    run, proxy = faulty_job
    proxy.begin(Faults(kill_writer=1.0, only=f"/out/fused.zarr/{POISON}/"))
    job = run(
        "fuse_archive", *fuse_arguments(archive, output), *ONE_WINDOW, "--dtype", "float32",
        "--checkpoint", str(tmp_path / "quick.safetensors"),
    )  # fmt: skip
    assert job.returncode == 0, job.stdout + job.stderr
    assert "4 = 3 fused + 1 rejected" in job.stdout
    assert proxy.injected["kill_writer"] == 3
    check_all_but_poison(output, pairs)
    assert "written" in read_rejected(output)["detail"].iloc[0]
