"""Starts or joins Ray, and sees to it that the workers find this package.

A Ray that is started here is this user's alone (docs/security.md): it listens on loopback, asks for a
token, and keeps its files in a folder that nobody else enters.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import ray

# Read once by Ray Data: how full its store must be for MAX_QUEUE_RATIO to hold, by default half full.
os.environ.setdefault("RAY_DATA_DOWNSTREAM_CAPACITY_OBJECT_STORE_BUDGET_UTIL_THRESHOLD", "0")
import ray.data

from cluster.runtime.address import OTHERWISE, check_cluster, cluster_address
from cluster.runtime.local_only import closed_to_others, head_of, private_folder

REPO_ROOT = Path(__file__).resolve().parents[2]
JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Name of the environment variable that Ray sets in a driver that `ray job submit` started."""
MIN_LOCAL_CPUS = 4
"""Logical CPUs of a local Ray: with fewer, readers and actors can wait for each other for ever."""
SPARE_CPUS = 2
"""Logical CPUs that actors must leave to the reading and writing tasks."""
MAX_QUEUE_RATIO = 2.0
"""Most data that may wait before a step, as a multiple of what it is working on: without a limit all
blocks of the archive may wait there."""


@contextmanager
def ray_session(actor_cpus: float) -> Iterator[float]:
    """Start a local Ray or join a cluster; yield the CPUs that it has.

    A cluster is joined where RAY_ADDRESS names one, which Ray itself sets within a Ray job.

    Args:
        actor_cpus: CPUs that all actors together will claim; a local Ray is made large enough.

    Raises:
        ValueError: RAY_ADDRESS names no cluster that answers, or Ray does not start.
    """
    address = cluster_address()
    options: dict[str, Any] = {}
    if address is not None:
        options |= {"runtime_env": _runtime_env()}
    else:
        cpus = max(MIN_LOCAL_CPUS, os.cpu_count() or 1, int(actor_cpus) + SPARE_CPUS)
        options |= {"address": "local", "num_cpus": cpus, "include_dashboard": False}
        options |= {"_temp_dir": private_folder()}
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else a warning about GPUs
    with closed_to_others(PYTHONPATH=_python_path()) if address is None else nullcontext():
        _start(address, options)
        try:
            _quiet_ray_data()
            yield float(ray.cluster_resources().get("CPU", 0))
        finally:
            ray.shutdown()


def _start(address: str | None, options: dict[str, Any]) -> None:
    """Start Ray, or join the cluster of an address, and keep this process's handler of SIGTERM."""
    if address is not None:
        check_cluster()
        check_cluster(head_of(address))
        options = options | {"address": address}
    try:
        with _own_sigterm():
            ray.init(logging_level=logging.ERROR, log_to_driver=False, **options)
    except Exception as error:  # Ray has no class of its own for a node that starts too slowly
        said = " ".join(str(error).split())[:200]
        if address is None:
            raise ValueError(
                f"Ray did not start ({said}), expected a node within its time limit: run the same "
                "command again when the machine is less busy"
            ) from error
        raise ValueError(
            f"RAY_ADDRESS is {address!r}, and that cluster can't be joined ({said}), expected one of "
            f"this version of Ray and Python that this machine is a node of: {OTHERWISE}"
        ) from error


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep what this process does at SIGTERM: `ray.init` sets a handler whose exit ends in an abort."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Ray sets its handler in the main thread alone
        return
    own = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL  # None: set by no Python code
    try:
        yield
    except SystemExit:  # Ray's handler was called meanwhile
        signal.signal(signal.SIGTERM, own)
        signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, own)


def _runtime_env() -> dict[str, Any]:
    """Return what the workers of a cluster need to import this package."""
    job = json.loads(os.environ.get(JOB_CONFIG) or "{}")
    if (job.get("runtime_env") or {}).get("working_dir"):
        return {}  # the submitted folder holds the package
    if JOB_CONFIG not in os.environ:
        return {"py_modules": [str(REPO_ROOT / name) for name in ("cluster", "dmnet_core")]}
    return {"env_vars": {"PYTHONPATH": _python_path()}}


def _python_path() -> str:
    """Return a PYTHONPATH by which processes of this machine import this package.

    The workers of a Ray that is started here inherit it. With a runtime environment instead, Ray would
    start each of them twice, and none before it is needed.
    """
    return os.pathsep.join([str(REPO_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def _quiet_ray_data() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.verbose_progress = False
    context.print_on_execution_start = False
    context.max_errored_blocks = 0
    context.downstream_capacity_backpressure_ratio = MAX_QUEUE_RATIO
    logging.getLogger("ray.data").setLevel(logging.ERROR)
