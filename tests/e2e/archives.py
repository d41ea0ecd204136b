"""Small archives of generated pairs, and the jobs: within this process, or in one of their own."""

import functools
import importlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cluster.storage import fused_store, objects, urls
from dmnet_core.checkpoint import load_checkpoint
from dmnet_core.inference import fuse
from dmnet_core.synthetic import render_scene

ROOT = Path(__file__).resolve().parents[2]
HANG_S = 900
"""A job that takes so long hangs: the longest of a test takes a tenth of it on a quiet machine."""


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_archive(url, num_pairs, height=96, width=128):
    """Write ir/ and vis/ of pairs day/000, day/001, ... and return their pixels by pair_id."""
    pairs = {}
    for number in range(num_pairs):
        pairs[f"day/{number:03d}"] = render_scene("aerial", number, height, width)
    for pair_id, (ir, vis) in pairs.items():
        objects.put_bytes(urls.join_url(url, "ir", f"{pair_id}.png"), png(ir))
        objects.put_bytes(urls.join_url(url, "vis", f"{pair_id}.png"), png(vis))
    return pairs


def run_job(name, *arguments, environment=None, report=False):
    """Run jobs/NAME.py's main within this process, on the shared Ray where it needs one.

    A run of fuse_archive writes its report, which takes seconds, only where `report` asks for it.

    Returns what a finished process has: returncode, stdout and stderr.
    """
    if name == "fuse_archive" and not report:
        arguments = (*arguments, "--no-report")
    from tests.e2e.shared_ray import joined_by_this_process

    job = importlib.import_module(f"jobs.{name}")
    out, err = io.StringIO(), io.StringIO()
    given = sys.argv
    sys.argv = [f"{name}.py", *arguments]
    try:
        with (
            _no_hang(f"{name} {' '.join(arguments)}"),
            joined_by_this_process(environment or {}),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            code = job.main()
    except SystemExit as error:
        if error.code not in (0, 2):  # those of argparse: only a process of its own may exit so
            raise
        code = error.code
    finally:
        sys.argv = given
        _forget_ray_data_settings()
    return subprocess.CompletedProcess([name, *arguments], code, out.getvalue(), err.getvalue())


@contextmanager
def _no_hang(what):
    """Fail a test whose job within this process takes HANG_S."""

    def give_up(*_):
        pytest.fail(f"{what}: not done after {HANG_S} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(HANG_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _forget_ray_data_settings():
    """Drop what a job told Ray Data of this process, which the next job must not inherit."""
    if "ray.data" in sys.modules:
        options = sys.modules["ray.data"].DataContext.get_current().execution_options
        options.preserve_order = False  # a training asks for it


def environment_of_a_process(environment=None):
    """Return the environment in which a job of its own process starts a Ray of its own."""
    return {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | (
        environment or {}
    )


def run_process(name, *arguments, environment=None, timeout=HANG_S):
    """Run jobs/NAME.py as a user does, in a process of its own, and return it when it has ended."""
    return subprocess.run(
        [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment_of_a_process(environment),
    )


@contextmanager
def started_job(name, *arguments, environment=None, limit_s=HANG_S):
    """Run jobs/NAME.py in a session of its own, which its Ray shares; killed at the end, or too late.

    Yields the process; `job.log` is the file of what it says.
    """
    with tempfile.TemporaryFile("w+") as log:
        job = subprocess.Popen(
            [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *arguments],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=environment_of_a_process(environment),
        )
        job.log = log
        watch = threading.Timer(limit_s, os.killpg, (job.pid, signal.SIGKILL))
        watch.start()
        try:
            yield job
        except BaseException:
            log.seek(0)
            print(log.read())  # for whoever reads why the test failed
            raise
        finally:
            watch.cancel()
            if job.poll() is None:
                os.killpg(job.pid, signal.SIGKILL)
            job.wait()


def processes(title):
    """Return the command line of each process that holds a text in it, by its number."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if title.encode() in (line := (folder / "cmdline").read_bytes()):
                found[int(folder.name)] = line
        except OSError:
            continue  # it ended
    return found


def processes_of(job, title):
    """Return those of a job's session."""
    return [pid for pid in processes(title) if _session(pid) == job.pid]


def _session(pid):
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def fuse_arguments(archive, output):
    sides = (urls.join_url(archive, side) for side in ("ir", "vis"))
    ir, vis = sides
    return ["--ir", ir, "--vis", vis, "--output", output]


def read_parquet(url) -> pd.DataFrame:
    """Return the rows of every Parquet file below a folder or s3:// prefix."""
    files = [file for file in objects.list_files(url) if file.path.endswith(".parquet")]
    assert files, f"{url} holds no Parquet file"
    tables = [pd.read_parquet(io.BytesIO(objects.read_bytes(file.url))) for file in files]
    return pd.concat(tables, ignore_index=True)


def read_metrics(output) -> pd.DataFrame:
    return read_parquet(urls.join_url(output, "metrics.parquet"))


def read_rejected(output) -> pd.DataFrame:
    return read_parquet(urls.join_url(output, "rejected.parquet"))


@functools.cache
def shipped_model():
    """Return the network with the shipped weights, loaded once."""
    return load_checkpoint().model


def check_pixels(output, pairs):
    """Compare every stored array with the function on arrays, within one level on few pixels."""
    model = shipped_model()
    store = urls.join_url(output, "fused.zarr")
    for pair_id, (ir, vis) in pairs.items():
        stored = fused_store.read_fused(store, fused_store.escape_pair_id(pair_id)).astype(int)
        expected = fuse(model, ir, vis, pair_id=pair_id).astype(int)
        difference = np.abs(stored - expected)
        # floating-point order may differ with the number of threads
        assert difference.max() <= 1 and (difference > 0).mean() < 1e-3, pair_id
