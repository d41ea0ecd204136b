"""The main job through its real entry point: what it fuses, fuses again, removes and refuses."""

import json
import os
import shutil
import time

import duckdb
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cluster.storage import objects
from dmnet_core.metrics import METRICS
from tests.e2e.archives import (
    ROOT,
    check_pixels,
    fuse_arguments,
    read_metrics,
    read_parquet,
    read_rejected,
    run_job,
    run_process,
    started_job,
    write_archive,
)


@pytest.mark.usefixtures("shared_ray")
def test_an_archive_with_bad_pairs_is_fused_and_a_second_run_does_only_what_changed(tmp_path):
    archive, output = tmp_path / "archive", str(tmp_path / "out")
    pairs = write_archive(str(archive), 3)
    (archive / "ir/alone.png").write_bytes(b"x")
    bad = {
        "empty": (b"", b""),
        "wrong_type": (b"<html>", b"<html>"),
        "truncated": ((archive / "ir/day/000.png").read_bytes()[:-40],) * 2,
    }
    for name, (ir, vis) in bad.items():
        (archive / f"ir/{name}.png").write_bytes(ir)
        (archive / f"vis/{name}.png").write_bytes(vis)
    strange = "=cmd|' <b>%2e..\"é\n"
    for side, pixels in zip(("ir", "vis"), pairs["day/000"], strict=True):
        Image.fromarray(pixels).save(archive / side / f"{strange}.png")
    pairs[strange] = pairs["day/000"]

    index = run_job("index_archive", *fuse_arguments(str(archive), str(tmp_path / "pairs.parquet")))
    assert index.returncode == 0, index.stderr
    table = pd.read_parquet(tmp_path / "pairs.parquet").assign(site="A7")
    table.to_parquet(tmp_path / "pairs.parquet")
    arguments = ["--index", str(tmp_path / "pairs.parquet"), "--output", output]

    dry = run_job("fuse_archive", *arguments, "--dry-run")
    assert dry.returncode == 0 and "pairs to fuse    7" in dry.stdout, dry.stdout + dry.stderr
    assert not os.path.exists(output)

    first = run_job("fuse_archive", *arguments)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "8 = 4 fused + 4 rejected" in first.stdout
    check_pixels(output, pairs)
    metrics = read_metrics(output)
    assert sorted(metrics["pair_id"]) == sorted(pairs)
    assert np.isfinite(metrics[list(METRICS)].to_numpy()).all()
    assert set(metrics["site"]) == {"A7"}
    rejected = read_rejected(output).set_index("pair_id")["reason"].to_dict()
    assert rejected == {name: name for name in bad} | {"alone": "missing_partner"}
    (record_path,) = (tmp_path / "out/runs").iterdir()
    record = json.loads(record_path.read_text())
    assert record["exit_reason"] == "finished" and record["counts"]["num_fused"] == 4
    with Image.open(tmp_path / "out/preview.png") as preview:
        assert preview.width > 1000
    (count,) = duckdb.sql(f"select count(*) from '{output}/metrics.parquet/*.parquet'").fetchall()[0]
    assert count == 4
    assert all(path.is_relative_to(tmp_path) for path in tmp_path.rglob("*"))

    again = run_job("fuse_archive", *arguments)
    assert again.returncode == 0 and "nothing left to do" in again.stdout, again.stderr

    (archive / "vis/day/001.png").write_bytes((archive / "vis/day/002.png").read_bytes())
    pairs["day/001"] = (pairs["day/001"][0], pairs["day/002"][1])
    run_job("index_archive", *fuse_arguments(str(archive), str(tmp_path / "pairs.parquet")))
    changed = run_job("fuse_archive", *arguments)
    assert "pairs to fuse    1" in changed.stdout, changed.stdout + changed.stderr
    check_pixels(output, pairs)

    strict = run_job("fuse_archive", *arguments, "--max-rejected", "0.1")
    assert strict.returncode == 1 and "50.00% of the pairs were rejected" in strict.stderr


