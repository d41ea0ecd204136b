"""Tables of means as the papers print them: Markdown, CSV and the terminal.

The best value of each column is bold and the second underlined; in plain text, such as a log, they are
marked with ** and *. All eleven metrics are better when higher.
"""

from __future__ import annotations

import io
import os
import re
import sys
from typing import Any

import pandas as pd

from cluster.text.plain_text import printable
from dmnet_core.metrics import METRICS

DECIMALS = dict.fromkeys(METRICS, 3) | {"EN": 2, "SD": 2, "SF": 2, "AG": 2}
"""Number of decimals with which each metric is printed."""
RANKED = [name for name in METRICS if name != "MS-SSIM-Wang"]
"""Metrics whose ranks are averaged: those that papers print, of the two MS-SSIM the joint one."""
ALL = "all sets"
"""Name of the rows of means over all sets."""


def means(scores: pd.DataFrame, problems: pd.DataFrame, methods: list[str]) -> pd.DataFrame:
    """Return one row a set and method: set, method, pairs, without, the metrics' means, and rank.

    The rank is the mean of a method's ranks in the metrics RANKED within the set, 1 at best;
    equal means share their mean rank.

    Args:
        scores: pair_id, set, method and the metrics, one row for each scored image.
        problems: method, set and reason, one row for each image that has no scores.
        methods: names of the methods, in the order of the table.
    """
    missing = problems[problems["reason"] != "extra"]
    sets = sorted({*scores["set"], *missing["set"]})
    groups = [(name, scores["set"] == name, missing["set"] == name) for name in sets]
    if len(sets) != 1:
        everything = (scores["set"].notna(), missing["set"].notna())
        groups.append((ALL, *everything))
    rows = []
    for name, of_scores, of_missing in groups:
        for method in methods:
            mine = scores[of_scores & (scores["method"] == method)]
            without = int((missing[of_missing]["method"] == method).sum())
            row = {"set": name, "method": method, "pairs": len(mine), "without": without}
            rows.append(row | mine[list(METRICS)].mean().to_dict())
    table = pd.DataFrame(rows)
    ranks = table.groupby("set")[RANKED].rank(ascending=False)
    return table.assign(rank=ranks.mean(axis=1))


def heading(stretch: str) -> str:
    """Return the table's heading, which says how the fused images were scored."""
    if stretch == "minmax":
        return "Each fused image stretched to 0..255 before scoring (--stretch minmax)"
    return "Fused images as they are, no stretch"


def warning(problems: pd.DataFrame) -> str:
    """Return the number of images without scores, and of such as belong to no pair, by method and reason.

    It is empty where every image of the methods is scored.
    """
    counts = problems.groupby(["method", "reason"]).size()
    missing: list[str] = []
    extra: list[str] = []
    for (method, reason), count in counts.items():
        (extra if reason == "extra" else missing).append(f"{method}: {count} {reason}")
    texts = []
    if missing:
        texts.append(
            "Some images have no scores (see problems.parquet), so means may be of different pairs: "
            f"{'; '.join(missing)}"
        )
    if extra:
        texts.append(
            f"Images of no pair of the index, left out (see problems.parquet): {'; '.join(extra)}"
        )
    return ". ".join(texts)


def markdown(table: pd.DataFrame, title: str, note: str) -> str:
    """Return the table in Markdown, the best value bold and the second underlined, a section a set."""
    lines = [title + "."]
    for name, group in table.groupby("set", sort=False):
        if name:
            lines += ["", f"### {_literal(str(name))}"]
        lines += ["", "| method | pairs | " + " | ".join(METRICS) + " | rank |"]
        lines += ["|---|---|" + "---|" * (len(METRICS) + 1)]
        for cells in _ranked(group, ("**", "**"), ("<u>", "</u>")):
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, *(["", _plain(note) + "."] if note else [])]) + "\n"


def csv(table: pd.DataFrame, stretch: str) -> str:
    """Return the table as CSV with full precision; no cell begins as a spreadsheet's formula does."""
    buffer = io.StringIO()
    safe = {name: [_no_formula(_plain(str(text))) for text in table[name]] for name in ("set", "method")}
    table.assign(**safe, stretch=stretch).to_csv(buffer, index=False)
    return buffer.getvalue()


