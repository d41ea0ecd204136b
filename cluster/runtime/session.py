"""Starts or joins Ray, sees to it that the workers find this package, and hands rows over.

A Ray that is started here is this user's alone (docs/security.md): it listens on loopback, asks for a
token, and keeps its files in a folder that nobody else enters.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, cast

import pandas as pd
import ray

# Ray Data reads it once: from when on it heeds READ_AHEAD, by default from half of the object store on.
os.environ.setdefault("RAY_DATA_DOWNSTREAM_CAPACITY_OBJECT_STORE_BUDGET_UTIL_THRESHOLD", "0")
import ray.data
from ray._private import ray_constants
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

from cluster.storage import objects as storage

REPO_ROOT = Path(__file__).resolve().parents[2]
JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in a driver that `ray job submit` started."""
MIN_LOCAL_CPUS = 4
"""Logical CPUs of a local Ray: with fewer, readers and actors can wait for each other for ever."""
SPARE_CPUS = 2
"""Logical CPUs that actors must leave to the reading and writing tasks."""
MAX_BLOCKS = 256
"""Of rows on their way into Ray Data, for few workers: each costs the driver memory and bookkeeping."""
BLOCKS_PER_WORKER = 16
"""For many: the last ones must not leave most workers without work."""
READ_AHEAD = 2.0
"""Times what a step has under way that may wait before it: else all the archive's blocks may wait."""
LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""With 0, Ray takes 127.0.0.1 as its address on every system, and then each of its servers binds to
it. `_node_ip_address` does not do it: Ray replaces a loopback address by an outer one."""
LOCAL_TOKEN = secrets.token_hex(32)
"""Of the Ray that this process starts. Ray's own is a file that every user may read."""
NO_PORT = "99999"
"""For the three ports of metrics, which ask for no token: two have no switch, and open none on this."""
SOCKET_PATH_BYTES = 107
"""Longest path of a Unix socket."""
SESSION_PATH_BYTES = 72
"""What Ray adds to its folder for one: /session_<time>_<pid>/sockets/plasma_store."""


