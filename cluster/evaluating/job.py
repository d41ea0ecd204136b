"""Any method's fused images scored over an archive: index, listings, one step on Ray Data, tables.

    load_index - list each method's images -> score_pair -> scores, problems, tables of means

Nothing is averaged over in silence: a pair that a method lacks, or has in a wrong size, is a row of
problems.parquet and counted beside the means.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, cast

import pandas as pd

from cluster.archive.matching import split_extension
from cluster.archive.pair_index import load_index
from cluster.evaluating import score_table
from cluster.evaluating.config import REFERENCES, EvaluateConfig
from cluster.evaluating.scoring import Method, score_pair
from cluster.storage import fused_store, objects, tables, urls
from cluster.storage.config_urls import with_absolute_urls, without_secrets
from cluster.storage.tables import Database
from cluster.text.units import duration
from dmnet_core import __version__
from dmnet_core.metrics import METRICS

Row = dict[str, Any]
SCORE_COLUMNS = {
    "pair_id": "str", "set": "str", "method": "str", **dict.fromkeys(METRICS, "float64"),
    "height": "int64", "width": "int64", "seconds": "float64",
}  # fmt: skip
PROBLEM_COLUMNS = dict.fromkeys(("method", "pair_id", "set", "reason", "detail"), "str")
PAIRS_PER_BLOCK = 8
"""Least number of pairs that one task scores."""


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found."""

    text: str
    """The tables of means as a terminal shows them."""
    urls: dict[str, str]
    """URLs of the tables and of the record that were written, by name."""
    problem: str
    """Why the job must not count as a success; empty where it may."""


def evaluate(config: EvaluateConfig) -> Evaluation:
    """Score every method over the index, and write every table.

    Raises:
        ValueError, OSError: an input, a setting or a URL is wrong; one line, nothing was written.
    """
    start = time.monotonic()
    config = with_absolute_urls(config)
    _ = config.reading  # its ranges are checked
    pairs, num_unmatched = load_index(config.index_url)
    pairs = pairs.head(config.limit) if config.limit else pairs
    pairs = pairs.assign(set=pairs["set"].astype("str").fillna("") if "set" in pairs else "")
    methods = [_find_method(name, url) for name, url in config.fused_urls]
    places, problems = _find_images(methods, pairs, limited=config.limit is not None)
    if config.references:
        methods += [Method(name, "reference", "") for name in REFERENCES]
        for found in places.values():
            found |= dict.fromkeys(REFERENCES, "")
    rows = pairs[["pair_id", "ir_url", "vis_url", "set"]].assign(
        locations=[json.dumps(places[name]) for name in pairs["pair_id"]]
    )
    scored: list[Row] = []
    for row in _score(config, rows, tuple(methods)):
        (problems if row["reason"] else scored).append(row)
    scores = (
        tables.as_table(scored, SCORE_COLUMNS)
        .to_pandas()
        .sort_values(["method", "pair_id"], ignore_index=True)
    )
    problem_frame = tables.as_table(problems, PROBLEM_COLUMNS).to_pandas()
    return _write(config, scores, problem_frame, [m.name for m in methods], pairs, num_unmatched, start)


def _find_method(name: str, url: str) -> Method:
    """Say what lies at a URL: an output of fuse_archive, its store, or a folder of images."""
    for store in (urls.join_url(url, "fused.zarr"), url):
        if fused_store.read_store_attributes(store) is not None:
            return Method(name, "store", store)
    return Method(name, "images", url)