def terminal(table: pd.DataFrame, title: str, note: str) -> str:
    """Return the table in columns, bold and underlined on a terminal."""
    colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    best = ("\x1b[1m", "\x1b[0m") if colours else ("**", "")
    second = ("\x1b[4m", "\x1b[0m") if colours else ("*", "")
    lines = [title if colours else f"{title} (** best, * second)"]
    width = max(len("method"), *map(len, table["method"]))
    for name, group in table.groupby("set", sort=False):
        lines += ["", *([_plain(str(name))] if name else [])]
        lines.append(f"{'method':<{width}}  pairs " + " ".join(f"{n:>12}" for n in (*METRICS, "rank")))
        plain, marked = _ranked(group, ("", ""), ("", "")), _ranked(group, best, second)
        for cells, shown in zip(plain, marked, strict=True):
            hidden = [0 if not colours else len(b) - len(a) for a, b in zip(cells, shown, strict=True)]
            row = [f"{shown[0]:<{width}}", f"{shown[1]:>5}"]
            row += [f"{shown[i]:>{12 + hidden[i]}}" for i in range(2, len(shown))]
            lines.append(f"{row[0]}  {row[1]} {' '.join(row[2:])}")
    return "\n".join([*lines, *(["", _plain(note)] if note else [])])


def sections(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the table of each set in plain values: set, columns, and rows of method, pairs and cells.

    A cell has its text and its mark: 1 for the best of the column, 2 for the second, 0 for any other.
    """
    made = []
    for name, group in table.groupby("set", sort=False):
        columns = {metric: _marked(group[metric], DECIMALS[metric]) for metric in METRICS}
        columns["rank"] = _marked(group["rank"], 1, least_first=True)
        rows = [
            {
                "method": method,
                "pairs": pairs,
                "cells": [{"text": text, "mark": mark} for text, mark in cells],
            }
            for method, pairs, *cells in zip(
                group["method"], _pairs(group), *columns.values(), strict=True
            )
        ]
        made.append({"set": str(name), "columns": list(columns), "rows": rows})
    return made


def _ranked(group: pd.DataFrame, best: tuple[str, str], second: tuple[str, str]) -> list[list[str]]:
    """Return the cells of a set: method, pairs, metrics, rank; of a metric the best two are marked.

    Values are ranked as printed, so that equal cells get the same mark.
    """
    around = (("", ""), best, second)
    columns = [
        [text.join(around[mark]) for text, mark in _marked(group[name], DECIMALS[name])]
        for name in METRICS
    ]
    ranks = [text for text, _ in _marked(group["rank"], 1)]
    return [list(cells) for cells in zip(group["method"], _pairs(group), *columns, ranks, strict=True)]


def _marked(values: pd.Series, decimals: int, *, least_first: bool = False) -> list[tuple[str, int]]:
    """Return a column's texts, each with 1 for the best value, 2 for the second and 0 for any other.

    Values are compared as printed, so that equal texts get the same mark; the last one gets none.
    """
    printed = values.round(decimals)
    order = sorted(printed.dropna().unique(), reverse=not least_first)
    marks = {value: place for place, value in enumerate(order[:-1][:2], start=1)}
    return [
        ("-" if pd.isna(value) else f"{value:.{decimals}f}", marks.get(value, 0)) for value in printed
    ]


def _pairs(group: pd.DataFrame) -> list[str]:
    """Return of each row how many pairs its means hold, and of how many where some are missing."""
    return [
        f"{row.pairs}" + (f" of {row.pairs + row.without}" if row.without else "")
        for row in group.itertuples()
    ]


def _plain(text: str) -> str:
    """Return text as ASCII without control characters."""
    return printable(text.encode("ascii", "backslashreplace").decode())


def _literal(text: str) -> str:
    """Return text that Markdown shows as it is: no markup, link, picture or HTML."""
    escaped = re.sub(r"([\\`*_{}\[\]()#!|~:@.])", r"\\\1", _plain(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _no_formula(text: str) -> str:
    return f"'{text}" if text.lstrip()[:1] in tuple("=+-@") else text