@pytest.mark.kills
def test_a_run_that_was_killed_goes_on_and_repeats_nothing(shared_ray, tmp_path):
    archive, output = str(tmp_path / "archive"), str(tmp_path / "out")
    pairs = write_archive(archive, 20, 160, 224)
    first = [*fuse_arguments(archive, output), "--no-report"]
    with started_job("fuse_archive", *first, environment=shared_ray.environment) as job:
        ledger = tmp_path / "out/ledger"
        while not ledger.is_dir() or not any(p.suffix == ".parquet" for p in ledger.iterdir()):
            assert job.poll() is None, "no ledger part was seen"
            time.sleep(0.05)
        second = run_job("fuse_archive", *fuse_arguments(archive, output))
        assert second.returncode == 3 and job.poll() is None, second.stdout + second.stderr
        assert "is being written by run 20" in second.stderr and "--wait" in second.stderr
    before = read_parquet(str(ledger))
    assert 0 < len(before) < len(pairs)

    again = run_job("fuse_archive", *fuse_arguments(archive, output))
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"already done     {len(before)}" in again.stdout
    after = read_parquet(str(ledger))
    assert sorted(after["pair_id"]) == sorted(pairs)  # each once: nothing lost, nothing repeated
    assert sorted(read_metrics(output)["pair_id"]) == sorted(pairs)
    check_pixels(output, {name: pairs[name] for name in list(pairs)[::6]})


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_a_run_whose_tables_cannot_be_written_leaves_no_record_that_says_finished(tmp_path):
    archive, output = str(tmp_path / "archive"), str(tmp_path / "out")
    write_archive(archive, 2)
    pairs = str(tmp_path / "pairs.parquet")
    assert run_job("index_archive", *fuse_arguments(archive, pairs)).returncode == 0
    table = pd.read_parquet(pairs)
    arguments = ["--index", pairs, "--output", output]
    table.assign(site="A7").to_parquet(pairs)
    assert run_job("fuse_archive", *arguments).returncode == 0
    (first,) = (tmp_path / "out/runs").iterdir()
    table.assign(site=7)[:1].to_parquet(pairs)  # the pair that left has a text there
    failed = run_job("fuse_archive", *arguments)
    assert failed.returncode == 2 and "'site'" in failed.stderr and "--prune" in failed.stderr
    (second,) = set((tmp_path / "out/runs").iterdir()) - {first}
    assert json.loads(first.read_text())["exit_reason"] == "finished"
    assert json.loads(second.read_text())["exit_reason"] == "failed"


@pytest.mark.usefixtures("shared_ray")
def test_a_pair_that_left_the_index_stays_until_it_is_pruned(tmp_path):
    archive, output = str(tmp_path / "archive"), str(tmp_path / "out")
    pairs = write_archive(archive, 3)
    index = run_job("index_archive", *fuse_arguments(archive, str(tmp_path / "pairs.parquet")))
    assert index.returncode == 0, index.stderr
    table = pd.read_parquet(tmp_path / "pairs.parquet").assign(site="A7")
    table.loc[table["pair_id"] == "day/002", "ir_to_vis"] = "1 0 0 0 1 0 0 0 1"
    table.to_parquet(tmp_path / "pairs.parquet")
    arguments = ["--index", str(tmp_path / "pairs.parquet"), "--output", output]
    first = run_job("fuse_archive", *arguments)
    assert first.returncode == 0, first.stdout + first.stderr
    table[table["pair_id"] != "day/001"].to_parquet(tmp_path / "pairs.parquet")

    kept = run_job("fuse_archive", *arguments)
    assert "left the index   1 (results kept; --prune removes them)" in kept.stdout, kept.stderr
    metrics = read_metrics(output)
    assert sorted(metrics["pair_id"]) == sorted(pairs) and set(metrics["site"]) == {"A7"}
    assert metrics["fingerprint"].nunique() == 1 and metrics["ir_url"].str.endswith(".png").all()
    assert list(metrics.sort_values("pair_id")["grid"]) == ["identity", "identity", "homography"]
    check_pixels(output, pairs)

    # As a run leaves it that is killed after it said what it would prune, and before it did.
    ledger = read_parquet(f"{output}/ledger")
    rows = ledger[ledger["pair_id"] == "day/001"].assign(status="pruning", run_id="killed")
    rows["recorded_at"] = ledger["recorded_at"].max() + 0.001
    rows.to_parquet(f"{output}/ledger/part-killed-000000.parquet", index=False)
    half = run_job("fuse_archive", *arguments)
    assert half.returncode == 0, half.stderr
    assert "1 of a run that died may have pixels and have no metrics" in half.stdout
    assert sorted(read_metrics(output)["pair_id"]) == ["day/000", "day/002"]
    assert objects.exists(f"{output}/fused.zarr/day/001")

    pruned = run_job("fuse_archive", *arguments, "--prune")
    assert pruned.returncode == 0 and "1 (results removed)" in pruned.stdout, pruned.stderr
    assert sorted(read_metrics(output)["pair_id"]) == ["day/000", "day/002"]
    assert not objects.exists(f"{output}/fused.zarr/day/001")
    table.to_parquet(tmp_path / "pairs.parquet")
    back = run_job("fuse_archive", *arguments)
    assert "pairs to fuse    1" in back.stdout, back.stdout + back.stderr
    check_pixels(output, pairs)


