"""The manifests against KubeRay's and Kubernetes' schemas, the jobs' own parsers, and each other."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jq
import jsonschema
import kubernetes_validate
import pytest
import yaml

from cluster.fusing.estimate import actor_bytes
from cluster.fusing.stream import NOT_ON_FUSERS
from dmnet_core.checkpoint import load_checkpoint
from tests.manifests.built import (
    MANIFESTS,
    OVERLAYS,
    RAY_KINDS,
    ROOT,
    build,
    overlay,
    parse_entrypoint,
    pods,
    ray_schema,
    settings,
    sources,
)

KUBERNETES = "1.33"
FACTORS = {"": 1, "m": 1e-3, "Mi": 2**20, "Gi": 2**30}


def quantity(text):
    number, unit = re.fullmatch(r"([\d.]+)(m|Mi|Gi|)", str(text)).groups()
    return float(number) * FACTORS[unit]


def check(document):
    """Raise where a document is not what its kind's schema says."""
    if document["kind"] in RAY_KINDS:
        schema = ray_schema(document["kind"])
        errors = [
            f"{'.'.join(map(str, error.path))}: {error.message[:200]}"
            for error in jsonschema.Draft202012Validator(schema).iter_errors(document)
        ]
        assert not errors, errors
    else:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def ray_jobs(name):
    return {d["metadata"]["name"]: d["spec"] for d in overlay(name) if d["kind"] == "RayJob"}


def clusters(name):
    """Return every cluster spec of an overlay: the interactive one and each job's."""
    found = [d["spec"] for d in overlay(name) if d["kind"] == "RayCluster"]
    return found + [spec["rayClusterSpec"] for spec in ray_jobs(name).values()]


@pytest.fixture(scope="module")
def with_raycronjob(tmp_path_factory):
    """The documents of the gpu overlay with KubeRay's own nightly job."""
    copy = tmp_path_factory.mktemp("manifests") / "manifests"
    shutil.copytree(MANIFESTS, copy)
    path = copy / "overlays/gpu/kustomization.yaml"
    text = path.read_text()
    assert "- ../../nightly/cronjob " in text
    path.write_text(text.replace("- ../../nightly/cronjob ", "- ../../nightly/raycronjob "))
    return build(path.parent)


@pytest.mark.parametrize(("name", "document"), sources(), ids=lambda value: str(value)[:40])
def test_each_file_follows_the_schema_of_its_kind(name, document):
    check(document)


@pytest.mark.parametrize("name", OVERLAYS)
def test_each_built_overlay_follows_the_schemas(name):
    for document in overlay(name):
        check(document)


def test_the_nightly_job_of_kuberay_is_the_fusing_job_and_starts(with_raycronjob):
    for document in with_raycronjob:
        check(document)
    (nightly,) = (d["spec"] for d in with_raycronjob if d["kind"] == "RayCronJob")
    made = nightly["jobTemplate"]
    template = ray_jobs("gpu")["dmnet-fuse-archive"]
    assert made == {name: value for name, value in template.items() if name != "suspend"}
    assert not nightly["suspend"]


def test_the_nightly_cronjob_makes_the_fusing_job_of_the_suspended_one():
    (cron,) = (d for d in overlay("gpu") if d["kind"] == "CronJob")
    (pod,) = pods(cron)
    script = pod["containers"][0]["args"][0]
    subprocess.run(["bash", "-n", "-c", script], check=True)
    program = re.search(r"jq --arg name \"\$name\" '(.*?)'", script, re.DOTALL)[1]
    (template,) = (d for d in overlay("gpu") if d["metadata"]["name"] == "dmnet-fuse-archive")
    stored = template | {"status": {"jobStatus": "x"}}
    stored["metadata"] = template["metadata"] | {"uid": "1", "resourceVersion": "2"}
    made = jq.compile(program, args={"name": "dmnet-nightly-mon"}).input_value(stored).first()
    check(made)
    assert made["metadata"] == {"name": "dmnet-nightly-mon", "labels": template["metadata"]["labels"]}
    assert made["spec"] == template["spec"] | {"suspend": False}


