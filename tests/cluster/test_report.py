"""The report: what it counts, which pairs it shows, its images, and names that must run nothing."""

import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cluster.reporting import job
from cluster.reporting.after_run import report_after_run
from cluster.reporting.config import ReportConfig
from cluster.reporting.footprints import footprints
from cluster.reporting.page import as_script
from cluster.storage import objects, tables
from cluster.text.run_log import RunLog
from tests.cluster.outputs import RUNS, metric_values, write_output, write_tables

HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    "' onmouseover='alert(1)",
    '" autofocus onfocus="alert(1)',
    "javascript:alert(1)",
    "{{ 7 * 7 }}",
    "a\0b",
    "line\u2028break",
]


def report(output, **options):
    return job.write_report(ReportConfig(output_url=str(output), **options))


def page_of(output):
    """Return the page and the data in it."""
    page = objects.read_bytes(f"{output}/report/index.html").decode()
    return page, json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def rows_without_images(number):
    return [
        {"pair_id": f"set{place % 3}/{place:04d}", "zarr_path": f"{place}", "ir_url": "", "vis_url": ""}
        for place in range(number)
    ]


class Tags(HTMLParser):
    """The elements of a page, and the attributes that run something."""

    def __init__(self, page):
        super().__init__()
        self.found, self.handlers = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on") or name == "autofocus"]


def test_counts_distributions_and_extremes_are_those_of_the_tables(tmp_path):
    number = 500
    carried = {
        "camera": ["A", "B"] * 250,
        "taken": [f"2026-10-{1 + p % 12:02d}T05:00" for p in range(number)],
    }
    rejected = [("x", "truncated", "ends early"), ("y", "truncated", "too"), ("z", "empty", "")]
    write_tables(str(tmp_path), rows_without_images(number), carried=carried, rejected=rejected)
    written = report(tmp_path, num_thumbnails=0)
    assert (written.num_pairs, written.num_shown) == (number, number)
    _, data = page_of(tmp_path)
    assert data["counts"]["fused"] == number and data["counts"]["rejected"] == 3
    assert data["counts"]["valid_share"] == pytest.approx(0.9)
    assert [(row["reason"], row["number"]) for row in data["reasons"]] == [("truncated", 2), ("empty", 1)]
    assert data["reasons"][0]["examples"] == [["x", "ends early"], ["y", "too"]]
    assert [run["run_id"] for run in data["runs"]] == list(RUNS)
    assert [run["rate"] for run in data["runs"]] == [250.0, 125.0]
    vif = metric_values(number)["VIF"]
    assert data["means"]["VIF"] == pytest.approx(vif.mean(), rel=1e-5)
    np.testing.assert_allclose(
        data["quantiles"]["VIF"], np.quantile(vif, np.linspace(0, 1, 201)), rtol=1e-5
    )
    groups = {group["name"]: group for group in data["groups"]}
    assert groups["camera"]["values"] == ["A", "B"]
    assert groups["folder of pair_id"]["values"] == ["set0", "set1", "set2"]
    assert groups["run"]["values"] == list(RUNS)
    # of days the latest have a name, and the others are counted together
    assert groups["taken"]["values"] == [f"2026-10-{day:02d}" for day in range(5, 13)] + ["others"]
    assert "size" not in groups  # all pairs have one
    for group in data["groups"]:
        rows = group["rows"]["VIF"]
        assert sum(total for total, _, _ in rows) == number
        assert all(sum(counts) == total for total, _, counts in rows)
    total, mean, _ = groups["camera"]["rows"]["VIF"][1]
    assert total == 250 and mean == pytest.approx(vif[1::2].mean(), rel=1e-5)
    for end, places in (("worst", np.argsort(vif)[:24]), ("best", np.argsort(-vif)[:24])):
        shown = [data["pairs"]["pair_id"][place] for place in data[end]["VIF"]]
        assert shown == [f"set{place % 3}/{place:04d}" for place in places]