def _find_images(
    methods: list[Method], pairs: pd.DataFrame, *, limited: bool
) -> tuple[dict[str, dict[str, str]], list[Row]]:
    """Return by pair and method where the fused image is, and a row for each that is not as expected.

    Args:
        methods: methods whose images are in stores and folders.
        pairs: rows of the index, with pair_id and set.
        limited: whether the index has more pairs, so that others' images are no surprise.
    """
    sets: dict[str, str] = dict(zip(pairs["pair_id"], pairs["set"], strict=True))
    places: dict[str, dict[str, str]] = {name: {} for name in sets}
    problems: list[Row] = []
    for method in methods:
        found: dict[str, list[str]] = {}
        if method.kind == "store":
            ids = {fused_store.escape_pair_id(name): name for name in sets}
            for path in fused_store.list_fused(method.url):
                found.setdefault(ids.get(path, path), []).append(path)
        else:
            for file in objects.list_files(method.url):
                found.setdefault(split_extension(file.path)[0], []).append(file.url)

        def problem(name: str, reason: str, detail: str, by: str = method.name) -> None:
            row = {"method": by, "pair_id": name, "set": sets.get(name, "")}
            problems.append(row | {"reason": reason, "detail": detail})

        for name in sorted(found.keys() | sets.keys()):
            found_urls = [urls.redact_url(url) for url in sorted(found.get(name, []))]
            if name not in sets:
                if not limited:
                    problem(name, "extra", f"{', '.join(found_urls)}: no pair of the index has this name")
            elif not found_urls:
                problem(name, "missing", f"nothing of this name in {urls.redact_url(method.url)}")
            elif len(found_urls) > 1:
                problem(name, "ambiguous", f"several files of this name: {', '.join(found_urls)}")
            else:
                places[name][method.name] = found[name][0]
    return places, problems


def _score(config: EvaluateConfig, rows: pd.DataFrame, methods: tuple[Method, ...]) -> Iterable[Row]:
    """Send the pairs through Ray Data; yield a row for each pair and method."""
    # Here, as Ray itself: not before the inputs are checked.
    from cluster.runtime.datasets import dataset_of
    from cluster.runtime.session import ray_session

    options = {
        "methods": methods,
        "stretch": config.stretch,
        "reading": config.reading,
        "max_pixels": config.max_pixels,
    }
    with ray_session(0), Database() as database:
        database.add("pairs", rows)
        # One CPU, one thread: pairs side by side need no threads within.
        with dataset_of(
            database,
            "from pairs",
            urls.join_url(config.output_url, "todo"),
            least_per_block=PAIRS_PER_BLOCK,
            num_cpus=1,
        ) as dataset:
            scored = dataset.flat_map(cast(Any, score_pair), fn_kwargs=options, num_cpus=1)
            for batch in scored.iter_batches(
                batch_size=None, prefetch_batches=0, batch_format="pyarrow"
            ):
                yield from cast(Any, batch).to_pylist()


def _write(
    config: EvaluateConfig,
    scores: pd.DataFrame,
    problems: pd.DataFrame,
    methods: list[str],
    pairs: pd.DataFrame,
    num_unmatched: int,
    start: float,
) -> Evaluation:
    means = score_table.means(scores, problems, methods)
    heading = score_table.heading(config.stretch)
    warning = score_table.warning(problems)
    written = {
        name: urls.join_url(config.output_url, file)
        for name, file in {
            "scores": "scores.parquet",
            "problems": "problems.parquet",
            "table": "table.md",
            "csv": "table.csv",
            "record": "evaluation.json",
        }.items()
    }
    tables.write_table(written["scores"], scores)
    tables.write_table(written["problems"], problems)
    objects.put_bytes(written["table"], score_table.markdown(means, heading, warning).encode())
    objects.put_bytes(written["csv"], score_table.csv(means, config.stretch).encode())
    record = {
        "config": without_secrets(config),
        "pairs": len(pairs),
        "names_without_a_partner": num_unmatched,
        "scored": scores["method"].value_counts().to_dict(),
        "problems": [
            {"method": method, "reason": reason, "count": int(count)}
            for (method, reason), count in problems.groupby(["method", "reason"]).size().items()
        ],
        "seconds": round(time.monotonic() - start, 3),
        "versions": {"dmnet-archive": __version__, **{n: version(n) for n in ("ray", "torch")}},
    }  # fmt: skip
    objects.put_bytes(written["record"], json.dumps(record, indent=1).encode())
    lacking = [
        f"{name} lacks scores of {count} of {len(pairs)} pairs"
        for name, count in problems[problems["reason"] != "extra"]["method"].value_counts().items()
        if count > config.max_missing * len(pairs)
    ]
    text = score_table.terminal(means, heading, warning)
    text += f"\n{len(pairs)} pairs, {duration(time.monotonic() - start)}"
    problem = f"{'; '.join(lacking)}: see {urls.redact_url(written['problems'])}" if lacking else ""
    return Evaluation(text, written, problem)
