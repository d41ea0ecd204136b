"""What these tests share: the failing store in front of the S3 server."""

import pytest

from tests.chaos.faulty_s3 import FaultyS3


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
