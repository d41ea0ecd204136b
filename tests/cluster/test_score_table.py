"""Tables of means: what is counted, marked and escaped."""

import numpy as np
import pandas as pd

from cluster.evaluating import score_table
from dmnet_core.metrics import METRICS


def frames(rows, missing=()):
    scores = pd.DataFrame(
        [
            {"pair_id": pair, "set": group, "method": method, **dict.fromkeys(METRICS, value)}
            for pair, group, method, value in rows
        ]
    )
    problems = pd.DataFrame(missing, columns=["method", "set", "reason"]).astype(str)
    return scores, problems


ROWS = [
    ("1", "a", "x", 1.0), ("2", "a", "x", 2.0), ("3", "b", "x", 6.0),
    ("1", "a", "y", 2.0), ("2", "a", "y", 2.0),
    ("1", "a", "z", 0.5), ("2", "a", "z", 0.5), ("3", "b", "z", 0.5),
]  # fmt: skip


def test_means_are_by_set_and_over_all_and_say_how_many_pairs_they_hold():
    scores, problems = frames(ROWS, [("y", "b", "missing"), ("y", "", "extra")])
    table = score_table.means(scores, problems, ["x", "y", "z"]).set_index(["set", "method"])
    assert table.loc[("a", "x"), "VIF"] == 1.5
    assert table.loc[(score_table.ALL, "x"), "VIF"] == 3.0
    assert np.isnan(table.loc[("b", "y"), "VIF"])
    assert list(table.loc[("b", "y"), ["pairs", "without"]]) == [0, 1]
    assert list(table.loc[(score_table.ALL, "y"), ["pairs", "without"]]) == [2, 1]
    # x is between y and z in set a, above z in set b, where y has no image
    assert list(table.loc["a", "rank"]) == [2, 1, 3] and table.loc[("b", "x"), "rank"] == 1
    assert np.isnan(table.loc[("b", "y"), "rank"])
    assert "y: 1 missing" in score_table.warning(problems)
    assert "y: 1 extra" in score_table.warning(problems)


def test_the_best_is_bold_and_the_second_underlined_as_printed():
    scores, problems = frames([("1", "", "x", 1.0), ("1", "", "y", 1.00001), ("1", "", "z", 0.5),
                               ("1", "", "w", 0.2)])  # fmt: skip
    table = score_table.means(scores, problems, ["x", "y", "z", "w"])
    text = score_table.markdown(table, "title", "")
    lines = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line[:3] != "|--"}
    assert "**1.000**" in lines["x"] and "**1.000**" in lines["y"]  # equal as printed
    assert "<u>0.500</u>" in lines["z"] and "0.200" in lines["w"] and "<u>" not in lines["w"]


def test_names_run_nothing_in_a_report():
    hostile = "=1+1<script>|\x1b[2J![x](http://x.example)"
    groups = [hostile, " \t=2+2", "-3+3", "\r@4", "\uff1d5", "\u202ea&lt;"]
    scores, problems = frames(
        [(str(n), group, method, 1.0) for n, group in enumerate(groups) for method in ("x", "y")]
    )
    table = score_table.means(scores, problems, ["x", "y"])
    shown = [
        score_table.markdown(table, "t", ""),
        score_table.terminal(table, "t", ""),
        score_table.csv(table, "none"),
    ]
    for text in shown:
        assert text.isascii() and text.replace("\n", "").isprintable()
    markdown, _, csv = shown
    assert "<script" not in markdown and "![" not in markdown and "\\!\\[x\\]" in markdown
    assert "http:" not in markdown and "&amp;lt;" in markdown and "\\|" in markdown
    cells = [row.split(",")[0].strip('"') for row in csv.splitlines()[1:]]
    assert len(cells) == 2 * len(groups) + 2
    assert all(cell.lstrip()[:1] not in tuple("=+-@") for cell in cells)
    assert "\n'=1+1" in csv and "\n'-3+3" in csv