@contextmanager
def ray_session(address: str | None, actor_cpus: float) -> Iterator[float]:
    """Start a local Ray or join a cluster; yield the CPUs that it has.

    Joins where an address is given, where RAY_ADDRESS is set and within a Ray job.

    Args:
        address: of a cluster, or None.
        actor_cpus: CPUs that all actors together will claim; a local Ray is made large enough.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"runtime_env": _runtime_env(joins=address is not None)}
    if address is None:
        cpus = max(MIN_LOCAL_CPUS, os.cpu_count() or 1, int(actor_cpus) + SPARE_CPUS)
        options |= {"address": "local", "num_cpus": cpus, "include_dashboard": False}
        options |= {"_temp_dir": _private_folder()}
    else:
        options["address"] = address
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else a warning about GPUs
    with _closed_to_others() if address is None else nullcontext():
        try:
            ray.init(logging_level=logging.ERROR, log_to_driver=False, **options)
        except ConnectionError as error:
            raise ValueError(
                f"Ray cluster {address!r} can't be reached ({error}), expected host:port or "
                "ray://host:port of a running cluster: check RAY_ADDRESS"
            ) from error
        except Exception as error:  # Ray has no class of its own for a node that starts too slowly
            raise ValueError(
                f"Ray did not start ({' '.join(str(error).split())[:200]}), expected a node within "
                "its time limit: run the same command again when the machine is less busy"
            ) from error
        try:
            _quiet_ray_data()
            yield float(ray.cluster_resources().get("CPU", 0))
        finally:
            ray.shutdown()


def dataset_of(
    frames: Iterable[pd.DataFrame],
    num_rows: int,
    least_per_block: int,
    num_workers: int | None = None,
    **task_options: Any,
) -> ray.data.Dataset:
    """Return rows as a dataset of few blocks, however many they are; each becomes one task.

    The rows wait packed: they are in Ray's store, and in the driver's memory, as long as the run lasts.

    Args:
        frames: of plain values.
        num_rows: of all frames.
        least_per_block: rows that a block has where there are enough.
        num_workers: that work on them, by default as many as the cluster has CPUs.
        task_options: Ray's, of the `map` or `flat_map` that follows: with equal ones Ray Data does it and
            the unpacking in one task.
    """
    most = most_blocks(num_workers or int(ray.cluster_resources().get("CPU", 1)))
    # Not ray.data.from_pandas: it starts a task for each block, only to learn its size.
    blocks: Any = storage.packed_blocks(frames, num_rows, least_per_block, most)
    dataset: ray.data.Dataset = ray.data.from_blocks(blocks)
    unpack = cast(Any, storage.unpack_rows)
    return dataset.map_batches(unpack, batch_size=None, batch_format="pyarrow", **task_options)


def most_blocks(num_workers: int) -> int:
    """Return how many blocks the rows of a run are cut into at most."""
    return max(MAX_BLOCKS, BLOCKS_PER_WORKER * num_workers)


def actor_claim(cluster_cpus: float, num_actors: int, wanted: float) -> float:
    """Return the CPUs that one actor reserves, so that the tasks beside it always find some.

    A reservation is bookkeeping; the actor's threads are as many as the config says. Where a
    cluster has no CPU yet, an autoscaler will bring nodes for the full claim.
    """
    if cluster_cpus <= 0:
        return wanted
    share = max(0.0, cluster_cpus - 1) / num_actors
    if wanted <= share:
        return wanted
    return float(int(share)) if share >= 1 else int(share * 100) / 100


@contextmanager
def _closed_to_others() -> Iterator[None]:
    """Set what makes a Ray that is started within listen on loopback and ask for a token."""
    settings = {LOOPBACK_SWITCH: "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": LOCAL_TOKEN}
    settings |= {"RAY_enable_metrics_collection": "0"}
    settings |= dict.fromkeys(("AUTOSCALER_METRIC_PORT", "DASHBOARD_METRIC_PORT"), NO_PORT)
    before = {name: os.environ.pop(name, None) for name in (*settings, "RAY_AUTH_TOKEN_PATH")}
    os.environ |= settings
    # Read from the environment when Ray was imported: for this process, too late to be set there.
    clusters, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    _read_token_settings()
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = clusters
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ |= {} if value is None else {name: value}
        _read_token_settings()


def _read_token_settings() -> None:
    """Have Ray take its token and whether to ask for one from the environment again."""
    AuthenticationTokenLoader.instance().reset_cache()
    Config.initialize("")


def _private_folder() -> str:
    """Return a folder for Ray's files inside one that this user alone enters.

    Ray itself opens its folder to every user, who could then put code in the workers' way.
    """
    base = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    folder = os.path.join(base, f"dmnet-{os.getuid()}")
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    found = os.lstat(folder)
    if not os.path.isdir(folder) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        folder = tempfile.mkdtemp(prefix="dmnet-", dir=base)  # someone else was there first
    if len(os.fsencode(folder)) > SOCKET_PATH_BYTES - SESSION_PATH_BYTES:
        raise ValueError(
            f"Ray's folder would be {folder!r}, expected a path of at most "
            f"{SOCKET_PATH_BYTES - SESSION_PATH_BYTES} bytes: set RAY_TMPDIR=/tmp"
        )
    return os.path.join(folder, "ray")


def _runtime_env(*, joins: bool) -> dict[str, Any]:
    """Return what the workers need to import this package."""
    job = json.loads(os.environ.get(JOB_CONFIG) or "{}")
    if (job.get("runtime_env") or {}).get("working_dir"):
        return {}  # the submitted folder holds the package
    if joins and JOB_CONFIG not in os.environ:
        return {"py_modules": [str(REPO_ROOT / name) for name in ("cluster", "dmnet_core")]}
    paths = [str(REPO_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"env_vars": {"PYTHONPATH": os.pathsep.join(paths)}}


def _quiet_ray_data() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.verbose_progress = False
    context.print_on_execution_start = False
    context.max_errored_blocks = 0
    context.downstream_capacity_backpressure_ratio = READ_AHEAD
    logging.getLogger("ray.data").setLevel(logging.ERROR)
