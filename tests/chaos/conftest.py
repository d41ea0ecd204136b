"""What these tests share: a failing store in front of the S3 server, and a Ray that reaches S3 by it."""

import tempfile
from pathlib import Path

import pytest

from tests.chaos.faulty_s3 import Faults, FaultyS3
from tests.conftest import forget_s3_connections
from tests.e2e.archives import run_job
from tests.e2e.shared_ray import SharedRay


@pytest.fixture
def faulty_s3(s3, s3_environment):
    """A function that starts a FaultyS3 in front of the server, until the test ends."""
    running = []

    def start(faults, seed=0):
        running.append(FaultyS3(s3_environment["AWS_ENDPOINT_URL"], faults, seed))
        return running[-1].__enter__()

    yield start
    for proxy in running:
        proxy.__exit__()


@pytest.fixture(scope="package")
def faulty_ray(s3_environment):
    """The FaultyS3 by which every process of a Ray reaches S3, while this folder's tests run."""
    with (
        FaultyS3(s3_environment["AWS_ENDPOINT_URL"], Faults()) as proxy,
        tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder,
    ):
        environment = s3_environment | {
            "AWS_ENDPOINT_URL": proxy.url,
            "RAY_memory_monitor_refresh_ms": "0",  # Ray's own killer would not be counted
        }
        with SharedRay(Path(folder), environment):
            yield proxy


@pytest.fixture
def faulty_job(s3, faulty_ray):
    """A function that runs a job of this process and the Ray behind the failing store, and that store."""

    def run(name, *arguments):
        forget_s3_connections()
        try:
            return run_job(name, *arguments, environment={"AWS_ENDPOINT_URL": faulty_ray.url})
        finally:
            forget_s3_connections()

    faulty_ray.begin(Faults())
    yield run, faulty_ray
    faulty_ray.begin(Faults())
