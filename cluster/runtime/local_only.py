"""Keeps a Ray that is started here to this machine and this user: loopback, a token, a private folder.

It also says which head Ray makes of an address.

This is the only module that uses private interfaces of Ray, so it is the first to break with a new Ray.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ray._private import ray_constants, services
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""With 0, Ray takes 127.0.0.1 as its address on every system, and then each of its servers binds to
it. `_node_ip_address` does not do it: Ray replaces a loopback address by an outer one."""
LOCAL_TOKEN = secrets.token_hex(32)
"""Token that a Ray started by this process asks for. Ray would keep its own in a file that any user may
read."""
NO_PORT = "99999"
"""Number that keeps Ray from opening the ports of its metrics, which ask for no token: it is no port."""
NO_SERVER = "http://127.0.0.1:0"
"""Address on which nothing can listen, for the API server that this Ray does not have. Without it Ray
Train asks whichever Ray it finds on the machine for its controller's state, sends the token there, and
waits 12 s for an answer at the end of a training."""
SOCKET_PATH_BYTES = 107
"""Longest path of a Unix socket, in bytes."""
SESSION_PATH_BYTES = 72
"""Length of what Ray appends to its folder for a socket, in bytes:
/session_<time>_<pid>/sockets/plasma_store."""


@contextmanager
def closed_to_others(**inherited: str) -> Iterator[None]:
    """Set what makes a Ray that is started within listen on loopback and ask for a token.

    Args:
        inherited: further environment variables of that Ray's processes.
    """
    settings = {LOOPBACK_SWITCH: "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": LOCAL_TOKEN}
    settings |= {"RAY_enable_metrics_collection": "0", "RAY_API_SERVER_ADDRESS": NO_SERVER}
    settings |= dict.fromkeys(("AUTOSCALER_METRIC_PORT", "DASHBOARD_METRIC_PORT"), NO_PORT)
    settings |= inherited
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


def head_of(address: str) -> str:
    """Return the HOST:PORT that Ray will connect to for an address, also for `auto`.

    Raises:
        ValueError: Ray finds no cluster on this machine.
    """
    try:
        return str(services.canonicalize_bootstrap_address(address))
    except ConnectionError as error:
        raise ValueError(
            f"RAY_ADDRESS is {address!r}, and no Ray runs on this machine, expected one: start it, or "
            "unset RAY_ADDRESS to let the job start a Ray of its own"
        ) from error


def private_folder() -> str:
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