def test_values_that_are_no_number_are_left_out_and_a_lone_value_has_bins(tmp_path):
    vif = [np.nan, np.inf, 0.25, 0.25]
    write_tables(str(tmp_path), rows_without_images(4), carried={"VIF": vif, "SD": [np.nan] * 4})
    report(tmp_path, num_thumbnails=0)
    _, data = page_of(tmp_path)
    assert "SD" not in data["measures"] and data["numbers"]["VIF"] == 2
    assert len(data["worst"]["VIF"]) == len(data["best"]["VIF"]) == 2
    assert data["edges"]["VIF"][0] < 0.25 < data["edges"]["VIF"][-1]
    assert sorted(data["pairs"]["measures"]["VIF"], key=str) == [0.25, 0.25, None, None]


def test_a_large_archive_gives_a_page_of_a_sample_that_fits(tmp_path, monkeypatch):
    monkeypatch.setattr("cluster.reporting.chosen.NUM_ROWS", 1000)
    rows = [row | {"pair_id": row["pair_id"] + "n" * 400} for row in rows_without_images(2000)]
    write_tables(str(tmp_path), rows)
    first = report(tmp_path, num_thumbnails=0)
    assert first.num_shown == 1000
    monkeypatch.setattr(job, "MAX_PAGE_BYTES", first.num_bytes - 1)
    second = report(tmp_path, num_thumbnails=0, where="pair_id like 'set1/0700%'")
    assert second.num_shown == 500 and second.num_bytes < first.num_bytes
    page, data = page_of(tmp_path)
    assert data["num_pairs"] == 2000 and "This page holds" in page
    assert data["pairs"]["pair_id"][0].startswith("set1/0700") and data["num_wanted"] == 1
    assert max(max(places, default=0) for places in data["worst"].values()) < 500


@pytest.mark.parametrize(
    ("where", "message"),
    [("nope = 1", "can't be used"), ("VIF > 1e9", "is met by no fused pair"), (" ", "--where is empty")],
)
def test_a_wrong_condition_is_refused_in_one_line(tmp_path, where, message):
    write_tables(str(tmp_path), rows_without_images(3))
    with pytest.raises(ValueError, match=message):
        report(tmp_path, where=where)


def test_images_are_made_once_and_those_of_replaced_pairs_are_removed(tmp_path):
    write_output(str(tmp_path), ["a", "b/c", "d"])
    assert report(tmp_path, num_images=2).num_pictures == 3
    folder = tmp_path / "report/pictures"
    _, data = page_of(tmp_path)
    assert data["reductions"] == [1, 1] and not any(data["problems"])
    with Image.open(folder / data["thumbnails"][0]) as strip:
        assert strip.size == (606, 150)
    base = data["thumbnails"][0].removesuffix(".jpg")
    with Image.open(folder / f"{base}-vis.jpg") as vis:
        assert vis.size == (128, 96)
    assert len(list(folder.iterdir())) == 3 + 2 * 3
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    report(tmp_path, num_images=2)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    ledger = f"{tmp_path}/ledger/part-0.parquet"
    rows = pd.read_parquet(ledger)
    rows.loc[rows["pair_id"] == "a", "recorded_at"] += 1
    tables.write_table(ledger, rows)
    report(tmp_path, num_images=2)
    after = set(folder.iterdir())
    assert len(after) == len(before) and len(after & set(before)) in (5, 8)


def test_a_pair_without_its_sources_is_shown_by_its_fused_image_and_one_without_any_by_words(tmp_path):
    write_output(str(tmp_path), ["a", "b"])
    (tmp_path / "sources/0-ir.png").unlink()
    objects.delete(f"{tmp_path}/fused.zarr/b/fused/zarr.json")
    assert report(tmp_path).num_pictures == 1
    _, data = page_of(tmp_path)
    of = dict(
        zip(data["pairs"]["pair_id"], zip(data["thumbnails"], data["problems"], strict=True), strict=True)
    )
    assert of["a"][0] and "sources not shown: missing_file" in of["a"][1]
    assert not of["b"][0] and "no fused image" in of["b"][1]
    with Image.open(tmp_path / "report/pictures" / of["a"][0]) as strip:
        assert strip.width == 200