@pytest.mark.own_ray
@pytest.mark.kills
@pytest.mark.slow
def test_a_source_that_changed_and_changed_back_is_fused_again_though_no_row_told_of_it(
    shared_ray, tmp_path
):
    archive, output = tmp_path / "archive", str(tmp_path / "out")
    pairs = write_archive(str(archive), 3)
    index = tmp_path / "pairs.parquet"
    arguments = ["--index", str(index), "--output", output]
    assert run_job("index_archive", *fuse_arguments(str(archive), str(index))).returncode == 0
    assert run_job("fuse_archive", *arguments).returncode == 0
    chunk = tmp_path / "out/fused.zarr/day/001/fused/c/0/0/0"
    before, whole_index = chunk.read_bytes(), index.read_bytes()

    (archive / "vis/day/001.png").rename(archive / "kept.png")
    for number in range(5):  # until a kill comes between the pixels and their row
        png = objects.read_bytes(str(archive / "vis/day/002.png")) + bytes(number)
        (archive / "vis/day/001.png").write_bytes(png)
        assert run_job("index_archive", *fuse_arguments(str(archive), str(index))).returncode == 0
        stood = chunk.stat().st_mtime_ns
        with started_job("fuse_archive", *arguments, environment=shared_ray.environment) as job:
            while job.poll() is None and chunk.stat().st_mtime_ns == stood:
                time.sleep(0.002)
        ledger = read_parquet(f"{output}/ledger").sort_values("recorded_at", kind="stable")
        status = ledger.loc[ledger["pair_id"] == "day/001", "status"].iloc[-1]
        if status == "replacing":
            break
    assert status == "replacing"
    assert chunk.read_bytes() != before

    (archive / "kept.png").rename(archive / "vis/day/001.png")
    index.write_bytes(whole_index)
    back = run_job("fuse_archive", *arguments)
    assert back.returncode == 0 and "pairs to fuse    1" in back.stdout, back.stdout + back.stderr
    check_pixels(output, pairs)
    assert chunk.read_bytes() == before


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_settings_changed_and_back_fuse_again_what_was_touched_each_time(tmp_path):
    archive, output = str(tmp_path / "archive"), str(tmp_path / "out")
    pairs = write_archive(archive, 3)
    arguments = fuse_arguments(archive, output)
    first = run_job("fuse_archive", *arguments)
    assert first.returncode == 0, first.stderr
    other = [*arguments, "--ir-range", "minmax"]
    refused = run_job("fuse_archive", *other)
    assert refused.returncode == 2 and "--reprocess" in refused.stderr
    assert 'ir_range was "auto" and is "minmax"' in refused.stderr
    turned = run_job("fuse_archive", *other, "--reprocess", "--limit", "1")  # as one that was killed
    assert turned.returncode == 0 and "3 = 1 fused" in turned.stdout, turned.stdout + turned.stderr
    assert read_metrics(output)["pair_id"].is_unique
    back = run_job("fuse_archive", *arguments, "--reprocess")
    assert "pairs to fuse    1" in back.stdout, back.stdout + back.stderr
    metrics = read_metrics(output)
    assert sorted(metrics["pair_id"]) == sorted(pairs) and metrics["fingerprint"].nunique() == 1
    check_pixels(output, pairs)
    assert "nothing left to do" in run_job("fuse_archive", *arguments).stdout


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_a_copy_of_an_archive_is_compared_and_only_what_differs_is_fused_again(tmp_path):
    archive, copy, output = tmp_path / "archive", tmp_path / "copy", str(tmp_path / "out")
    pairs = write_archive(str(archive), 3)
    changed = 255 - pairs["day/001"][1]
    for folder, pixels in ((archive, pairs["day/001"][1]), (copy, changed)):  # BMPs, so of one size
        if folder == copy:
            shutil.copytree(archive, copy, copy_function=shutil.copy)
        Image.fromarray(pixels).save(folder / "vis/day/001.png", "BMP")
    first = run_job("fuse_archive", *fuse_arguments(str(archive), output))
    assert first.returncode == 0, first.stdout + first.stderr
    before = read_metrics(output).set_index("pair_id")
    second = run_job("fuse_archive", *fuse_arguments(str(copy), output))
    assert second.returncode == 0, second.stdout + second.stderr
    assert "3 of them, whose files may only have been copied" in second.stdout
    assert "2 of 3 pairs with other etags have the same bytes as before; 1 pairs to fuse" in second.stdout
    check_pixels(output, pairs | {"day/001": (pairs["day/001"][0], changed)})
    after = read_metrics(output).set_index("pair_id")
    same = [name for name in pairs if name != "day/001"]
    pd.testing.assert_frame_equal(
        before.loc[same].drop(columns=["ir_url", "vis_url"]),
        after.loc[same].drop(columns=["ir_url", "vis_url"]),
    )
    assert after.loc["day/001", "SD"] != before.loc["day/001", "SD"]
    assert "nothing left to do" in run_job("fuse_archive", *fuse_arguments(str(copy), output)).stdout


