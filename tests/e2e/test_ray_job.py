"""The job as a cluster's user submits it: a Ray head on loopback and `ray job submit`."""

from tests.e2e.archives import check_pixels, fuse_arguments, read_metrics, write_archive
from tests.e2e.ray_cluster import RayCluster


def test_a_submitted_job_fuses_as_the_function_on_arrays_does(tmp_path):
    archive, output = str(tmp_path / "archive"), str(tmp_path / "out")
    pairs = write_archive(archive, 4)
    with RayCluster(tmp_path) as cluster:
        cluster.add("head", head=True, num_cpus=4, object_store_memory=500_000_000)
        code, said = cluster.submit(
            "--working-dir", ".", "--", "python", "jobs/fuse_archive.py",
            *fuse_arguments(archive, output), "--actors", "2", "--cpus-per-actor", "1",
        )  # fmt: skip
    assert code == 0, said
    assert "4 = 4 fused + 0 rejected" in said
    check_pixels(output, pairs)
    assert sorted(read_metrics(output)["pair_id"]) == sorted(pairs)
