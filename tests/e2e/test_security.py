"""What docs/security.md says of running jobs: who reaches their Ray, and where a secret never stands."""

import json
import os
import pickle
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit
from urllib.request import Request, urlopen

import grpc
import pandas as pd
import pytest
import s3fs

from cluster.storage import objects
from dmnet_core.checkpoint import load_checkpoint
from tests.e2e.archives import (
    ROOT,
    fuse_arguments,
    read_metrics,
    read_rejected,
    run_job,
    run_process,
    write_archive,
)

HOLD_RAY = """
import sys
import ray
from cluster.runtime import local_only, session

@ray.remote
class Actor:
    def ready(self):
        return True

with session.ray_session(1):
    actor = Actor.remote()
    ray.get(actor.ready.remote())
    print(local_only.LOCAL_TOKEN, ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
"""
METHODS = {
    "NodeInfoGcsService": "GetAllNodeInfo",
    "NodeManagerService": "GetNodeStats",
    "ObjectManagerService": "Pull",
    "CoreWorkerService": "GetCoreWorkerStats",
    "ReporterService": "HealthCheck",
}
"""A method of each of Ray's gRPC servers: other ones than a port's own are UNIMPLEMENTED there."""
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""127.0.0.1, the same as IPv6 has it, and ::1, as /proc/net/tcp writes them."""


def process_tree(root):
    """Return the pids of a process and of all below it."""
    children = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has just ended
        children.setdefault(parent, []).append(int(path.parent.name))
    found, todo = [], [root]
    while todo:
        found.append(pid := todo.pop())
        todo += children.get(pid, [])
    return found


def listeners(pids):
    """Return address (hexadecimal) and port of every TCP socket that the processes listen on."""
    inodes = set()
    for pid in pids:
        for path in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(os.readlink(path))
            except OSError:
                continue
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    listening = [line for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in inodes]
    return sorted((line[1].split(":")[0], int(line[1].split(":")[1], 16)) for line in listening)


def answers(port, token):
    """Return what a port says to each of METHODS, or to HTTP where it speaks no gRPC."""
    headers = (("authorization", f"Bearer {token}"),) if token else ()
    codes = set()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for service, method in METHODS.items():
            try:
                channel.unary_unary(f"/ray.rpc.{service}/{method}")(b"", timeout=20, metadata=headers)
                codes.add("OK")
            except grpc.RpcError as error:
                codes.add(error.code().name)
    if codes != {"UNAVAILABLE"}:
        return codes - {"UNIMPLEMENTED"}
    try:
        urlopen(Request(f"http://127.0.0.1:{port}/", headers=dict(headers)), timeout=20).close()
        return {200}
    except OSError as error:
        return {getattr(error, "code", str(error))}


@pytest.fixture
def short_folder():
    """A folder for Ray's files with a short path: a socket's has 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.own_ray
def test_a_ray_that_a_job_starts_is_on_loopback_asks_for_a_token_and_keeps_its_files_to_itself(
    short_folder,
):
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "RAY_TMPDIR": str(short_folder),
        "RAY_AUTH_MODE": "disabled",  # by a user's mistake: a local Ray asks for a token all the same
    }
    environment.pop("RAY_ADDRESS", None)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_RAY],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    try:
        token, gcs = holder.stdout.readline().split()
        pids = process_tree(holder.pid)
        found = listeners(pids)
        # GCS, raylet, object manager, two agents, the driver, an actor: none was overlooked
        assert len(found) >= 7 and int(gcs.rpartition(":")[2]) in {port for _, port in found}
        outside = [place for place in found if place[0] not in LOOPBACK]
        assert not outside, f"not on loopback: {outside}"
        said = {
            place: [answers(place[1], given) for given in (None, "0" * 64, token)] for place in found
        }
        still = set(listeners(process_tree(holder.pid)))  # an idle worker may have ended meanwhile
        assert len(still & said.keys()) >= 6
        for place in still & said.keys():
            without, wrong, right = said[place]
            assert without in ({"UNAUTHENTICATED"}, {401}), place
            assert wrong in ({"UNAUTHENTICATED"}, {403}), place
            assert right in ({"OK"}, {404}), place  # it was the token that lacked
        for pid in pids:
            assert token not in Path(f"/proc/{pid}/cmdline").read_text(), "others see command lines"
        (folder,) = short_folder.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "ray/session_latest/sockets").is_dir()
        assert not where([token], folder)
    finally:
        holder.stdin.close()
        holder.wait(60)


