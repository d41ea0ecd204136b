"""The main job on storage that fails: it ends well, or in one clear line and goes on later.

Each test of the job notes what happened as a row of the table that tests.chaos.storage_faults_table
prints.
"""

import dataclasses
import os
import sys
import time

import pytest

from cluster.storage import fused_store
from tests.chaos.faulty_s3 import Faults
from tests.chaos.small_disk import SmallDisk
from tests.e2e.archives import (
    HANG_S,
    ROOT,
    check_pixels,
    fuse_arguments,
    read_metrics,
    read_rejected,
    run_process,
    write_archive,
)
from tests.e2e.shared_ray import SharedRay

pytestmark = [pytest.mark.own_ray, pytest.mark.slow]
NUM_PAIRS = 8
MAX_RUNS = 4
STRICT = ("--max-rejected", "0")
"""A pair that failed makes the run exit with 1, so that someone runs it again."""


def check_ending(job):
    """Check that a job ended well or with one line that says why, and gave away no secret."""
    said = job.stdout + job.stderr
    assert "Traceback" not in said, said
    assert os.environ.get("AWS_SECRET_ACCESS_KEY", "no secret") not in said
    # Ray's own warning of each run, which it prints past Python
    lines = [line for line in job.stderr.splitlines() if "core_worker.cc" not in line]
    if job.returncode:
        assert len(lines) == 1 and lines[0].startswith("fuse_archive: "), job.stderr
    else:
        assert not lines, job.stderr


def run_until_done(run, repair):
    """Run the job until it succeeds, with a repair after each failure; return the finished jobs."""
    jobs = []
    while len(jobs) < MAX_RUNS:
        jobs.append(run())
        check_ending(jobs[-1])
        if jobs[-1].returncode == 0:
            return jobs
        repair()
    raise AssertionError(f"not done after {MAX_RUNS} runs: {jobs[-1].stderr}")


def note(record_property, fault, share, injected, jobs, output, pairs, start):
    """Record the table's row of a test, and check what must hold whatever the fault."""
    written = list(read_metrics(output)["pair_id"])
    lost = len(set(pairs) - set(written))
    doubled = len(written) - len(set(written))
    cells = [fault, share, injected, jobs[0].returncode, len(jobs), lost, doubled]
    record_property("row", [*cells, f"{time.monotonic() - start:.0f}"])
    assert (lost, doubled) == (0, 0), written
    assert len(read_rejected(output)) == 0
    check_pixels(output, pairs)


@pytest.mark.parametrize(
    ("fault", "faults"),
    [
        ("503 SlowDown", Faults(slow_down=0.2)),
        ("request hangs", Faults(hang=0.03)),
        ("GET cut half way", Faults(cut_get=0.2)),
        ("PUT cut half way, or its answer lost", Faults(cut_put=0.15, lost_answer=0.15)),
    ],
)
def test_a_share_of_bad_requests_does_not_keep_an_archive_from_being_fused(
    s3, faulty_job, record_property, fault, faults
):
    archive, output = f"{s3}/archive", f"{s3}/out"
    pairs = write_archive(archive, NUM_PAIRS)
    run, proxy = faulty_job
    proxy.begin(faults)
    start = time.monotonic()
    jobs = run_until_done(
        lambda: run("fuse_archive", *fuse_arguments(archive, output), *STRICT), lambda: None
    )
    shares = {name: share for name, share in dataclasses.asdict(faults).items() if share}
    assert all(proxy.injected[name] for name in shares), proxy.injected
    share = " + ".join(f"{value:.0%}" for value in shares.values())
    injected = f"{proxy.injected.total()} of {proxy.num_requests}"
    note(record_property, fault, share, injected, jobs, output, pairs, start)


def test_a_bucket_that_turns_read_only_stops_the_job_which_goes_on_when_it_is_writable(
    s3, faulty_job, record_property
):
    archive, output = f"{s3}/archive", f"{s3}/out"
    pairs = write_archive(archive, NUM_PAIRS)
    _, proxy = faulty_job
    proxy.begin(Faults(puts_until_read_only=14))
    environment = SharedRay.running.environment | {"AWS_ENDPOINT_URL": proxy.url}
    command = ["fuse_archive", *fuse_arguments(archive, output)]
    start = time.monotonic()

    def allow_writes():
        proxy.faults = Faults()

    # In processes: a lease that could not be released is free at once only where its holder has ended.
    jobs = run_until_done(lambda: run_process(*command, environment=environment), allow_writes)
    assert [job.returncode for job in jobs] == [2, 0]
    assert "Access Denied" in jobs[0].stderr
    injected = f"{proxy.injected['read_only']} of {proxy.num_requests}"
    assert proxy.injected["read_only"] > 0
    note(record_property, "bucket turns read-only", "after 14 PUTs", injected, jobs, output, pairs, start)


def test_a_pair_whose_write_failed_is_named_and_the_next_run_fuses_it(s3, faulty_job, record_property):
    archive, output = f"{s3}/archive", f"{s3}/out"
    pairs = write_archive(archive, NUM_PAIRS)
    run, proxy = faulty_job
    proxy.begin(Faults(puts_until_read_only=0, only="/fused.zarr/day/003/"))
    start = time.monotonic()
    rejected = []

    def allow_writes():
        rejected.append(read_rejected(output))
        proxy.faults = Faults()

    jobs = run_until_done(
        lambda: run("fuse_archive", *fuse_arguments(archive, output), *STRICT), allow_writes
    )
    assert [job.returncode for job in jobs] == [1, 0]
    assert f"{1 / NUM_PAIRS:.2%} of the pairs were rejected" in jobs[0].stderr
    assert "pairs to fuse    1" in jobs[1].stdout
    (row,) = rejected[0].to_dict("records")
    assert (row["pair_id"], row["reason"]) == ("day/003", "failed")
    assert "Access Denied" in row["detail"]
    injected = f"{proxy.injected['read_only']} of {proxy.num_requests}"
    note(record_property, "PUT denied for one pair", "its PUTs", injected, jobs, output, pairs, start)


def test_a_full_disk_stops_the_job_which_goes_on_when_there_is_room(tmp_path, record_property):
    archive, folder = str(tmp_path / "archive"), tmp_path / "disk"
    pairs = write_archive(archive, NUM_PAIRS)
    folder.mkdir()
    command = [sys.executable, str(ROOT / "jobs/fuse_archive.py"), *STRICT]
    try:
        disk = SmallDisk(folder, "120k")
    except OSError as error:
        pytest.skip(f"this kernel lets no user mount a disk: {error}")
    with disk:
        start = time.monotonic()
        output = f"{disk.outside}/out"
        found = []

        def give_room():
            found.append([path for path, _, names in os.walk(output) for name in names
                          if name.startswith(".put-")])  # fmt: skip
            found.append(fused_store.list_fused(f"{output}/fused.zarr"))
            check_pixels(output, {name: pairs[name] for name in found[-1]})
            disk.grow("64m")

        jobs = run_until_done(
            lambda: disk.run(*command, *fuse_arguments(archive, f"{folder}/out"), timeout=HANG_S),
            give_room,
        )
        assert len(jobs) == 2 and jobs[0].returncode in (1, 2)
        assert found[0] == [] and 0 < len(found[1]) < len(pairs)
        note(record_property, "disk full", "120 KiB", "-", jobs, output, pairs, start)
