"""Small archives of generated pairs, and the real entry point in a process of its own."""

import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from cluster.storage import fused_store, objects, tables, urls
from dmnet_core.checkpoint import load_checkpoint
from dmnet_core.inference import fuse
from dmnet_core.synthetic import render_scene

ROOT = Path(__file__).resolve().parents[2]


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


def run_job(name, *arguments, environment=None, timeout=300):
    """Run jobs/NAME.py as a user does, and return the finished process."""
    return subprocess.run(
        [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | (environment or {}),
    )


@contextmanager
def started_job(name, *arguments, environment=None, limit_s=400):
    """Run jobs/NAME.py in a session of its own, which its Ray shares; killed at the end, or too late.

    Yields the process; `job.log` is the file of what it says.
    """
    with tempfile.TemporaryFile("w+") as log:
        job = subprocess.Popen(
            [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *arguments],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | (environment or {}),
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


def read_metrics(output) -> pd.DataFrame:
    return tables.read_table(urls.join_url(output, "metrics.parquet"))


def read_rejected(output) -> pd.DataFrame:
    return tables.read_table(urls.join_url(output, "rejected.parquet"))


def check_pixels(output, pairs):
    """Compare every stored array with the function on arrays, within one level on few pixels."""
    model = load_checkpoint().model
    store = urls.join_url(output, "fused.zarr")
    for pair_id, (ir, vis) in pairs.items():
        stored = fused_store.read_fused(store, fused_store.escape_pair_id(pair_id)).astype(int)
        expected = fuse(model, ir, vis, pair_id=pair_id).astype(int)
        difference = np.abs(stored - expected)
        # floating-point order may differ with the number of threads
        assert difference.max() <= 1 and (difference > 0).mean() < 1e-3, pair_id
