"""Which Ray cluster a job joins: RAY_ADDRESS, checked before anything is written. No Ray here.

Ray itself asks an address at which nothing listens again and again, for ten minutes.
"""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

VARIABLE = "RAY_ADDRESS"
"""Name of the environment variable that names a cluster; `ray job submit` sets it within a job."""
FOUND_BY_RAY = "auto"
"""Value of RAY_ADDRESS with which Ray looks for a cluster on this machine by itself."""
ANSWER_S = 10.0
"""Seconds within which a cluster must answer."""
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""First bytes of a client of HTTP/2, with an empty SETTINGS frame: gRPC, which Ray speaks, begins so."""
SETTINGS_FRAME = 4
"""Type of the frame with which a server of HTTP/2 answers; it stands in the frame's fourth byte."""
EXPECTED = (
    "expected HOST:PORT of the head of a running Ray cluster that this machine is a node of, such as "
    "10.0.0.5:6379"
)
OTHERWISE = "correct the address, or unset RAY_ADDRESS to let the job start a Ray of its own"
SUBMIT = "ray job submit --address {} --working-dir . -- python jobs/..."


def cluster_address() -> str | None:
    """Return the address of the cluster to join; None where the job starts a Ray of its own."""
    address = os.environ.get(VARIABLE, "").strip()
    return None if address in ("", "local") else address


def check_cluster(head: str = "") -> None:
    """Raise ValueError where RAY_ADDRESS names no cluster, or none that answers; takes seconds at most.

    Args:
        head: HOST:PORT that Ray has made of RAY_ADDRESS. Without it `auto` is not checked, and a loopback
            address may be answered by the machine's outer one, which Ray can take in its place.
    """
    address = cluster_address()
    if address is None or (address == FOUND_BY_RAY and not head):
        return
    if address.startswith(("http://", "https://")):
        raise ValueError(
            f"RAY_ADDRESS is {address!r}, the address of a job server, {EXPECTED}: submit the job there "
            f"({SUBMIT.format(address)}), or {OTHERWISE}"
        )
    if address.startswith("ray://"):
        raise ValueError(
            f"RAY_ADDRESS is {address!r}, the address of a Ray Client server, which Ray Data can't work "
            f"through, {EXPECTED}: submit the job ({SUBMIT.format('http://HEAD:8265')}), or {OTHERWISE}"
        )
    host, port = _split(head or address)
    if not host or not port:
        raise ValueError(f"RAY_ADDRESS is {address!r}, {EXPECTED}, or auto or local: {OTHERWISE}")
    problems = [_problem(candidate, port) for candidate in ([host] if head else _hosts(host))]
    if all(problems):
        raise ValueError(
            f"RAY_ADDRESS is {address!r}, where {problems[0]}, {EXPECTED}: start the cluster, {OTHERWISE}"
        )


def _split(host_and_port: str) -> tuple[str, int]:
    """Return host and port; an empty host or a 0 where the text has none."""
    try:
        parts = urlsplit(f"//{host_and_port}")
        if parts.netloc != host_and_port or parts.username:
            return "", 0
        return parts.hostname or "", parts.port or 0
    except ValueError:  # no number, or one that is too large
        return "", 0


def _hosts(host: str) -> list[str]:
    """Return the hosts to ask: in place of a loopback address Ray may take the machine's outer one."""
    try:
        is_loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        return [host]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("8.8.8.8", 80))  # sends nothing: it only chooses the way out
        except OSError:
            return [host]
        return [host, str(probe.getsockname()[0])]


def _problem(host: str, port: int) -> str:
    """Return why no gRPC server answers there, in words; an empty text where one does."""
    try:
        with socket.create_connection((host, port), timeout=ANSWER_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
                return ""  # only Ray knows the certificates
            connection.sendall(HTTP2_PREFACE)
            answer = connection.recv(9)
    except TimeoutError:
        return f"nothing answers within {ANSWER_S:.0f} s"
    except OSError as error:
        return f"nothing answers ({error.strerror or error})"
    if len(answer) > 3 and answer[3] == SETTINGS_FRAME:
        return ""
    return "something answers that is no head of a Ray cluster"
