"""Three seeded rounds of chaos; `make chaos` runs as many as one likes."""

import os

import pytest

from tests.chaos.rounds import ChaosRound, archive_files, chaos_arguments, read_pixels, write_files
from tests.e2e.archives import run_job

pytestmark = [pytest.mark.own_ray, pytest.mark.kills, pytest.mark.slow]


@pytest.fixture(scope="module")
def files():
    return archive_files()


@pytest.fixture(scope="module")
def expected(files, faulty_ray, tmp_path_factory):
    """The fused pixels of a run that nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    archive, output = str(folder / "archive"), str(folder / "out")
    write_files(archive, files)
    job = run_job("fuse_archive", *chaos_arguments(archive, output))
    assert job.returncode == 0, job.stdout + job.stderr
    return read_pixels(output, files)


@pytest.mark.parametrize("seed", [2, 6, 12])
def test_whatever_is_killed_every_pair_is_fused_once_and_as_undisturbed(
    seed, files, expected, s3, tmp_path, capsys
):
    found = ChaosRound(seed, tmp_path, os.environ["AWS_ENDPOINT_URL"], s3).run(files, expected)
    with capsys.disabled():
        print(f"\n{found}")
    assert (found.lost, found.doubled, found.repeated) == (0, 0, 0)
    assert found.unclear == []
    assert found.kills.total() > 0
