"""The check of RAY_ADDRESS: which addresses are joined, and what is said of the others."""

import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.runtime.address import HTTP2_PREFACE, SETTINGS_FRAME, check_cluster, cluster_address
from tests.conftest import free_port

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def server(answer):
    """Answer one connection on loopback with these bytes; yield its address, and check the preface."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:

        def serve():
            connection, _ = listening.accept()
            with connection:
                asked = connection.recv(len(HTTP2_PREFACE))
                connection.sendall(answer)
            return asked

        served = pool.submit(serve)
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        assert served.result(timeout=60) == HTTP2_PREFACE


@pytest.mark.parametrize("address", [None, "", "  ", "local"])
def test_an_address_that_names_no_cluster_means_a_ray_of_its_own(monkeypatch, address):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    assert cluster_address() is None
    check_cluster()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:8265", r"address of a job server.*ray job submit --address http://127.0.0.1"),
        ("ray://127.0.0.1:10001", r"Ray Client server.*ray job submit"),
        ("head", "is 'head', expected HOST:PORT.*unset RAY_ADDRESS"),
        ("head:port", "is 'head:port', expected HOST:PORT"),
        ("127.0.0.1:99999", "is '127.0.0.1:99999', expected HOST:PORT"),
        ("127.0.0.1:6379/x", "is '127.0.0.1:6379/x', expected HOST:PORT"),
        ("no-such-host.invalid:6379", r"where nothing answers \(.*\), expected HOST:PORT"),
    ],
)
def test_an_address_that_cannot_be_joined_is_named_with_what_to_do(monkeypatch, address, said):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ValueError, match=said):
        check_cluster()


def test_an_address_at_which_nothing_listens_is_refused_at_once(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    with pytest.raises(ValueError, match=r"nothing answers \(Connection refused\).*start the cluster"):
        check_cluster()
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    check_cluster()  # only Ray can find it
    with pytest.raises(ValueError, match="is 'auto', where nothing answers"):
        check_cluster(f"127.0.0.1:{free_port()}")


def test_a_server_of_grpc_is_told_from_any_other(monkeypatch):
    with server(bytes((0, 0, 0, SETTINGS_FRAME, 0, 0, 0, 0, 0))) as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        check_cluster(address)
    with server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        with pytest.raises(ValueError, match="something answers that is no head of a Ray cluster"):
            check_cluster(address)


def test_the_check_imports_no_ray():
    code = "import sys; import cluster.runtime.address; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
