"""The evaluation job through its real entry point."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cluster.storage import objects, tables
from dmnet_core.metrics import METRICS, fusion_metrics
from dmnet_core.prepare import prepare_pair
from dmnet_core.references import METHODS
from tests.e2e.archives import fuse_arguments, png, read_metrics, run_job, write_archive


def levels(image):
    return torch.from_numpy(image * 255)[None, None]


def make_index(archive, sets):
    index = run_job("index_archive", *fuse_arguments(archive, f"{archive}/pairs.parquet"))
    assert index.returncode == 0, index.stderr
    table = tables.read_table(f"{archive}/pairs.parquet")
    tables.write_table(f"{archive}/pairs.parquet", table.assign(set=sets))
    return f"{archive}/pairs.parquet"


@pytest.mark.usefixtures("shared_ray")
def test_a_store_folders_and_references_are_scored_and_what_is_amiss_is_counted(tmp_path):
    archive, output = str(tmp_path / "archive"), str(tmp_path / "out")
    pairs = write_archive(archive, 4)
    index = make_index(archive, ["a", "a", "b", "b"])
    fused = run_job("fuse_archive", "--index", index, "--output", output, "--dtype", "uint16")
    assert fused.returncode == 0, fused.stderr
    (tmp_path / "other/day").mkdir(parents=True)
    for name in ("day/000", "day/001", "day/002"):
        Image.fromarray(pairs[name][0]).save(tmp_path / f"other/{name}.png")
    Image.fromarray(pairs["day/002"][0][:-8]).save(tmp_path / "other/day/002.png")
    (tmp_path / "other/day/001.png").write_bytes(b"<html>")
    (tmp_path / "other/more.png").write_bytes(png(pairs["day/000"][0]))

    table = str(tmp_path / "table")
    job = run_job(
        "evaluate", "--index", index, "--output", table,
        "--fused", f"ours={output}", f"IR alone={tmp_path}/other",
    )  # fmt: skip
    assert job.returncode == 0, job.stdout + job.stderr
    problems = pd.read_parquet(tmp_path / "table/problems.parquet")
    assert set(problems["method"]) == {"IR alone"}
    assert problems.set_index("pair_id")["reason"].to_dict() == {
        "more": "extra", "day/003": "missing", "day/001": "wrong_type", "day/002": "wrong_size",
    }  # fmt: skip
    for text in (job.stdout, (tmp_path / "table/table.md").read_text()):
        assert "left out (see problems.parquet): IR alone: 1 extra" in text
        assert "different pairs: IR alone: 1 missing; IR alone: 1 wrong_size" in text
        assert "1 of 4" in text and "b" in text.split()
    scores = pd.read_parquet(tmp_path / "table/scores.parquet").set_index(["method", "pair_id"])
    assert len(scores) == 4 * 4 + 1
    for name, (ir, vis) in pairs.items():
        pair = prepare_pair(ir, vis)
        sources = levels(pair.ir), levels(pair.vis)
        for method, function in METHODS.items():
            rounded = [side.round() for side in sources]
            expected = fusion_metrics(*sources, function(*rounded).round())
            for metric in METRICS:
                value = scores.loc[(method, name), metric]
                # a level may round otherwise after a scale to [0, 1] and back
                assert value == pytest.approx(expected[metric].item(), rel=1e-3)
    own = read_metrics(output).set_index("pair_id")
    for name in pairs:
        for metric in METRICS:
            # colour cut to the RGB cube moves a few levels of the brightness
            assert scores.loc[("ours", name), metric] == pytest.approx(own.loc[name, metric], rel=0.05)
    csv = pd.read_csv(tmp_path / "table/table.csv")
    assert set(csv["set"]) == {"a", "b", "all sets"}

    stretched = run_job(
        "evaluate", "--index", index, "--output", table, "--stretch", "minmax", "--max-missing", "0.5",
        "--fused", f"ours={output}/fused.zarr", f"IR alone={tmp_path}/other", "--no-references",
    )  # fmt: skip
    assert stretched.returncode == 1
    assert "IR alone lacks scores of 3 of 4 pairs" in stretched.stderr
    assert "--stretch minmax" in stretched.stdout
    after = pd.read_parquet(tmp_path / "table/scores.parquet").set_index(["method", "pair_id"])
    assert (after.loc["ours", "SD"] >= scores.loc["ours", "SD"] - 0.01).all()
    assert after.loc[("ours", "day/000"), "SD"] > scores.loc[("ours", "day/000"), "SD"]
    assert np.isfinite(after[list(METRICS)].to_numpy()).all()


@pytest.mark.usefixtures("shared_ray")
def test_an_evaluation_on_s3(s3):
    write_archive(f"{s3}/archive", 2)
    index = make_index(f"{s3}/archive", [1.5, None])
    job = run_job(
        "evaluate", "--index", index, "--output", f"{s3}/table", "--fused", f"vis={s3}/archive/vis"
    )
    assert job.returncode == 0, job.stdout + job.stderr
    scores = tables.read_table(f"{s3}/table/scores.parquet")
    assert sorted(scores["set"]) == [""] * 4 + ["1.5"] * 4
    assert objects.read_bytes(f"{s3}/table/table.md").startswith(b"Fused images as they are")
    assert b"vis" in objects.read_bytes(f"{s3}/table/report/index.html")
    # of two pairs both sources and three reference methods: the method is the visible image itself
    assert len(objects.list_files(f"{s3}/table/report/pictures")) == 2 * (2 + 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--index", "none.csv"], "none.csv' is not there"),
        (["--index", "i.csv", "--fused", "a"], "expected NAME=URL"),
        (["--index", "i.csv", "--fused", "max=x"], "max twice"),
        (["--index", "i.csv", "--no-references"], "nothing to score"),
        (["--index", "i.csv", "--fused", "a=none"], "expected a folder"),
        (["--index", "i.csv", "--stretch", "odd"], "--stretch"),
    ],
)
def test_a_wrong_evaluation_ends_in_one_clear_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "i.csv").write_text("pair_id,ir_url,vis_url\n1,a,b\n")
    job = run_job("evaluate", *arguments, "--output", "o")
    assert job.returncode == 2
    assert message in job.stderr.splitlines()[-1]
    assert "Traceback" not in job.stderr