@pytest.mark.parametrize("name", OVERLAYS)
def test_each_job_parses_its_entrypoint_and_fits_on_the_workers(name):
    values = settings(name)
    jobs = ray_jobs(name)
    assert sorted(jobs) == ["dmnet-evaluate", "dmnet-fuse-archive", "dmnet-train-dmnet"]
    for job_name, spec in jobs.items():
        module, config = parse_entrypoint(spec["entrypoint"], values)
        assert job_name == f"dmnet-{module.removeprefix('jobs.').replace('_', '-')}"
        groups = {g["groupName"]: g for g in spec["rayClusterSpec"]["workerGroupSpecs"]}
        cpus, gpus = (
            {n: float(g["rayStartParams"][f"num-{kind}"]) for n, g in groups.items()}
            for kind in ("cpus", "gpus")
        )
        assert cpus["readers"] >= 1 and gpus["readers"] == 0
        assert "!" + groups["fusers"]["labels"]["dmnet-role"] == NOT_ON_FUSERS["dmnet-role"]
        if module == "jobs.fuse_archive":
            claim = 1 if config.on_cuda else config.cpus_per_actor
            assert (claim, config.gpus_per_actor) == (cpus["fusers"], gpus["fusers"])
            assert config.num_actors <= groups["fusers"]["maxReplicas"]
            limit = quantity(
                groups["fusers"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
            )
            shared = float(groups["fusers"]["rayStartParams"]["object-store-memory"])
            if not config.on_cuda:
                assert shared + actor_bytes(load_checkpoint().model, config.max_pixels) <= limit
            assert config.wait, "a night must wait for the one before it"
        if module == "jobs.train_dmnet":
            room = sum(cpus[n] * groups[n]["maxReplicas"] for n in groups)
            if config.use_gpu:
                room = groups["fusers"]["maxReplicas"]
            assert config.num_workers <= room


@pytest.mark.parametrize("name", OVERLAYS)
def test_what_ray_is_told_fits_into_the_pods(name):
    values = settings(name)
    on_cuda = parse_entrypoint(ray_jobs(name)["dmnet-fuse-archive"]["entrypoint"], values)[1].on_cuda
    for cluster in clusters(name):
        assert cluster["authOptions"] == {"mode": "token"}
        head = cluster["headGroupSpec"]
        assert head["rayStartParams"]["num-cpus"] == "0"
        for group in (head, *cluster["workerGroupSpecs"]):
            started, pod = group["rayStartParams"], group["template"]["spec"]
            (container,) = pod["containers"]
            limits = container["resources"]["limits"]
            assert float(started["num-cpus"]) <= quantity(limits["cpu"])
            gpus = float(started["num-gpus"])
            assert float(limits.get("nvidia.com/gpu", 0)) == (gpus if on_cuda else 0)
            shared = {v["name"]: v for v in pod["volumes"]}["shared-memory"]["emptyDir"]
            assert shared["medium"] == "Memory"
            objects = float(started["object-store-memory"])
            assert objects <= quantity(shared["sizeLimit"]) <= quantity(limits["memory"]) / 2
            assert {"name": "shared-memory", "mountPath": "/dev/shm"} in container["volumeMounts"]
            ports = {port["containerPort"] for port in container["ports"]}
            assert int(started["metrics-export-port"]) in ports


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_pod_is_closed(name):
    found = [pod for document in overlay(name) for pod in pods(document)]
    assert len(found) >= 15
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 10001
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= set(container["resources"]["limits"])
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}
    labels = {"app.kubernetes.io/part-of": "dmnet-archive"}
    (policy,) = (d for d in overlay(name) if d["kind"] == "NetworkPolicy")
    assert policy["spec"]["podSelector"]["matchLabels"] == labels
    templates = re.findall(r"template:\n\s+metadata:\n\s+labels: (.*)", all_text())
    assert templates and all(found == "{app.kubernetes.io/part-of: dmnet-archive}" for found in templates)


@pytest.mark.parametrize("name", OVERLAYS)
def test_all_pods_have_one_image_of_a_fixed_version(name):
    images = {c["image"] for d in overlay(name) for pod in pods(d) for c in pod["containers"]}
    (image,) = images
    tag = image.rpartition(":")[2]
    assert re.fullmatch(r"\d+\.\d+\.\d+-(cuda|cpu)", tag), image
    version = re.search(r'__version__ = "(.*)"', (ROOT / "dmnet_core/__init__.py").read_text())[1]
    assert tag.startswith(f"{version}-")


def test_versions_agree_with_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = [text for text in project["dependencies"] if "==" in text]
    pins = dict(re.match(r"([\w-]+)(?:\[.*\])?==(.*)", text).groups() for text in pinned)
    cluster = yaml.safe_load((MANIFESTS / "base/raycluster.yaml").read_text())
    assert cluster["spec"]["rayVersion"] == pins["ray"]
    docker = (MANIFESTS / "Dockerfile").read_text()
    assert set(re.findall(r"torch==([\d.]+)", docker)) == {pins["torch"]}
    for copied in re.findall(r"^COPY (.*) \S+$", docker, re.MULTILINE):
        for path in copied.split():
            assert (ROOT / path).exists(), path
            top = path.split("/")[0]
            assert f"!{top}" in (MANIFESTS / "Dockerfile.dockerignore").read_text().splitlines()


def test_no_secret_and_no_moving_tag_stands_in_a_file():
    for path in MANIFESTS.rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert ":latest" not in text, path
            found = re.search(r"AKIA[0-9A-Z]{16}|SECRET_ACCESS_KEY|PRIVATE KEY|kind: Secret", text)
            assert not found, path


def test_the_dockerfile_passes_hadolint():
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, MANIFESTS / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def all_text():
    return "".join(path.read_text() for path in sorted(MANIFESTS.rglob("*.yaml")))


def test_the_dashboard_shows_every_metric_of_a_run_and_no_other():
    source = (ROOT / "cluster/runtime/telemetry.py").read_text()
    named = {f"ray_{name}_total" for name in re.findall(r'counter\(\s*"(\w+)"', source)}
    named |= {f"ray_{name}" for name in re.findall(r'gauge\(\s*"(\w+)"', source)}
    assert len(named) == 8
    dashboard = json.loads((MANIFESTS / "monitoring/dashboard.json").read_text())
    shown = " ".join(t["expr"] for panel in dashboard["panels"] for t in panel["targets"])
    assert set(re.findall(r"ray_\w+", shown)) == named


def test_monitoring_can_be_taken_in(tmp_path):
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    path = tmp_path / "manifests/overlays/gpu/kustomization.yaml"
    path.write_text(path.read_text().replace("components:\n", "components:\n  - ../../monitoring\n"))
    documents = {(d["kind"], d["metadata"]["name"]): d for d in build(path.parent)}
    (monitor,) = documents["PodMonitor", "dmnet"]["spec"]["podMetricsEndpoints"]
    assert json.loads(documents["ConfigMap", "dmnet-dashboard"]["data"]["dashboard.json"])
    pods_of_ray = [p for d in documents.values() if d["kind"] == "RayCluster" for p in pods(d)]
    for pod in pods_of_ray:
        assert monitor["port"] in {port["name"] for port in pod["containers"][0]["ports"]}