@pytest.mark.usefixtures("shared_ray")
def test_everything_on_s3_is_fused_as_locally(s3, tmp_path):
    archive, output = f"{s3}/archive", f"{s3}/out"
    pairs = write_archive(archive, 2)
    objects.put_bytes(f"{archive}/ir/empty.png", b"")
    objects.put_bytes(f"{archive}/vis/empty.png", b"")
    checkpoint = f"{s3}/weights.safetensors"
    objects.put_bytes(checkpoint, (ROOT / "dmnet_core/weights/compact.safetensors").read_bytes())
    index = run_job("index_archive", *fuse_arguments(archive, f"{s3}/pairs.parquet"))
    assert index.returncode == 0, index.stderr
    arguments = ["--index", f"{s3}/pairs.parquet", "--output", output, "--checkpoint", checkpoint]
    first = run_job("fuse_archive", *arguments)
    assert first.returncode == 0, first.stdout + first.stderr
    check_pixels(output, pairs)
    assert sorted(read_metrics(output)["pair_id"]) == sorted(pairs)
    assert list(read_rejected(output)["reason"]) == ["empty"]
    assert objects.exists(f"{output}/preview.png")
    again = run_job("fuse_archive", *arguments)
    assert "nothing left to do" in again.stdout, again.stdout + again.stderr
    for job in (index, first, again):
        assert os.environ["AWS_SECRET_ACCESS_KEY"] not in job.stdout + job.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--output"),
        (["--output", "o"], "give either --index FILE, or both"),
        (["--output", "o", "--ir", "a"], "only one of --ir and --vis"),
        (["--output", "o", "--index", "none.parquet"], "none.parquet' is not there"),
        (["--output", "o", "--ir", "none", "--vis", "other"], "expected a folder"),
        (["--output", "o", "--index", "i.csv", "--precision", "bf16"], "expected fp32 on a CPU"),
        (["--output", "o", "--index", "i.csv", "--vis-range", "odd"], "visible range policy is 'odd'"),
        (["--output", "o", "--index", "i.csv", "--actors", "0"], "--actors is 0"),
        (["--output", "o", "--index", "i.csv", "--unknown"], "--unknown"),
        (["--output", "o", "--index", "i.csv", "--checkpoint", "none"], "none' is not there"),
        (["--output", "o", "--index", "i"], "--index is 'i', expected"),
    ],
)
def test_a_wrong_command_line_ends_in_one_clear_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "i.csv").write_text("pair_id,ir_url,vis_url\n1,a,b\n")
    job = run_job("fuse_archive", *arguments)
    assert job.returncode == 2
    assert message in job.stderr.splitlines()[-1]
    assert "Traceback" not in job.stderr


@pytest.mark.parametrize("name", ["fuse_archive", "index_archive", "evaluate", "train_dmnet"])
def test_a_process_exits_with_the_code_of_its_job(name):
    for arguments, code in ((["--help"], 0), (["--unknown"], 2)):
        job = run_process(name, *arguments)
        assert job.returncode == code and "Traceback" not in job.stderr, job.stderr
