"""The job as a cluster's user submits it: a Ray head on loopback and `ray job submit`."""

from tests.e2e.archives import check_pixels, fuse_arguments, read_metrics, write_archive


def test_a_submitted_job_fuses_as_the_function_on_arrays_does(shared_ray, tmp_path):
    archive, output = str(tmp_path / "archive"), str(tmp_path / "out")
    pairs = write_archive(archive, 4)
    code, said = shared_ray.cluster.submit(
        "--working-dir", ".", "--", "python", "jobs/fuse_archive.py",
        *fuse_arguments(archive, output), "--actors", "2", "--cpus-per-actor", "1",
    )  # fmt: skip
    assert code == 0, said
    assert "4 = 4 fused + 0 rejected" in said
    check_pixels(output, pairs)
    assert sorted(read_metrics(output)["pair_id"]) == sorted(pairs)
