"""A Ray cluster on loopback, node by node, as KubeRay starts one pod by pod."""

import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.conftest import free_port
from tests.e2e.archives import ROOT

BIN = Path(sys.executable).parent
ADDRESS = "127.0.0.1"
LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""With 0, Ray takes 127.0.0.1 as its address, in place of an outer one, and each server binds to it."""
RAY = f"""
from ray._private import ray_constants, services
services.get_node_ip_address = lambda address=None: "{ADDRESS}"
ray_constants.ENABLE_RAY_CLUSTER = True
from ray.scripts.scripts import main
main()
"""
"""The `ray` command, which refuses with that switch to join nodes."""


class RayCluster:
    """Nodes that `ray start` began; every one ends with the cluster."""

    def __init__(self, log_folder, token=None, **environment):
        self.log_folder = log_folder
        self.port, self.dashboard_port = free_port(), free_port()
        self.token = token or secrets.token_hex(32)
        self.environment = os.environ | environment | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            LOOPBACK_SWITCH: "0",
            "RAY_raylet_start_wait_time_s": "120",
        }  # fmt: skip
        self.environment.pop("RAY_ADDRESS", None)
        self.nodes = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for node in reversed(self.nodes):
            self.remove(node)

    @property
    def url(self):
        """Where jobs are submitted."""
        return f"http://{ADDRESS}:{self.dashboard_port}"

    def add(self, name, *, head=False, **parameters):
        """Start a node with the parameters of its group (num_cpus=2 and the like)."""
        where = (
            ["--head", f"--port={self.port}", f"--dashboard-host={ADDRESS}",
             f"--dashboard-port={self.dashboard_port}"]
            if head else [f"--address={ADDRESS}:{self.port}"]
        )  # fmt: skip
        given = [f"--{key.replace('_', '-')}={value}" for key, value in parameters.items()]
        # ports of its own, so that another Ray on the machine is not in its way
        agent = [f"--node-ip-address={ADDRESS}", f"--dashboard-agent-listen-port={free_port()}"]
        with (self.log_folder / f"{name}.log").open("wb") as log:
            node = subprocess.Popen(
                [sys.executable, "-c", RAY, "start", "--block", "--disable-usage-stats",
                 "--include-log-monitor=False",  # nobody reads what it sends
                 *where, *agent, *given],
                start_new_session=True, stdout=log, stderr=log, env=self.environment,
            )  # fmt: skip
        self.nodes.append(node)
        if head:
            self._wait_for(node, name)
        return node

    def wait_for_nodes(self, number):
        """Wait until so many nodes are in the cluster."""
        for _ in range(300):
            ended = [node for node in self.nodes if node.poll() is not None]
            logs = sorted(self.log_folder.glob("*.log"))
            assert not ended, "\n".join(path.read_text()[-2000:] for path in logs)
            alive = [node for node in self.state("nodes") if node["state"] == "ALIVE"]
            if len(alive) >= number:
                return
            time.sleep(0.2)  # they are starting
        raise AssertionError(f"{len(alive)} of {number} nodes came")

    def state(self, kind):
        """Return the cluster's `nodes` or `tasks`, dead ones included."""
        answer = json.loads(self.get(f"/api/v0/{kind}?detail=1&limit=10000"))
        return answer["data"]["result"]["result"]

    def remove(self, node):
        """Kill a node with all its processes, as a spot machine goes."""
        if node in self.nodes:
            self.nodes.remove(node)
            try:
                os.killpg(node.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has ended by itself
            node.wait(30)

    def get(self, path):
        """Return what the dashboard answers."""
        request = urllib.request.Request(
            f"{self.url}{path}", headers={"Authorization": f"Bearer {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.read().decode()

    def submit(self, *arguments, timeout=900):
        """Run `ray job submit` to its end."""
        process = self.start_job(*arguments)
        output, _ = process.communicate(timeout=timeout)
        return process.returncode, output

    def start_job(self, *arguments, entrypoint=""):
        """Begin `ray job submit`; its output comes by its pipe.

        A shell puts the settings into the entrypoint, as that of KubeRay's submitter does.
        """
        words = [str(BIN / "ray"), "job", "submit", "--address", self.url, *arguments]
        return subprocess.Popen(
            ["bash", "-ce", f"{shlex.join(words)} {entrypoint}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=self.environment,
        )  # fmt: skip

    def _wait_for(self, node, name):
        for _ in range(600):
            assert node.poll() is None, (self.log_folder / f"{name}.log").read_text()
            try:
                self.get("/api/jobs/")
                return
            except OSError:
                time.sleep(0.2)  # it is starting
        raise AssertionError((self.log_folder / f"{name}.log").read_text())
