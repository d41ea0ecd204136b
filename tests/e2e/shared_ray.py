"""A Ray that tests of a pytest run share: a node on loopback, joined by address and token.

A job finds it by RAY_ADDRESS, as it finds any cluster. One of a process of its own ships its packages to
the workers, as to any cluster; for those within this process they lie on the node's PYTHONPATH, since
Ray starts workers in half of the time then.
"""

import os
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

from cluster.runtime.local_only import LOCAL_TOKEN, closed_to_others
from tests.e2e.archives import ROOT
from tests.e2e.ray_cluster import ADDRESS, LOOPBACK_SWITCH, RayCluster

NUM_CPUS = 3
OBJECT_STORE_BYTES = 400_000_000
QUICK_TRAINING = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
"""Environment in which Ray Train takes the report of an epoch sooner than after 2 s, its default, and
starts no process that waits for a cloud to take a node away."""
NO_RAY = "no-shared-ray-in-this-test"
"""As RAY_ADDRESS it lets a job fail at once, where it would start a Ray of its own within pytest."""


class SharedRay:
    """A head node with a dashboard, which runs while its `with` block does."""

    running: "SharedRay | None" = None

    def __init__(self, folder, environment):
        self.folder = folder
        """Of Ray's session files; its path must be short, since sockets lie below it."""
        settings = QUICK_TRAINING | {"PYTHONPATH": str(ROOT)}
        self.cluster = RayCluster(folder, token=LOCAL_TOKEN, **environment, **settings)
        # Ray Train's actors ask the dashboard for each other's state. Without this they would look for it
        # at the Ray that was last started on the machine, and each training would end 12 s later.
        self.cluster.environment["RAY_ADDRESS"] = f"{ADDRESS}:{self.cluster.port}"

    def __enter__(self):
        self.cluster.add(
            "head", head=True, num_cpus=NUM_CPUS, object_store_memory=OBJECT_STORE_BYTES,
            temp_dir=self.folder,
        )  # fmt: skip
        self.other, SharedRay.running = SharedRay.running, self
        return self

    def __exit__(self, *_):
        SharedRay.running = self.other
        self.cluster.__exit__()

    @property
    def node(self):
        """The process in whose session all others of this Ray run."""
        (node,) = self.cluster.nodes
        return node

    @property
    def environment(self):
        """What a process of its own needs to join."""
        return {
            "RAY_ADDRESS": f"{ADDRESS}:{self.cluster.port}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.cluster.token,
            LOOPBACK_SWITCH: "0",
        }


@contextmanager
def joined_by_this_process(environment):
    """Let a job within this process join the shared Ray; undo what it does to the environment."""
    running = SharedRay.running
    address = running.environment["RAY_ADDRESS"] if running else NO_RAY
    before = dict(os.environ)
    try:
        # Only where a Ray runs, since Ray Data takes a second to import.
        no_shipping = patch("cluster.runtime.session._runtime_env", dict) if running else nullcontext()
        with closed_to_others(), no_shipping:  # whose token the shared Ray was given
            os.environ |= {"RAY_ADDRESS": address} | environment
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)
