"""The page of an evaluation: which pairs it shows, and what it says of them."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from cluster.evaluating import score_table
from cluster.reporting.methods import EVERYTHING, most_different, write_methods_page
from dmnet_core.metrics import METRICS

METHODS = ["ours", "average"]


def scores_of(values):
    """Scores of pairs by method: {pair_id: {method: value of every metric}}."""
    return pd.DataFrame(
        {"pair_id": pair, "set": "day", "method": method, "height": 20, "width": 30,
         **dict.fromkeys(METRICS, value)}
        for pair, of_pair in values.items() for method, value in of_pair.items()
    )  # fmt: skip


def data_of(page):
    text = page.read_text()
    return json.loads(re.search(r'type="application/json" id="data">(.*?)</script>', text, re.S)[1])


def write(tmp_path, scores, **options):
    problems = pd.DataFrame(columns=["method", "set", "reason"])
    picture = np.arange(600, dtype=np.uint8).reshape(20, 30)
    how = {
        "scores": scores,
        "methods": METHODS,
        "tables": score_table.sections(score_table.means(scores, problems, METHODS)),
        "heading": "as they are",
        "warning": "",
        "read_pictures": lambda name: dict.fromkeys(("ir", "vis", *METHODS), picture),
        "num_images": 24,
    }
    write_methods_page(str(tmp_path), **(how | options))
    return data_of(tmp_path / "report/index.html")


def test_the_difference_of_a_pair_is_counted_in_standard_deviations():
    scores = scores_of({"a": {"ours": 1.0, "average": 3.0}, "b": {"ours": 2.0, "average": 2.0}})
    scores.loc[scores["pair_id"] == "b", "EN"] = [5.0, 1.0]  # EN: 1 and 3, 5 and 1
    apart = most_different(scores)
    assert apart.loc["a", "SD"] == pytest.approx(2 / np.std([1, 3, 2, 2]))
    assert apart.loc["b", "SD"] == 0
    assert apart.loc["b", "EN"] == pytest.approx(4 / np.std([1, 3, 5, 1]))
    assert apart.loc["b", EVERYTHING] == pytest.approx(apart.loc["b", "EN"] / len(METRICS))


def test_a_pair_with_scores_of_one_method_is_not_compared():
    scores = scores_of({"a": {"ours": 1.0, "average": 3.0}, "b": {"ours": 2.0}})
    assert list(most_different(scores).index) == ["a"]


def test_the_page_holds_the_pairs_where_methods_differ_most(tmp_path):
    values = {f"pair{number:02d}": {"ours": 10.0 + number, "average": 10.0} for number in range(9)}
    data = write(tmp_path, scores_of(values), num_images=4)
    assert data["pairs"]["pair_id"] == ["pair08", "pair07", "pair06", "pair05"]
    assert data["num_pairs"] == 9
    assert data["scores"][0] == [[18.0] * len(METRICS), [10.0] * len(METRICS)]
    (table,) = data["tables"]
    assert [row["method"] for row in table["rows"]] == METHODS
    assert [cell["mark"] for cell in table["rows"][0]["cells"]] == [1] * (len(METRICS) + 1)
    assert table["rows"][0]["cells"][-1]["text"] == "1.0"  # the mean rank


def test_images_that_only_an_earlier_page_had_are_removed_and_other_files_stay(tmp_path):
    scores = scores_of({"a": {"ours": 1.0, "average": 3.0}})
    names = write(tmp_path, scores)["images"][0]
    (tmp_path / "report/pictures/notes.txt").write_text("mine")
    white = np.full((20, 30), 255, np.uint8)
    data = write(tmp_path, scores, read_pictures=lambda name: {"ir": white, "vis": white})
    left = {path.name for path in (tmp_path / "report/pictures").iterdir()}
    assert left == {data["images"][0]["ir"], "notes.txt"}
    assert not left & set(names.values())


def test_a_pair_that_cannot_be_read_is_named_with_its_problem(tmp_path):
    def fail(name):
        raise ValueError("the file is cut short")

    data = write(tmp_path, scores_of({"a": {"ours": 1.0, "average": 3.0}}), read_pictures=fail)
    assert data["images"] == [{}]
    assert data["problems"] == ["the file is cut short"]
