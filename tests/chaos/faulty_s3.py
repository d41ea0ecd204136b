"""A store that fails: a proxy on loopback in front of an S3 server, which spoils a share of requests.

Whatever is not spoiled passes unchanged, the Host header included: it is the proxy's own, which the
client signed, so a gateway that checks signatures would accept it. Only hop-by-hop headers are the
proxy's. A spoiled request never reaches the server, but for two: of a cut GET the server's answer is
halved, and of a lost answer the server has done what was asked.
"""

from __future__ import annotations

import os
import random
import re
import signal
import threading
from collections import Counter
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

HANG_LIMIT_S = 120.0
"""A request that hangs is closed after this long, so that no thread stays for ever."""
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "content-length"}
WRITES = ("PUT", "POST", "DELETE")


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Shares of requests, from 0 to 1, that end badly."""

    slow_down: float = 0.0
    """Of all: answered 503 SlowDown."""
    hang: float = 0.0
    """Of all: accepted and never answered; the body is not read."""
    cut_get: float = 0.0
    """Of GET: full Content-Length, half of the body, connection closed."""
    cut_put: float = 0.0
    """Of PUT: connection closed after half of the body."""
    lost_answer: float = 0.0
    """Of PUT: where it was done, the connection is closed without an answer."""
    kill_reader: float = 0.0
    """Of GET: the process that asks is killed, as by a decoder that crashes at this very file."""
    kill_writer: float = 0.0
    """Of PUT: the process that asks is killed, as by memory that ran out."""
    puts_until_read_only: int | None = None
    """After so many PUT that passed, each write is answered 403 AccessDenied."""
    only: str = ""
    """Spoil only requests whose path holds this."""

    def of(self, method: str) -> list[tuple[str, float]]:
        """Return name and share of what can happen to a method."""
        shares = [("slow_down", self.slow_down), ("hang", self.hang)]
        if method == "GET":
            shares += [("cut_get", self.cut_get), ("kill_reader", self.kill_reader)]
        if method == "PUT":
            shares += [("cut_put", self.cut_put), ("lost_answer", self.lost_answer)]
            shares += [("kill_writer", self.kill_writer)]
        return shares


class FaultyS3:
    """The proxy, running while its `with` block does."""

    def __init__(self, upstream_url: str, faults: Faults, seed: int = 0, port: int = 0) -> None:
        self.upstream = urlsplit(upstream_url)
        self.num_hanging = 0
        self.lock = threading.Lock()
        self.begin(faults, seed)
        self.closing = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", port), _Relay)
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.server.proxy = self  # type: ignore[attr-defined]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def begin(self, faults: Faults, seed: int = 0) -> None:
        """Spoil requests from here on by other faults, and count from nothing."""
        with self.lock:
            self.faults = faults
            self.injected: Counter[str] = Counter()
            self.num_requests = 0
            self.num_puts = 0
            self.random = random.Random(seed)

    @property
    def url(self) -> str:
        """What AWS_ENDPOINT_URL should be."""
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> FaultyS3:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    def draw(self, method: str, path: str) -> str:
        """Return what shall happen to a request: the name of a fault, or "" to let it pass."""
        with self.lock:
            self.num_requests += 1
            if self.faults.only not in path:
                return ""
            limit = self.faults.puts_until_read_only
            if method in WRITES and limit is not None and self.num_puts >= limit:
                return "read_only"
            place = self.random.random()
            for name, share in self.faults.of(method):
                if place < share:
                    return name
                place -= share
            return ""

    def count(self, fault: str) -> None:
        """Count a fault that has been injected."""
        with self.lock:
            self.injected[fault] += 1

    def hang(self) -> None:
        """Do nothing, until the proxy ends or HANG_LIMIT_S are over."""
        with self.lock:
            self.num_hanging += 1
        self.closing.wait(HANG_LIMIT_S)
        with self.lock:
            self.num_hanging -= 1

    def forward(
        self, method: str, path: str, headers: list[tuple[str, str]], body: bytes
    ) -> tuple[int, str, list[tuple[str, str]], bytes]:
        """Send a request on, and return status, reason, headers and body of the answer."""
        connection = HTTPConnection(self.upstream.hostname or "", self.upstream.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                if name.lower() not in HOP_BY_HOP:
                    connection.putheader(name, value)
            if body or method in ("PUT", "POST"):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            answer = connection.getresponse()
            data = answer.read()
            if method == "PUT" and answer.status < 300:
                with self.lock:
                    self.num_puts += 1
            return answer.status, answer.reason, answer.getheaders(), data
        finally:
            connection.close()


class _Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = HANG_LIMIT_S

    def relay(self) -> None:
        proxy: FaultyS3 = self.server.proxy  # type: ignore[attr-defined]
        fault = proxy.draw(self.command, self.path)
        if fault in ("hang", "cut_put"):
            proxy.count(fault)
            if fault == "hang":
                proxy.hang()
            else:
                self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
            self.close_connection = True
            return
        if fault in ("kill_reader", "kill_writer"):
            proxy.count(fault)
            owner = _owner(self.client_address[1])
            assert owner != os.getpid(), f"this process asked for {self.path}, expected a worker of Ray"
            os.kill(owner, signal.SIGKILL)
            self.close_connection = True
            return
        body = self._read_body()
        if fault in ("slow_down", "read_only"):
            proxy.count(fault)
            self._refuse(fault)
            return
        try:
            answer = proxy.forward(self.command, self.path, self.headers.items(), body)
        except OSError:
            self.close_connection = True
            return
        if fault == "lost_answer" and answer[0] < 300:
            proxy.count(fault)
            self.close_connection = True
            return
        self._answer(*answer, cut=fault == "cut_get")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = relay  # noqa: N815

    def _answer(
        self, status: int, reason: str, headers: list[tuple[str, str]], data: bytes, *, cut: bool
    ) -> None:
        self.send_response_only(status, reason)
        length = str(len(data))
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
            elif self.command == "HEAD" and name.lower() == "content-length":
                length = value
        self.send_header("Content-Length", length)
        self.end_headers()
        if cut and len(data) > 1:
            self.server.proxy.count("cut_get")  # type: ignore[attr-defined]
            data = data[: len(data) // 2]
            self.close_connection = True
        self.wfile.write(data)

    def _refuse(self, fault: str) -> None:
        status, code, message = {
            "slow_down": (503, "SlowDown", "Please reduce your request rate."),
            "read_only": (403, "AccessDenied", "Access Denied"),
        }[fault]
        document = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{code}</Code><Message>{message}</Message>"
            "<RequestId>0</RequestId><HostId>0</HostId></Error>"
        )
        data = b"" if self.command == "HEAD" else document.encode()
        self._answer(status, code, [("Content-Type", "application/xml")], data, cut=False)

    def _read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


def _owner(port: int) -> int:
    """Return the process of this machine whose end of a connection has a port."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    (inode,) = (line.split()[9] for line in lines if re.match(rf"\s*\d+: \w+:{port:04X} ", line))
    for place in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(place) == f"socket:[{inode}]":
                return int(place.parts[2])
        except OSError:
            continue  # it was closed, or its process ended
    raise AssertionError(f"no process has port {port}")
