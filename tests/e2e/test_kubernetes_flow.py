"""What the RayJob of the cpu-smoke overlay does, by hand: its nodes, its entrypoint, a node that goes.

The GPU of the fusers is a number that Ray is told, as in that overlay: no CUDA is needed.
"""

import json
import re
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from cluster.storage import urls
from tests.conftest import free_port
from tests.e2e.archives import check_pixels, read_metrics, write_archive
from tests.e2e.ray_cluster import ADDRESS, RayCluster
from tests.manifests.built import MANIFESTS, settings

pytestmark = [pytest.mark.own_ray, pytest.mark.kills, pytest.mark.slow]
NUM_PAIRS = 12
DEADLINE_S = 900
CPU_STEPS = ("read_window", "write_window")


def smoke_entrypoint():
    """Return the fusing job's entrypoint as the overlay writes it."""
    text = (MANIFESTS / "overlays/cpu-smoke/kustomization.yaml").read_text()
    (patch,) = (
        patch for patch in yaml.safe_load(text)["patches"]
        if patch["target"].get("name") == "dmnet-fuse-archive"
    )  # fmt: skip
    return yaml.safe_load(patch["patch"])[0]["value"]


def wait_for(condition, what):
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what} did not come in {DEADLINE_S} s")


def num_stored(output):
    store = Path(output) / "fused.zarr"
    return len(list(store.rglob("fused/zarr.json"))) if store.exists() else 0


def scrape(port, name):
    """Return a metric's values by their tags as a node shows it, or {} where it does not yet."""
    try:
        with urllib.request.urlopen(f"http://{ADDRESS}:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    lines = re.findall(rf"^{name}\{{(.*)\}} (\S+)$", text, re.MULTILINE)
    return {tags: float(value) for tags, value in lines}


def node_ids(cluster, resource):
    """Return the nodes, dead ones included, that have or had a resource."""
    return {node["node_id"] for node in cluster.state("nodes") if node["resources_total"].get(resource)}


def test_the_smoke_job_completes_though_its_only_fuser_goes_and_another_comes(tmp_path):
    archive, output = str(tmp_path / "archive"), str(tmp_path / "out")
    pairs = write_archive(archive, NUM_PAIRS, height=256, width=320)
    own = {
        "DMNET_IR": urls.join_url(archive, "ir"),
        "DMNET_VIS": urls.join_url(archive, "vis"),
        "DMNET_OUTPUT": output,
    }
    environment = {**settings("cpu-smoke"), **own, "RAY_metrics_report_interval_ms": "1000"}
    memory, port = 300_000_000, free_port()
    with RayCluster(tmp_path, **environment) as cluster:
        cluster.add("head", head=True, num_cpus=0, num_gpus=0, object_store_memory=memory,
                    metrics_export_port=port)  # fmt: skip
        # CPUs enough for all that reads and writes, and on the fuser some to spare
        cluster.add("reader", num_cpus=6, num_gpus=0, object_store_memory=memory)
        cluster.wait_for_nodes(2)
        label = "dmnet-role=fuser"
        first = cluster.add("fuser-1", num_cpus=4, num_gpus=1, object_store_memory=memory, labels=label)
        cluster.wait_for_nodes(3)
        job = cluster.start_job("--", entrypoint=smoke_entrypoint())
        try:
            wait_for(lambda: num_stored(output) >= 2, "the second fused pair")
            with_gpu = node_ids(cluster, "GPU")
            cluster.remove(first)
            assert num_stored(output) < NUM_PAIRS, "the fuser went too late to prove anything"
            cluster.add(
                "fuser-2", num_cpus=4, num_gpus=1, object_store_memory=memory, labels=label
            )  # fmt: skip
            seen = wait_for(lambda: scrape(port, "ray_dmnet_windows_fused_total"), "the metrics")
            said, _ = job.communicate(timeout=DEADLINE_S)
            with_gpu |= node_ids(cluster, "GPU")
            placed = [(task["name"], task["node_id"]) for task in cluster.state("tasks")]
        finally:
            job.kill()
    assert job.returncode == 0, said
    events = [json.loads(line) for line in said.splitlines() if line.startswith('{"time"')]
    assert events[-1]["event"] == "finished" and len({event["run_id"] for event in events}) == 1
    assert (events[-1]["fused"], events[-1]["rejected"]) == (NUM_PAIRS, 0)
    assert all(events[-1]["run_id"] in tags for tags in seen) and 0 < sum(seen.values()) <= NUM_PAIRS
    check_pixels(output, pairs)
    assert sorted(read_metrics(output)["pair_id"]) == sorted(pairs)
    steps = [place for place in placed if place[1] and any(step in place[0] for step in CPU_STEPS)]
    assert len(steps) >= 2, placed
    reading = {name for name, _ in placed if "_read_blocks" in name}
    assert reading and all("read_window" in name for name in reading), reading  # one task does both
    assert not [step for step in steps if step[1] in with_gpu], steps
    assert len(with_gpu) == 2
