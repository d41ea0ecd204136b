"""Hostile files and names: one archive of them all, fused once, each checked against its row."""

import subprocess
import sys

import duckdb
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from cluster.archive.reasons import REASONS
from cluster.fusing.preview import make_preview
from cluster.storage import fused_store, objects
from dmnet_core.metrics import METRICS
from tests.e2e.archives import ROOT, check_pixels, run_job
from tests.e2e.hostile import CASES, put, run_all
from tests.e2e.hostile_files import COUNTS, GREY, IR, giant_png, png

FUSED = [slug for slug, case in CASES.items() if case.expected == "fused"]
TERMINAL = "\x1b[2J\x1b]0;title\x07\u202e\x9b31m\r"
"""What a terminal would obey, were it printed as it is."""


@pytest.fixture(scope="module")
def run(shared_ray, tmp_path_factory):
    return run_all(tmp_path_factory.mktemp("hostile"))


def moves_a_terminal(text):
    return [letter for letter in text if letter != "\n" and not letter.isprintable()]


@pytest.mark.parametrize("slug", CASES)
def test_each_case_has_its_row(run, slug):
    case = CASES[slug]
    fused = run.metrics[run.metrics["pair_id"] == case.pair_id]
    rejected = run.rejected[run.rejected["pair_id"] == case.pair_id]
    if case.expected != "fused":
        assert len(fused) == 0
        assert list(rejected["reason"]) == [case.expected]
        (detail,) = rejected["detail"]
        assert detail and not moves_a_terminal(detail) and "\n" not in detail
        assert case.expected in REASONS
        return
    assert rejected.to_dict("records") == []
    (row,) = fused.to_dict("records")
    assert np.isfinite([row[name] for name in METRICS]).all()
    check_pixels(str(run.folder / "out"), {case.pair_id: case.pixels()})


def test_every_pair_is_accounted_for_and_nothing_else_has_a_row(run):
    rows = [*run.metrics["pair_id"], *run.rejected["pair_id"]]
    assert sorted(rows) == sorted(case.pair_id for case in CASES.values())
    num_rejected = len(CASES) - len(FUSED)
    assert f"{len(CASES)} = {len(FUSED)} fused + {num_rejected} rejected" in run.fuse.stdout


def test_no_name_leaves_the_output_folder(run):
    assert {path.name for path in run.folder.iterdir()} == {
        "archive", "out", "pairs.parquet", "pairs.unmatched.parquet",
    }  # fmt: skip
    written = objects.list_files(str(run.folder / "out"))
    tops = {file.path.split("/")[0] for file in written}
    assert {"fused.zarr", "ledger", "metrics.parquet", "rejected.parquet", "runs"} <= tops
    for path in run.metrics["zarr_path"]:
        place = (run.folder / "out/fused.zarr" / path).resolve()
        assert place.is_relative_to(run.folder / "out/fused.zarr")
        assert (place / "fused/zarr.json").is_file()
    assert run.metrics["zarr_path"].is_unique
    sources = {file.name for file in (run.folder / "archive").rglob("*")}
    assert not {"pwned", "escape"} & sources
    assert not any((place / "pwned").exists() for place in (ROOT, run.folder, run.folder / "out"))


def test_every_name_opens_in_xarray_and_is_whole_in_duckdb(run):
    for row in run.metrics.itertuples():
        store = str(run.folder / "out/fused.zarr")
        pair = xr.open_zarr(store, group=row.zarr_path, consolidated=False)
        assert pair.attrs["pair_id"] == row.pair_id
        assert pair["fused"].shape[:2] == (row.height, row.width)
    for table, frame in (("metrics", run.metrics), ("rejected", run.rejected)):
        parts = f"{run.folder}/out/{table}.parquet/*.parquet"
        names = duckdb.sql(f"select pair_id from '{parts}'").fetchall()
        assert sorted(name for (name,) in names) == sorted(frame["pair_id"])


def test_nothing_that_the_jobs_print_moves_a_terminal(run):
    for job in (run.index, run.fuse):
        assert job.stdout
        assert not moves_a_terminal(job.stdout + job.stderr)


def test_an_error_shows_a_hostile_name_without_obeying_it(tmp_path):
    put(tmp_path, "ir", f"{TERMINAL}\n.png", png(IR))
    put(tmp_path, "vis", "other.png", png(GREY))
    arguments = ["--ir", str(tmp_path / "ir"), "--vis", str(tmp_path / "vis")]
    job = run_job("index_archive", *arguments, "--output", str(tmp_path / "pairs.parquet"))
    assert job.returncode == 2
    assert "\\x1b[2J" in job.stderr and job.stderr.count("\n") == 1
    assert not moves_a_terminal(job.stderr)


def test_the_preview_names_a_lost_pair_without_obeying_its_name(tmp_path, capsys):
    lost = {"pair_id": TERMINAL, "zarr_path": "x"}
    lost |= {f"{side}_url": str(tmp_path / f"{TERMINAL}{side}.png") for side in ("ir", "vis")}
    store = str(tmp_path / "fused.zarr")
    picture = make_preview(pd.DataFrame([lost]), store, max_pixels=100)
    assert picture is None
    said = capsys.readouterr().err
    assert "\\x1b[2J" in said
    assert not moves_a_terminal(said)


def test_a_narrow_band_of_counts_keeps_its_detail(run):
    store = str(run.folder / "out/fused.zarr")
    fused = fused_store.read_fused(store, "content/narrow%20band").astype(float)
    # over the type's whole range the band would be 1.5 of 255 grey levels, and the visible is flat
    assert np.ptp(COUNTS) / 65535 * 255 < 1.5
    # loose, since other weights may come: the scene's own deviation is 15, and the shipped give .98
    assert fused.std() > 8
    assert np.corrcoef(fused.ravel(), COUNTS.ravel())[0, 1] > 0.8


def test_a_giant_image_is_refused_in_little_memory(tmp_path):
    (tmp_path / "giant.png").write_bytes(giant_png())
    code = (
        "import sys\n"
        "from cluster.archive.sources.frames import BadImage, decode_image\n"
        "try:\n"
        "    decode_image(open(sys.argv[1], 'rb').read(), max_pixels=2**24)\n"
        "except BadImage as error:\n"
        "    status = dict(line.split(':') for line in open('/proc/self/status'))\n"
        "    print(error.reason, status['VmHWM'].split()[0])\n"
    )
    job = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "giant.png")],
        capture_output=True, text=True, cwd=ROOT, timeout=60, check=True,
    )  # fmt: skip
    reason, peak_kb = job.stdout.split()
    assert reason == "too_many_pixels"
    # decoded it would take 900 MB; the libraries alone take 60
    assert int(peak_kb) < 200_000
