"""Single requests to a store that fails: nothing half is taken as whole, nothing waits for ever."""

import os
import resource
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
import s3fs
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from cluster.storage import objects, urls
from cluster.storage.s3 import S3_OPTIONS, S3_ROUNDS, filesystem
from tests.chaos.faulty_s3 import Faults, FaultyS3

DATA = bytes(range(256)) * 200


@pytest.fixture
def through(faulty_s3, monkeypatch):
    """A function that sends the storage module's requests through a failing store."""

    def forget():
        filesystem.cache_clear()
        s3fs.S3FileSystem.clear_instance_cache()

    def start(faults):
        proxy = faulty_s3(faults)
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        forget()
        return proxy

    forget()
    yield start
    forget()


@pytest.fixture
def one_attempt(monkeypatch):
    """Let the storage module try once, so that a test of a lasting fault takes no minute."""
    config = S3_OPTIONS["config_kwargs"] | {"retries": {"total_max_attempts": 1}}
    monkeypatch.setitem(S3_OPTIONS, "config_kwargs", config)
    monkeypatch.setattr("cluster.storage.s3.S3_ROUNDS", 1)


def test_what_is_not_spoiled_passes_through(s3, through):
    proxy = through(Faults())
    objects.put_bytes(f"{s3}/a b/ü+%.bin", DATA)
    objects.put_bytes(f"{s3}/empty", b"")
    assert objects.read_bytes(f"{s3}/a b/ü+%.bin") == DATA
    assert objects.read_bytes(f"{s3}/empty") == b""
    assert [file.path for file in objects.list_files(s3)] == ["a b/ü+%.bin", "empty"]
    objects.delete(f"{s3}/empty")
    assert not objects.exists(f"{s3}/empty")
    assert not proxy.injected and proxy.num_puts == 2


def test_the_server_gets_every_header_that_was_signed_and_the_host_that_was_signed():
    seen = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    with FaultyS3(f"http://127.0.0.1:{server.server_port}", Faults()) as proxy:
        request = AWSRequest("GET", f"{proxy.url}/bucket/key", {"x-amz-meta-a": "b"})
        S3SigV4Auth(Credentials("key", "secret"), "s3", "us-east-1").add_auth(request)
        urllib.request.urlopen(urllib.request.Request(request.url, headers=dict(request.headers)))
    server.shutdown()
    server.server_close()
    (headers,) = seen
    signed = headers["Authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    assert "host" in signed and "x-amz-meta-a" in signed
    assert f"http://{headers['Host']}" == proxy.url
    assert all(headers[name] == request.headers[name] for name in signed if name != "host")


def test_an_object_that_is_cut_each_time_is_never_taken_as_whole(s3, through):
    objects.put_bytes(f"{s3}/x", DATA)
    proxy = through(Faults(cut_get=1.0))
    with pytest.raises(urls.StorageError, match="received 25600 of 51200 bytes"):
        objects.read_bytes(f"{s3}/x")
    assert proxy.injected["cut_get"] == S3_ROUNDS


def test_an_upload_that_is_cut_is_an_error_and_leaves_what_was_there(s3, through, one_attempt):
    objects.put_bytes(f"{s3}/old", b"old")
    proxy = through(Faults(cut_put=1.0))
    for name in ("old", "new"):
        with pytest.raises(urls.StorageError, match="run the same command again"):
            objects.put_bytes(f"{s3}/{name}", DATA)
    assert proxy.injected["cut_put"] >= 2
    assert objects.read_bytes(f"{s3}/old") == b"old"
    assert not objects.exists(f"{s3}/new")


def test_an_upload_that_nobody_reads_is_given_up(s3, through, one_attempt, monkeypatch):
    monkeypatch.setattr("cluster.storage.s3.SILENCE_S", 1)
    proxy = through(Faults(hang=1.0))
    with pytest.raises(urls.StorageError, match="run the same command again"):
        objects.put_bytes(f"{s3}/x", bytes(32 << 20))  # more than the sockets' buffers hold
    assert proxy.num_hanging == proxy.injected["hang"] > 0  # it was not the store that ended it


def test_an_overloaded_store_is_asked_again_whatever_the_request(s3, through):
    objects.put_bytes(f"{s3}/x", DATA)
    proxy = through(Faults(slow_down=0.4))
    for number in range(4):
        objects.put_bytes(f"{s3}/{number}", DATA)
        assert objects.read_bytes(f"{s3}/{number}") == DATA
        assert not objects.exists(f"{s3}/none{number}")
    assert len(objects.list_files(s3)) == 5
    assert proxy.injected["slow_down"] > 0


def test_a_create_whose_answer_was_lost_says_that_there_is_a_file_already(s3, through):
    proxy = through(Faults(lost_answer=1.0))
    assert not objects.create_bytes(f"{s3}/x", DATA)
    assert objects.read_bytes(f"{s3}/x") == DATA
    assert proxy.injected["lost_answer"] > 0


@pytest.mark.parametrize("write", [objects.put_bytes, objects.create_bytes])
def test_a_file_that_did_not_fit_is_not_left_behind(tmp_path, write):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(urls.StorageError, match="File too large"):
            write(str(tmp_path / "x"), DATA)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []
