"""The export job through its real entry point."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cluster.storage import fused_store, objects, tables
from tests.e2e.archives import fuse_arguments, png, read_metrics, run_job, write_archive


def exported(url):
    """Return the pixels of every image below a folder or prefix, by path."""
    images = [file for file in objects.list_files(url) if not file.path.endswith(".parquet")]
    opened = {file.path: Image.open(io.BytesIO(objects.read_bytes(file.url))) for file in images}
    return {path: np.asarray(image) for path, image in opened.items()}


def counts(job):
    """Return the numbers of chosen, exported, up to date and failed pairs that a job printed."""
    return [int(word) for word in job.stdout.splitlines()[0].split() if word.isdigit()]


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_pairs_are_exported_once_and_again_where_they_were_fused_again(tmp_path):
    archive, output, images = (str(tmp_path / name) for name in ("archive", "out", "images"))
    pairs = write_archive(archive, 4)
    fuse = ["fuse_archive", *fuse_arguments(archive, output)]
    assert run_job(*fuse).returncode == 0
    store = f"{output}/fused.zarr"

    limit = read_metrics(output).sort_values("VIF")["VIF"].iloc[1]
    export = ["export", "--fused", output, "--output", images]
    some = run_job(*export, "--where", f"VIF <= {limit}")
    assert some.returncode == 0, some.stderr
    assert counts(some) == [2, 2, 0, 0]
    rest = run_job(*export)
    assert rest.returncode == 0 and counts(rest) == [4, 2, 2, 0]
    found = exported(images)
    assert sorted(found) == [f"{name}.png" for name in pairs]
    for name in pairs:
        np.testing.assert_array_equal(found[f"{name}.png"], fused_store.read_fused(store, name))

    objects.put_bytes(f"{archive}/ir/day/002.png", png(255 - pairs["day/002"][0]))
    assert run_job(*fuse).returncode == 0
    # Its pixels go missing, and a name of the list was never fused: both are told, the rest is exported.
    objects.delete(f"{store}/day/001/fused/zarr.json")
    objects.delete(f"{images}/day/001.png")
    (tmp_path / "list.txt").write_text("day/000\nday/001\nday/002\nnobody\n")
    third = run_job(*export, "--pairs", str(tmp_path / "list.txt"))
    assert third.returncode == 1 and counts(third) == [4, 1, 1, 2]
    assert "2 of 4 pairs were not exported: see" in third.stderr.splitlines()[-1]
    problems = pd.read_parquet(f"{images}/problems.parquet").set_index("pair_id")["reason"]
    assert problems.to_dict() == {"nobody": "not_fused", "day/001": "missing_file"}
    again = fused_store.read_fused(store, "day/002")
    assert not np.array_equal(again, found["day/002.png"])
    np.testing.assert_array_equal(exported(images)["day/002.png"], again)


@pytest.mark.usefixtures("shared_ray")
def test_an_export_to_s3_is_resumed_without_ray(s3):
    output = f"{s3}/out"
    pixels = np.arange(64 * 80 * 3, dtype=np.uint8).reshape(64, 80, 3)
    fused_store.create_store(f"{output}/fused.zarr", {})
    fused_store.write_fused(f"{output}/fused.zarr", "day/a%20b", pixels, {})
    row = {"pair_id": ["day/a b"], "zarr_path": ["day/a%20b"], "dtype": ["uint8"], "VIF": [0.5]}
    row |= {"height": [64], "width": [80]}
    tables.write_table(f"{output}/metrics.parquet/part-000000.parquet", pd.DataFrame(row))
    ledger = pd.DataFrame({"pair_id": ["day/a b"], "recorded_at": [7.5]})
    tables.write_table(f"{output}/ledger/part-1.parquet", ledger)
    export = ["export", "--fused", output, "--output", f"{s3}/images", "--format", "jpeg"]
    first = run_job(*export)
    assert first.returncode == 0 and counts(first) == [1, 1, 0, 0], first.stderr
    found = exported(f"{s3}/images")
    assert list(found) == ["day/a%20b.jpg"] and found["day/a%20b.jpg"].shape == pixels.shape
    # a cluster that is not there is not asked for
    second = run_job(*export, environment={"RAY_ADDRESS": "127.0.0.1:1"})
    assert second.returncode == 0 and counts(second) == [1, 0, 1, 0], second.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fused", "none", "--output", "o"], "none' has no metrics.parquet"),
        (["--fused", "out", "--output", "o", "--pairs", "none.txt"], "none.txt' is not there"),
        (["--fused", "out", "--output", "o", "--where", "nope = 1"], "--where 'nope = 1' can't be used"),
        (["--fused", "out", "--output", "out/fused.zarr/day"], "is in the store of fused images"),
        (["--fused", "out", "--output", "o", "--format", "jpeg"], "1 are float32, expected uint8"),
    ],
)
def test_a_wrong_export_ends_in_one_clear_line_and_writes_nothing(
    tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    row = {"pair_id": ["a"], "zarr_path": ["a"], "dtype": ["float32"], "height": [9], "width": [9]}
    tables.write_table(f"{tmp_path}/out/metrics.parquet/part-000000.parquet", pd.DataFrame(row))
    job = run_job("export", *arguments)
    assert job.returncode == 2
    assert message in job.stderr.splitlines()[-1]
    assert "Traceback" not in job.stderr and not (tmp_path / "o").exists()
