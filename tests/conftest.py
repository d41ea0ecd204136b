"""What the tests share: the real data beside the project, an S3 server, a Ray, and the markers.

Markers by which tests are selected, never by their names (pyproject.toml says what each means):

- `s3` is put here on each test that uses the fixture `s3`, or whose parameter of that name chooses it.
- `ray` is put here on each test that uses the fixture `shared_ray`.
- `own_ray`, `kills` and `slow` stand in the test files.

`make test` runs two processes, each with a Ray of its own; a file's tests all run in one of them.
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

# Threads that spin while they wait make each other many times slower where a machine has other work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A thread of Ray Data that outlives a job must not connect this process to Ray again.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")

import pytest  # noqa: E402

REPO_ROOT = Path(__file__).resolve().parents[1]
SHARED = REPO_ROOT.parent / "shared"


LONGEST = ("tests/chaos/", "tests/e2e/")
"""Folders whose tests begin first, so that no process is left with a long file when the other is done."""


@pytest.hookimpl(tryfirst=True)  # before the markers select
def pytest_collection_modifyitems(items):
    """Put on the markers that follow from the fixtures of a test, and begin with what takes longest."""
    for item in items:
        chosen = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if "s3" in item.fixturenames or "s3" in [value for value in chosen if isinstance(value, str)]:
            item.add_marker("s3")
        if "shared_ray" in item.fixturenames:
            item.add_marker("ray")
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


LEFT_OUT = set()
"""Names of the tests that the markers of this run leave out."""


def pytest_deselected(items):
    LEFT_OUT.update(item.nodeid for item in items)


def pytest_sessionfinish(session):
    """Tell the process that reports, where there are several, what this one left out."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = sorted(LEFT_OUT)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Take what a process left out."""
    LEFT_OUT.update(getattr(node, "workeroutput", {}).get("left_out", ()))


def pytest_terminal_summary(terminalreporter):
    """Say what was left out: a run of a part must not look like one of everything."""
    if LEFT_OUT:
        terminalreporter.write_line(f"{len(LEFT_OUT)} tests left out; make test-all runs every test")


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real pairs beside the project."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no real pairs: {SHARED / 'data'} is absent")
    return SHARED / "data"


@pytest.fixture(scope="session")
def cases():
    """The folder of small archives that once went wrong, beside the project."""
    if not (SHARED / "cases").is_dir():
        pytest.skip(f"no cases: {SHARED / 'cases'} is absent")
    return SHARED / "cases"


@pytest.fixture(scope="session")
def golden_metrics():
    """Metric values from outside implementations."""
    path = SHARED / "golden" / "fusion_metrics.csv"
    if not path.is_file():
        pytest.skip(f"no reference values: {path} is absent")
    return path


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture(scope="session")
def s3_environment(tmp_path_factory):
    """Environment variables of a real HTTP S3 server: DMNET_TEST_S3_ENDPOINT's, else moto's."""
    given = os.environ.get("DMNET_TEST_S3_ENDPOINT")
    if given:
        yield {
            "AWS_ENDPOINT_URL": given,
            "AWS_ACCESS_KEY_ID": os.environ["AWS_ACCESS_KEY_ID"],
            "AWS_SECRET_ACCESS_KEY": os.environ["AWS_SECRET_ACCESS_KEY"],
            "AWS_DEFAULT_REGION": os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
        }
        return
    with moto_server(tmp_path_factory.mktemp("moto") / "log") as environment:
        yield environment


@contextmanager
def moto_server(log_path):
    """Run moto's S3 server on loopback; yield the environment variables that clients need."""
    port = free_port()
    program = shutil.which("moto_server", path=str(Path(sys.executable).parent))
    assert program, "moto_server is not beside this Python: install the dev dependencies"
    with log_path.open("wb") as log:
        server = subprocess.Popen(
            [program, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
        )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            assert server.poll() is None, log_path.read_text()
            try:
                urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)  # it is starting
        else:
            raise AssertionError(f"moto_server does not answer: {log_path.read_text()}")
        yield {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test-key",
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),  # stands in no source file
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="session")
def shared_ray(s3_environment):
    """The Ray of this pytest run, which the jobs of `run_job` join; it knows the S3 server."""
    from tests.e2e.shared_ray import SharedRay

    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:
        with SharedRay(Path(folder), s3_environment) as running:
            yield running


@pytest.fixture
def s3(s3_environment, monkeypatch, request):
    """An empty bucket's URL; the environment points every client to the server."""
    import s3fs

    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    forget_s3_connections()
    bucket = f"dmnet-test-{os.getpid()}-{time.time_ns():x}"
    filesystem = s3fs.S3FileSystem(endpoint_url=s3_environment["AWS_ENDPOINT_URL"])
    filesystem.mkdir(bucket)
    yield f"s3://{bucket}"
    forget_s3_connections()


def forget_s3_connections():
    """Have this process connect to S3 anew: a connection keeps the endpoint that it was made for."""
    import s3fs

    from cluster.storage.s3 import filesystem

    filesystem.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()
