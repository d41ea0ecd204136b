"""A pair that kills the process that reads, fuses or writes it, each time: the run goes on without it."""

import os
import signal
import time
from pathlib import Path

import pytest

from cluster.storage import fused_store, objects, urls
from dmnet_core.synthetic import render_scene
from tests.chaos.faulty_s3 import Faults
from tests.e2e.archives import (
    check_pixels,
    fuse_arguments,
    png,
    processes_of,
    read_metrics,
    read_rejected,
    run_process,
    started_job,
    write_archive,
)

pytestmark = [pytest.mark.own_ray, pytest.mark.kills, pytest.mark.slow]
POISON = "day/001"
LARGE = (1200, 1200)
FUSER_LIMIT = 1_250_000_000
"""Bytes: an actor that holds the network has half of it, one that fuses LARGE goes beyond it."""


def write_large(archive):
    """Make the poison pair a large one."""
    ir, vis = render_scene("aerial", 1, *LARGE)
    for side, pixels in (("ir", ir), ("vis", vis)):
        objects.put_bytes(urls.join_url(archive, side, f"{POISON}.png"), png(pixels))


def kill_large(process):
    """Kill a process that takes more than FUSER_LIMIT, and see it end; return whether it did."""
    killed = False
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        if pages * os.sysconf("SC_PAGE_SIZE") > FUSER_LIMIT:
            os.kill(process, signal.SIGKILL)
            killed = True
        while killed and "State:\tZ" not in Path(f"/proc/{process}/status").read_text():
            time.sleep(0.01)
    except (OSError, IndexError):
        pass  # it ended
    return killed


def check_all_but_poison(output, pairs):
    """Check what was fused and rejected; return the other pairs."""
    rejected = read_rejected(output)
    assert list(rejected["pair_id"]) == [POISON] and list(rejected["reason"]) == ["crashed"]
    others = {name: pair for name, pair in pairs.items() if name != POISON}
    assert sorted(read_metrics(output)["pair_id"]) == sorted(others)
    assert fused_store.list_fused(f"{output}/fused.zarr") == sorted(others)
    return others


def test_a_pair_that_kills_its_process_is_tried_three_times_and_rejected(s3, faulty_s3):
    archive, output = f"{s3}/archive", f"{s3}/out"
    pairs = write_archive(archive, 4)
    proxy = faulty_s3(Faults(kill_reader=1.0, only=f"/archive/ir/{POISON}.png"))
    environment = {"AWS_ENDPOINT_URL": proxy.url}
    job = run_process("fuse_archive", *fuse_arguments(archive, output), environment=environment)
    assert job.returncode == 0, job.stdout + job.stderr
    assert "4 = 3 fused + 1 rejected" in job.stdout
    assert proxy.injected["kill_reader"] == 3
    check_pixels(output, check_all_but_poison(output, pairs))

    again = run_process("fuse_archive", *fuse_arguments(archive, output), environment=environment)
    assert "nothing left to do" in again.stdout and proxy.injected["kill_reader"] == 3
    proxy.faults = Faults()
    retried = run_process(
        "fuse_archive", *fuse_arguments(archive, output), "--reprocess", environment=environment
    )
    assert "4 = 4 fused + 0 rejected" in retried.stdout, retried.stdout + retried.stderr
    assert objects.exists(f"{output}/preview.png")


def test_a_pair_that_takes_its_actor_s_memory_is_fused_three_times_and_rejected(tmp_path):
    archive, output = str(tmp_path / "archive"), str(tmp_path / "out")
    pairs = write_archive(archive, 4)
    write_large(archive)
    environment = {"RAY_memory_monitor_refresh_ms": "0"}  # Ray's own killer would not be counted
    kills = 0
    with started_job(
        "fuse_archive", *fuse_arguments(archive, output), environment=environment
    ) as job:
        while job.poll() is None:  # as a node does whose memory runs out
            kills += sum(kill_large(fuser) for fuser in processes_of(job, "FuseWindows"))
            time.sleep(0.02)
        job.log.seek(0)
        said = job.log.read()
    assert job.returncode == 0, said
    assert "4 = 3 fused + 1 rejected" in said and kills == 3, (kills, said)
    check_pixels(output, check_all_but_poison(output, pairs))


def test_a_large_pair_that_kills_its_writer_is_tried_three_times_and_rejected(s3, faulty_s3):
    archive, output = f"{s3}/archive", f"{s3}/out"
    pairs = write_archive(archive, 4)
    write_large(archive)
    proxy = faulty_s3(Faults(kill_writer=1.0, only=f"/out/fused.zarr/{POISON}/"))
    environment = {"AWS_ENDPOINT_URL": proxy.url}
    job = run_process(
        "fuse_archive", *fuse_arguments(archive, output), "--dtype", "float32", environment=environment
    )
    assert job.returncode == 0, job.stdout + job.stderr
    assert "4 = 3 fused + 1 rejected" in job.stdout
    assert proxy.injected["kill_writer"] == 3
    check_all_but_poison(output, pairs)
    assert "written" in read_rejected(output)["detail"].iloc[0]
