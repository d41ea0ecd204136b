"""Runs over partitions of one index, side by side into one output."""

import subprocess
import sys

from cluster.archive.keys import partition_of

from cluster.archive.pair_index import load_index
from cluster.storage import objects, urls
from tests.e2e.archives import ROOT, check_pixels, fuse_arguments, read_metrics, run_job, write_archive

JOB = [sys.executable, str(ROOT / "jobs/fuse_archive.py")]


def test_two_partitions_fuse_side_by_side_and_a_run_over_everything_writes_the_tables(tmp_path):
    archive, output = str(tmp_path / "archive"), str(tmp_path / "out")
    pairs = write_archive(archive, 12)
    objects.put_bytes(urls.join_url(archive, "ir", "alone.png"), b"")
    arguments = fuse_arguments(archive, output)
    index, _ = load_index(None, f"{archive}/ir", f"{archive}/vis")
    sizes = [int(partition_of(index["pair_id"], (part, 2)).sum()) for part in (1, 2)]
    assert sum(sizes) == 12 and min(sizes) > 0
    runs = [
        subprocess.Popen(
            [*JOB, *arguments, "--partition", f"{part}/2"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for part in (1, 2)
    ]  # fmt: skip
    said = [run.communicate(timeout=300) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    for size, (text, _) in zip(sizes, said, strict=True):
        assert f"{size} fused" in text
    assert not list(objects.find_files(f"{output}/metrics.parquet"))
    whole = run_job("fuse_archive", *arguments)
    assert whole.returncode == 0, whole.stderr
    assert "nothing left to do" in whole.stdout and "13 = 12 fused + 1 rejected" in whole.stdout
    assert sorted(read_metrics(output)["pair_id"]) == sorted(pairs)
    check_pixels(output, pairs)


def test_a_wrong_partition_is_refused_in_one_line(tmp_path):
    for given in ("0/2", "3/2", "2", "a/b"):
        arguments = fuse_arguments(str(tmp_path), str(tmp_path))
        done = run_job("fuse_archive", *arguments, "--partition", given)
        assert done.returncode == 2 and "--partition" in done.stderr.splitlines()[-1]
