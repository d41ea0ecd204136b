"""The report through the real entry points: at the end of a run, and by its own job."""

import json
import re

import pytest

from tests.e2e.archives import fuse_arguments, run_job, write_archive


def data_of(output):
    page = (output / "report/index.html").read_text()
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


@pytest.mark.usefixtures("shared_ray")
def test_a_run_writes_its_report_unless_told_not_to_and_a_report_that_fails_fails_no_run(tmp_path):
    output = tmp_path / "out"
    write_archive(str(tmp_path / "archive"), 3)
    fuse = ["fuse_archive", *fuse_arguments(str(tmp_path / "archive"), str(output))]
    first = run_job(*fuse)
    assert first.returncode == 0 and not (output / "report").exists(), first.stderr
    (output / "report").write_text("in the way")
    second = run_job(*fuse, report=True)
    assert second.returncode == 0 and "  no report: " in second.stdout, second.stderr
    (output / "report").unlink()
    third = run_job(*fuse, report=True)
    assert third.returncode == 0 and f"  report  {output}/report/index.html" in third.stdout
    data = data_of(output)
    assert data["counts"]["fused"] == 3 and sorted(data["pairs"]["pair_id"]) == [
        "day/000", "day/001", "day/002",
    ]  # fmt: skip
    assert [(run["fused"], run["rejected"]) for run in data["runs"]] == [(3, 0), (0, 0), (0, 0)]
    assert all(data["thumbnails"]) and not any(data["problems"]) and data["reductions"] == [1, 1, 1]

    again = run_job("report", "--output", str(output), "--where", "pair_id = 'day/002'", "--images", "1")
    assert again.returncode == 0 and "report on 3 pairs" in again.stdout, again.stderr
    data = data_of(output)
    assert data["pairs"]["pair_id"][0] == "day/002" and data["reductions"] == [1]
    images = sorted(path.name[20:] for path in (output / "report/pictures").glob("*-*.jpg"))
    # those of the other pairs stay: they are of pairs that the page still has
    assert len(images) == 9


def test_a_report_on_no_output_ends_in_one_clear_line(tmp_path):
    job = run_job("report", "--output", str(tmp_path / "none"))
    assert job.returncode == 2 and not (tmp_path / "none").exists()
    assert "none' has no metrics.parquet" in job.stderr.splitlines()[-1]
