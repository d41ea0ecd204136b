"""How a job starts and ends: where its cluster is away, by a signal, and where nothing was fused."""

import importlib
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from cluster.storage import objects
from tests.conftest import free_port
from tests.e2e.archives import (
    fuse_arguments,
    png,
    read_metrics,
    read_parquet,
    run_job,
    started_job,
    write_archive,
)


@pytest.mark.own_ray
@pytest.mark.kills
@pytest.mark.slow
def test_sigterm_stops_a_run_in_order_and_ray_adds_no_line_of_its_own(tmp_path):
    archive, output = str(tmp_path / "archive"), str(tmp_path / "out")
    pairs = write_archive(archive, 32, 160, 224)
    ledger = tmp_path / "out/ledger"
    with started_job("fuse_archive", *fuse_arguments(archive, output)) as job:
        while not ledger.is_dir() or not any(p.suffix == ".parquet" for p in ledger.iterdir()):
            assert job.poll() is None, "no ledger part was seen"
            time.sleep(0.05)
        os.kill(job.pid, signal.SIGTERM)
        assert job.wait() == 143
        job.log.seek(0)
        said = job.log.read()
    assert said.splitlines()[-1] == (
        "fuse_archive: interrupted before it was done: run the same command again"
    )
    # Ray's C++ code begins its lines with the time and E, W or C; a stack trace would have them too.
    assert not re.search(r"^\[\d{4}-|\bcore_worker\b|Stack trace|Traceback", said, re.MULTILINE), said
    (record_path,) = (tmp_path / "out/runs").glob("*")  # the todo files are removed
    record = json.loads(record_path.read_text())
    rows = read_parquet(str(ledger))
    assert record["exit_reason"] == "interrupted"
    assert record["counts"]["num_fused"] == len(rows) and 0 < len(rows) < len(pairs)
    (lease,) = (tmp_path / "out/lease").glob("*.json")
    assert json.loads(lease.read_text())["released"]


@pytest.mark.parametrize("when", ["while Ray starts", "while it works"])
def test_a_sigterm_while_ray_starts_reaches_the_handler_of_the_job(monkeypatch, capsys, when):
    """By Ray's own handler, which `ray.init` sets, in place of all else that it does."""
    from cluster.runtime import session
    from cluster.text.job_main import run

    def start(**_):
        signal.signal(signal.SIGTERM, lambda number, _: exit(number))
        if when == "while Ray starts":
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(session.ray, "init", start)
    monkeypatch.setattr(session.ray, "cluster_resources", dict)

    def call(_):
        with session.ray_session(1):
            signal.raise_signal(signal.SIGTERM)
        return ""

    before = signal.getsignal(signal.SIGTERM)
    assert run("job", lambda _: None, call, []) == 143
    assert "interrupted before it was done" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("job", ["fuse_archive", "evaluate", "train_dmnet"])
def test_ray_address_of_a_cluster_that_is_away_is_named_before_anything_is_written(tmp_path, job):
    write_archive(str(tmp_path / "archive"), 6)
    index, output = tmp_path / "pairs.parquet", tmp_path / "out"
    indexed = run_job("index_archive", *fuse_arguments(str(tmp_path / "archive"), str(index)))
    assert indexed.returncode == 0
    environment = {"RAY_ADDRESS": f"127.0.0.1:{free_port()}"}
    away = run_job(job, "--index", str(index), "--output", str(output), environment=environment)
    assert away.returncode == 2
    (line,) = away.stderr.splitlines()
    assert f"RAY_ADDRESS is '{environment['RAY_ADDRESS']}', where nothing answers" in line
    assert not output.exists()


@pytest.mark.usefixtures("shared_ray")
def test_a_limited_run_counts_the_whole_index_and_needs_no_cluster_once_it_is_done(tmp_path):
    archive, output = tmp_path / "archive", str(tmp_path / "out")
    write_archive(str(archive), 5)
    objects.put_bytes(str(archive / "ir/alone.png"), b"x")
    arguments = fuse_arguments(str(archive), output)
    dry = run_job("fuse_archive", *arguments, "--limit", "2", "--dry-run")
    first = run_job("fuse_archive", *arguments, "--limit", "2")
    for said in (dry.stdout, first.stdout):
        for line in ("pairs in index   6", "beyond --limit   3", "without partner  1", "to fuse    2"):
            assert line in said
    assert first.returncode == 0, first.stdout + first.stderr
    assert "6 = 2 fused + 1 rejected + 3 left by --limit" in first.stdout
    (path,) = (tmp_path / "out/runs").iterdir()
    counts = json.loads(path.read_text())["counts"]
    assert counts["reasons"] == {"missing_partner": 1}
    assert [counts[f"num_{name}"] for name in ("pairs", "fused", "rejected", "left")] == [6, 2, 1, 3]

    less = run_job("fuse_archive", *arguments, "--limit", "1", environment={"RAY_ADDRESS": "away:1"})
    assert less.returncode == 0 and "nothing left to do" in less.stdout, less.stderr
    assert "6 = 2 fused + 1 rejected + 3 left by --limit" in less.stdout
    assert len(read_metrics(output)) == 2  # what was fused before stands in the tables and in the counts


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_preview_named_but_absent_where_every_pair_is_rejected_is_no_success(tmp_path):
    pairs = write_archive(str(tmp_path / "archive"), 1)
    ((_, vis),) = pairs.values()
    objects.put_bytes(str(tmp_path / "archive/vis/day/000.png"), png(vis[:-8]))
    job = run_job("fuse_archive", *fuse_arguments(str(tmp_path / "archive"), str(tmp_path / "out")))
    assert job.returncode == 1
    assert "all 1 pairs were rejected (1 size_mismatch)" in job.stderr
    named = re.findall(rf"{tmp_path}/\S+", job.stdout)
    assert [Path(path).name for path in named] == ["fused.zarr", "metrics.parquet", "rejected.parquet"]
    assert all(Path(path).exists() for path in named)


def test_every_job_ends_with_143_at_a_sigterm(monkeypatch, capsys):
    monkeypatch.setattr("cluster.archive.pair_index.build_index", lambda _: signal.raise_signal(15))
    job = importlib.import_module("jobs.index_archive")
    assert job.main(["--ir", "a", "--vis", "b", "--output", "o.csv"]) == 143
    assert capsys.readouterr().err.startswith("index_archive: interrupted before it was done")
