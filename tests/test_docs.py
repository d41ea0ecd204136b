"""What the pages say of the code, where a command can compare the two."""

import re

import pytest

from cluster.archive.reasons import REASONS
from cluster.text.options import flag_of, options_of
from dmnet_core.metrics import METRICS
from docs.draw_architecture import PAGE, ROOT, redrawn, without_detours
from tests.cluster.test_options import JOBS

PATHS = r"`((?:cluster|jobs|tests|benchmarks|manifests|dmnet_core)/[\w./-]*)"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def first_cells(page, heading):
    """Return the first cell of each row of the table below a heading row."""
    _, _, below = (ROOT / page).read_text().partition(heading)
    rows = below.strip().splitlines()[1:]
    cells = []
    for row in rows:
        if not row.startswith("|"):
            break
        cells.append(row.split("|")[1].strip().strip("`"))
    return cells


def test_the_picture_is_what_its_command_draws():
    page = PAGE.read_text()
    assert page == redrawn(page), "run: make docs"


def test_a_page_without_its_markers_is_refused():
    with pytest.raises(ValueError, match="lacks the line"):
        redrawn("# Architecture\n")


def test_an_arrow_that_a_longer_way_replaces_is_not_drawn():
    graph = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert without_detours(graph) == {"a": {"b"}, "b": {"c"}, "c": set()}


def test_the_readme_lists_every_reason_and_no_other():
    assert set(first_cells("README.md", "| reason | what happened |\n")) == set(REASONS)


def test_the_metrics_page_lists_every_metric_in_its_order():
    heading = "| metric | what it measures | range | definition |\n"
    assert first_cells("docs/metrics.md", heading) == list(METRICS)


def test_the_pages_give_each_job_only_options_that_it_has():
    checked = 0
    for page in PAGES:
        for block in re.findall(r"^```\w*\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
            for line in block.replace("\\\n", " ").splitlines():
                found = re.search(r"jobs[/.](\w+)(?:\.py)? (.*)", line.partition(" #")[0])
                if found and found[1] in JOBS:
                    known = {flag_of(field) for field, _ in options_of(JOBS[found[1]])} | {"--help"}
                    given = set(re.findall(r"(?<!\S)--[\w-]+", found[2]))
                    assert given <= known, f"{page.name}: {given - known}"
                    checked += 1
    assert checked > 20


def test_every_file_that_a_page_names_is_there():
    for page in PAGES:
        text = page.read_text()
        for name in re.findall(PATHS, text):
            assert (ROOT / name).exists(), f"{page.name} names {name}"
        for link in re.findall(r"\]\(([\w/.-]+\.(?:md|jpg))", text):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"
