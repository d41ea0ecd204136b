"""The job as a cluster's user runs it: a Ray head on loopback, joined or through `ray job submit`."""

from pathlib import Path
from unittest.mock import patch

import ray

from cluster.runtime.session import _runtime_env, ray_session
from tests.e2e.archives import check_pixels, fuse_arguments, read_metrics, write_archive
from tests.e2e.shared_ray import joined_by_this_process


def place_of_the_packages():
    import cluster
    import dmnet_core

    return cluster.__file__, dmnet_core.__file__


def test_a_job_that_joins_a_cluster_ships_its_packages_to_the_workers(shared_ray, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # Ray lets workers import what lies in the driver's folder
    with (
        joined_by_this_process({}),
        patch("cluster.runtime.session._runtime_env", _runtime_env),
        ray_session(1),
    ):
        places = ray.get(ray.remote(place_of_the_packages).remote())
    assert all(Path(place).is_relative_to(shared_ray.folder) for place in places), places


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
