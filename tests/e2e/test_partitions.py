"""Runs over partitions of one index, side by side into one output."""

import re

import pytest

from cluster.storage import objects, urls
from tests.e2e.archives import (
    check_pixels,
    fuse_arguments,
    read_metrics,
    run_job,
    started_job,
    write_archive,
)


def num_fused(said):
    return int(re.search(r"= (\d+) fused", said)[1])


def test_two_partitions_fuse_side_by_side_and_a_run_over_everything_writes_the_tables(
    shared_ray, tmp_path
):
    archive, output = str(tmp_path / "archive"), str(tmp_path / "out")
    pairs = write_archive(archive, 6)
    objects.put_bytes(urls.join_url(archive, "ir", "alone.png"), b"")
    arguments = fuse_arguments(archive, output)
    first_half = [*arguments, "--partition", "1/2"]
    with started_job("fuse_archive", *first_half, environment=shared_ray.environment) as first:
        second = run_job("fuse_archive", *arguments, "--partition", "2/2")
        assert first.wait() == 0
        first.log.seek(0)
        said = first.log.read()
    assert second.returncode == 0, second.stdout + second.stderr
    fused = [num_fused(text) for text in (said, second.stdout)]
    assert sum(fused) == 6 and min(fused) > 0
    assert not list(objects.find_files(f"{output}/metrics.parquet"))
    whole = run_job("fuse_archive", *arguments)
    assert whole.returncode == 0, whole.stderr
    assert "nothing left to do" in whole.stdout and "7 = 6 fused + 1 rejected" in whole.stdout
    assert sorted(read_metrics(output)["pair_id"]) == sorted(pairs)
    check_pixels(output, pairs)


@pytest.mark.parametrize("given", ["0/2", "3/2", "2", "a/b"])
def test_a_wrong_partition_is_refused_in_one_line(tmp_path, given):
    arguments = fuse_arguments(str(tmp_path), str(tmp_path))
    done = run_job("fuse_archive", *arguments, "--partition", given)
    assert done.returncode == 2 and "--partition" in done.stderr.splitlines()[-1]
