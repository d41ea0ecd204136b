"""The job as a cluster's user submits it: a Ray head on loopback and `ray job submit`."""

import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import free_port
from tests.e2e.archives import ROOT, check_pixels, fuse_arguments, read_metrics, write_archive

BIN = Path(sys.executable).parent


@pytest.fixture
def ray_head(tmp_path):
    port, dashboard = free_port(), free_port()
    token = secrets.token_hex(32)
    environment = os.environ | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
    }
    environment.pop("RAY_ADDRESS", None)
    log_path = tmp_path / "head.log"
    with log_path.open("wb") as log:
        head = subprocess.Popen(
            [
                str(BIN / "ray"), "start", "--head", "--block", f"--port={port}",
                "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
                # its own, so that another Ray on the machine is not in its way
                f"--dashboard-agent-listen-port={free_port()}",
                "--num-cpus=4", "--object-store-memory=500000000", "--disable-usage-stats",
            ],
            start_new_session=True, stdout=log, stderr=log, env=environment,
        )  # fmt: skip
    address = f"http://127.0.0.1:{dashboard}"
    request = urllib.request.Request(
        f"{address}/api/jobs/", headers={"Authorization": f"Bearer {token}"}
    )
    try:
        for _ in range(600):
            assert head.poll() is None, log_path.read_text()
            try:
                urllib.request.urlopen(request, timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)  # it is starting
        else:
            raise AssertionError(log_path.read_text())
        yield address, environment
    finally:
        head.terminate()
        try:
            head.wait(10)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(head.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it has ended all of them itself


def test_a_submitted_job_fuses_as_the_function_on_arrays_does(ray_head, tmp_path):
    address, environment = ray_head
    archive, output = str(tmp_path / "archive"), str(tmp_path / "out")
    pairs = write_archive(archive, 4)
    submit = subprocess.run(
        [
            str(BIN / "ray"), "job", "submit", "--address", address, "--working-dir", ".", "--",
            "python", "jobs/fuse_archive.py", *fuse_arguments(archive, output), "--actors", "2",
            "--cpus-per-actor", "1",
        ],
        capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300,
    )  # fmt: skip
    assert submit.returncode == 0, submit.stdout + submit.stderr
    assert "4 = 4 fused + 0 rejected" in submit.stdout
    check_pixels(output, pairs)
    assert sorted(read_metrics(output)["pair_id"]) == sorted(pairs)
