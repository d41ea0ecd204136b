"""The relay in front of an S3 server as a process of its own, which can be killed and started again.

What is killed stands for the server; the store's objects, which a real server keeps on disk, are kept
by the one behind it.
"""

import subprocess
import sys
import time
from urllib.request import urlopen

from tests.chaos.faulty_s3 import Faults, FaultyS3
from tests.conftest import free_port
from tests.e2e.archives import ROOT


class RelayProcess:
    """A relay that listens on one port of loopback whenever it runs."""

    def __init__(self, upstream_url):
        self.upstream_url = upstream_url
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        command = [sys.executable, "-m", "tests.chaos.relay_process", self.upstream_url, str(self.port)]
        self.process = subprocess.Popen(command, cwd=ROOT)
        for _ in range(300):
            assert self.process.poll() is None, "the relay ended"
            try:
                urlopen(f"{self.url}/moto-api/", timeout=5).close()
                return
            except OSError as error:
                if getattr(error, "code", None):
                    return  # an answer, if not a kind one
                time.sleep(0.05)  # it is starting
        raise AssertionError("the relay does not answer")

    def kill(self):
        self.process.kill()
        self.process.wait()


if __name__ == "__main__":
    with FaultyS3(sys.argv[1], Faults(), port=int(sys.argv[2])) as relay:
        relay.thread.join()