def where(hidden, folder):
    """Return the files below a folder that hold one of several texts, Parquet files by their values."""
    found = []
    for path in sorted(Path(folder).rglob("*")):
        if not path.is_file():
            continue
        data = path.read_bytes()
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
            data += table.to_csv().encode()
        if any(text.encode() in data for text in hidden):
            found.append(str(path))
    return found


SECRET = secrets.token_hex(8)
"""Stands in no source file, and copies of those lie in the folder of a Ray that a job was sent to."""


def archive_with_secrets(s3, tmp_path):
    """Write an archive and weights on S3 and an index that reaches them by signed and wrong URLs.

    Returns the index, the signed URL of the weights, and every secret of all URLs.
    """
    write_archive(f"{s3}/archive", 3)
    weights = (ROOT / "dmnet_core/weights/compact.safetensors").read_bytes()
    objects.put_bytes(f"{s3}/weights.safetensors", weights)
    filesystem = s3fs.S3FileSystem(endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    bucket = s3.removeprefix("s3://")
    sign = filesystem.sign
    rows = [("plain", *(f"{s3}/archive/{side}/day/000.png" for side in ("ir", "vis")))]
    rows += [
        (f"signed {n}", *(sign(f"{s3}/archive/{side}/day/00{n}.png") for side in ("ir", "vis")))
        for n in (1, 2)
    ]
    rows += [("gone", *(sign(f"{s3}/archive/{side}/none.png") for side in ("ir", "vis")))]
    wrong = {
        "in front of a bucket": f"s3://KEY:{SECRET}@{bucket}/archive/ir/day/000.png",
        "with a slash": f"s3://KEY:a/{SECRET}@{bucket}/archive/ir/day/000.png",
        "nobody there": f"http://user:{SECRET}@127.0.0.1:9/x.png?token={SECRET}",
    }
    rows += [(name, url, url) for name, url in wrong.items()]
    path = tmp_path / "pairs.parquet"
    pd.DataFrame(rows, columns=["pair_id", "ir_url", "vis_url"]).to_parquet(path)
    weights_url = sign(f"{s3}/weights.safetensors")
    queries = [urlsplit(url).query for row in (*rows, ("", weights_url)) for url in row[1:]]
    signatures = {
        value
        for query in queries
        for name, value in parse_qsl(query)
        if name.lower() in ("signature", "x-amz-signature")
    }
    assert len(signatures) == 7
    return str(path), weights_url, {SECRET, os.environ["AWS_SECRET_ACCESS_KEY"], *signatures}


def test_no_secret_of_a_url_or_the_environment_stands_in_anything_that_the_jobs_leave(
    s3, tmp_path, shared_ray
):
    index, weights, hidden = archive_with_secrets(s3, tmp_path)
    outputs = tmp_path / "outputs"
    fused, scores = (str(outputs / name) for name in ("fused", "scores"))
    jobs = [
        run_job("fuse_archive", "--index", index, "--output", fused, "--checkpoint", weights),
        run_job("evaluate", "--index", index, "--fused", f"ours={fused}", "--output", scores),
    ]
    check_fused(jobs[0], fused)
    check_what_is_left(jobs, hidden, outputs, shared_ray.folder)


@pytest.mark.slow
def test_no_secret_stands_in_what_a_training_leaves(s3, tmp_path, shared_ray):
    index, weights, hidden = archive_with_secrets(s3, tmp_path)
    training = str(tmp_path / "outputs/training")
    job = run_job(
        "train_dmnet", "--index", index, "--output", training, "--checkpoint", weights,
        "--epochs", "0", "1", "--crop", "32", "--batch-size", "1", "--validation-pairs", "0",
    )  # fmt: skip
    check_what_is_left([job], hidden, tmp_path / "outputs", shared_ray.folder)
    card = load_checkpoint(f"{training}/dmnet.safetensors").card
    assert json.loads(card["settings"])["checkpoint_url"] == "weights.safetensors"


@pytest.mark.own_ray
@pytest.mark.slow
def test_no_secret_stands_in_what_a_job_with_a_ray_of_its_own_leaves(s3, tmp_path, short_folder):
    index, weights, hidden = archive_with_secrets(s3, tmp_path)
    fused = str(tmp_path / "outputs/fused")
    job = run_process(
        "fuse_archive", "--index", index, "--output", fused, "--checkpoint", weights,
        environment={"RAY_TMPDIR": str(short_folder)},
    )  # fmt: skip
    check_fused(job, fused)
    check_what_is_left([job], hidden, tmp_path / "outputs", short_folder)


def check_fused(job, output):
    """Check that the pairs behind right URLs of `archive_with_secrets` were fused, and those alone."""
    assert job.returncode == 0, job.stderr[-2000:]
    assert sorted(read_metrics(output)["pair_id"]) == ["plain", "signed 1", "signed 2"]
    assert len(read_rejected(output)) == 4
    assert os.path.exists(f"{output}/preview.png")  # the real URLs were there to draw it
    assert "preview leaves out" not in job.stderr


def check_what_is_left(jobs, hidden, outputs, ray_folder):
    """Look for the secrets of URLs in all that jobs said and wrote."""
    assert not any(job.returncode for job in jobs), [job.stderr[-2000:] for job in jobs]
    for job in jobs:
        assert not [secret for secret in hidden if secret in job.stdout + job.stderr]
    assert not where(hidden, outputs)
    assert not where(hidden, ray_folder)  # Ray's logs
    assert len(where(["ray"], ray_folder)) > 5  # which were looked through


@pytest.mark.parametrize(
    ("job", "arguments"),
    [
        ("fuse_archive", ["--index", "BASE/p.csv?t=SECRET", "--output", "o"]),
        ("fuse_archive", ["--index", "BASE/p.csv", "--output", "o"]),
        ("fuse_archive", ["--ir", "BASE/ir", "--vis", "BASE/vis", "--output", "o"]),
        ("fuse_archive", ["--index", "i.csv", "--output", "BASE/o?t=SECRET"]),
        ("fuse_archive", ["--index", "i.csv", "--output", "o", "--checkpoint", "BASE/w?t=SECRET"]),
        ("index_archive", ["--ir", "BASE/ir", "--vis", "v", "--output", "BASE/p?t=SECRET"]),
        ("index_archive", ["--ir", "BASE/ir?t=SECRET", "--vis", "v", "--output", "p.csv"]),
        ("evaluate", ["--index", "BASE/p.csv", "--output", "o"]),
        ("evaluate", ["--index", "i.csv", "--output", "o", "--fused", "x\x1b[2J=BASE"]),
        ("evaluate", ["--index", "i.csv", "--output", "o", "--fused", "x=BASE/f?t=SECRET"]),
        ("train_dmnet", ["--index", "BASE/p?t=SECRET", "--output", "o"]),
        ("train_dmnet", ["--index", "i.csv", "--output", "o", "--checkpoint", "BASE/w?t=SECRET"]),
        ("make_sample", ["--output", "BASE/o", "--pairs", "1"]),
    ],
)
@pytest.mark.parametrize("base", ["http://user:SECRET@127.0.0.1:9", "s3://KEY:a/SECRET@bucket"])
def test_a_job_that_fails_names_no_secret_of_its_command_line(
    s3, tmp_path, monkeypatch, job, arguments, base
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "i.csv").write_text("pair_id,ir_url,vis_url\n1,a,b\n2,c,d\n")
    given = [text.replace("BASE", base).replace("SECRET", SECRET) for text in arguments]
    shown = run_job(job, *given)
    assert shown.returncode == 2
    lines = shown.stderr.splitlines()
    assert lines[-1].startswith(f"{job}") and lines[-1].isprintable()
    assert SECRET not in shown.stdout + shown.stderr
    assert not where([SECRET], tmp_path)


def test_a_pickle_by_the_name_of_a_checkpoint_ends_the_job_in_one_line(tmp_path):
    write_archive(str(tmp_path / "archive"), 1)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(f"cos\nmkdir\n(S'{tmp_path}/pwned'\ntR.".encode())
    arguments = fuse_arguments(str(tmp_path / "archive"), str(tmp_path / "out"))
    job = run_job("fuse_archive", *arguments, "--checkpoint", str(weights))
    assert job.returncode == 2 and len(job.stderr.splitlines()) == 1
    assert "is no DMNet checkpoint" in job.stderr
    assert not (tmp_path / "out").exists() and not (tmp_path / "pwned").exists()
    pickle.loads(weights.read_bytes())
    assert (tmp_path / "pwned").exists()  # so it was hostile