def test_hostile_names_end_no_script_and_make_no_element(tmp_path):
    places = range(len(HOSTILE))
    rows = [
        {"pair_id": name, "zarr_path": f"{place}", "ir_url": name, "vis_url": name}
        for place, name in enumerate(HOSTILE)
    ]
    plain = [
        {**row, **dict.fromkeys(("pair_id", "ir_url", "vis_url"), f"n{p}")}
        for p, row in zip(places, rows, strict=True)
    ]
    pages = {}
    for folder, of in (("hostile", rows), ("plain", plain)):
        names = [row["pair_id"] for row in of]
        carried = {"camera": names, "<b>column</b>": names if folder == "hostile" else names}
        rejected = [(f"{name}!", "truncated", name) for name in names]
        write_tables(f"{tmp_path}/{folder}", of, carried=carried, rejected=rejected)
        report(f"{tmp_path}/{folder}", num_thumbnails=0)
        pages[folder], data = page_of(f"{tmp_path}/{folder}")
        assert sorted(data["pairs"]["pair_id"]) == sorted(names)
    hostile, tame = Tags(pages["hostile"]), Tags(pages["plain"])
    assert hostile.found == tame.found and not hostile.handlers
    assert hostile.found.count("script") == 3 and "<b>column" not in pages["hostile"]
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', pages["hostile"])
    assert "default-src 'none'" in policy.replace("&#39;", "'") and "unsafe-eval" not in policy


def test_json_in_a_script_element_reads_back_and_holds_no_letter_that_ends_it():
    value = {"</script>": [*HOSTILE, "&amp;", "\u2029", float("nan"), 1.5, None]}
    text = as_script(value)
    assert not set(text) & set("<>&\u2028\u2029")
    (items,) = json.loads(text).values()
    assert items == [*HOSTILE, "&amp;", "\u2029", None, 1.5, None]


def test_a_table_alone_is_enough_and_no_table_is_refused(tmp_path, capsys):
    row = {"pair_id": ["a"], "zarr_path": ["a"], "height": [9], "width": [9], "VIF": [0.5]}
    tables.write_table(f"{tmp_path}/out/metrics.parquet/part-0.parquet", pd.DataFrame(row))
    objects.put_bytes(f"{tmp_path}/out/runs/20261001T010000Z-aaaaaa.json", b'{"run_id": 3}')
    assert report(tmp_path / "out").num_pictures == 0
    _, data = page_of(tmp_path / "out")
    assert data["measures"] == ["VIF"] and data["runs"] == []
    with pytest.raises(ValueError, match="has no metrics.parquet"):
        report(tmp_path / "none")
    report_after_run(f"{tmp_path}/none", RunLog("r", as_json=False))
    assert capsys.readouterr().out.startswith("  no report: --output")
    assert not (tmp_path / "none").exists()


def test_an_archive_without_a_fused_pair_has_a_report_of_its_rejected_ones(tmp_path):
    write_tables(str(tmp_path), [], rejected=[("x", "empty", "")])
    assert report(tmp_path).num_pairs == 0
    _, data = page_of(tmp_path)
    assert data["measures"] == [] and data["counts"]["rejected"] == 1


def test_outlines_lie_where_the_grid_says_and_bad_places_are_left_out():
    utm = {"crs": "EPSG:32632", "height": 100, "width": 200}
    rows = [
        utm | {"transform": "10.0 0.0 500000.0 0.0 -10.0 5000000.0"},
        utm | {"transform": ""},
        utm | {"transform": "nan 0.0 0.0 0.0 0.0 0.0"},
    ]
    (outline,), note = footprints(rows)
    assert outline["place"] == 0 and not note
    # 500000 m east in zone 32 is its middle, 9 degrees
    assert min(outline["xs"]) == pytest.approx(6_378_137 * np.radians(9), abs=1)
    latitudes = np.degrees(2 * np.arctan(np.exp(np.array(outline["ys"]) / 6_378_137)) - np.pi / 2)
    assert latitudes.max() == pytest.approx(45.15, abs=0.02)


def test_a_report_on_s3_lies_beside_its_output(s3):
    write_output(f"{s3}/out", ["a", "<b>"])
    written = report(f"{s3}/out")
    assert written.url == f"{s3}/out/report/index.html" and written.num_pictures == 2
    _, data = page_of(f"{s3}/out")
    strip = objects.read_bytes(f"{s3}/out/report/pictures/{data['thumbnails'][1]}")
    assert Image.open(io.BytesIO(strip)).size == (606, 150)
