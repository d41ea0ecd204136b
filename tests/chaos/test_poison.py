"""A pair that kills the process that reads it, each time: the run goes on without it."""

from cluster import storage
from tests.chaos.faulty_s3 import Faults
from tests.e2e.archives import (
    check_pixels,
    fuse_arguments,
    read_metrics,
    read_rejected,
    run_job,
    write_archive,
)


def test_a_pair_that_kills_its_process_is_tried_three_times_and_rejected(s3, faulty_s3):
    archive, output = f"{s3}/archive", f"{s3}/out"
    pairs = write_archive(archive, 4)
    proxy = faulty_s3(Faults(kill_reader=1.0, only="/archive/ir/day/001.png"))
    environment = {"AWS_ENDPOINT_URL": proxy.url}
    job = run_job("fuse_archive", *fuse_arguments(archive, output), environment=environment)
    assert job.returncode == 0, job.stdout + job.stderr
    assert "4 = 3 fused + 1 rejected" in job.stdout
    assert proxy.injected["kill_reader"] == 3
    rejected = read_rejected(output)
    assert list(rejected["pair_id"]) == ["day/001"] and list(rejected["reason"]) == ["crashed"]
    del pairs["day/001"]
    assert sorted(read_metrics(output)["pair_id"]) == sorted(pairs)
    check_pixels(output, pairs)

    again = run_job("fuse_archive", *fuse_arguments(archive, output), environment=environment)
    assert "nothing left to do" in again.stdout and proxy.injected["kill_reader"] == 3
    proxy.faults = Faults()
    retried = run_job(
        "fuse_archive", *fuse_arguments(archive, output), "--reprocess", environment=environment
    )
    assert "4 = 4 fused + 0 rejected" in retried.stdout, retried.stdout + retried.stderr
    assert storage.exists(f"{output}/preview.png")
