"""Any method's fused images scored over an archive: index, listings, one step on Ray Data, tables.

    load_index - list each method's images -> score_pair -> scores, problems, tables of means

Nothing is averaged over in silence: a pair that a method lacks, or has in a wrong size, is a row of
problems.parquet and counted beside the means.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, cast

import pandas as pd

from cluster.archive.pair_index import READ, load_index
from cluster.evaluating import score_table
from cluster.evaluating.config import REFERENCES, EvaluateConfig
from cluster.evaluating.images import find_images, find_method
from cluster.evaluating.scoring import Method, read_pictures, score_pair
from cluster.storage import objects, tables, urls
from cluster.storage.config_urls import with_absolute_urls, without_secrets
from cluster.storage.tables import Database
from cluster.text.plain_text import one_line
from cluster.text.progress import Progress
from cluster.text.units import duration
from dmnet_core import __version__
from dmnet_core.metrics import METRICS

Row = dict[str, Any]
WritePage = Callable[..., str]
"""`cluster.reporting.methods.write_methods_page`, which the job hands over."""
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


def evaluate(config: EvaluateConfig, write_page: WritePage | None = None) -> Evaluation:
    """Score every method over the index, and write every table.

    Args:
        config: configuration of the evaluation.
        write_page: writes the page of the methods and returns its URL; None writes none.

    Raises:
        ValueError, OSError: an input, a setting or a URL is wrong; one line, nothing was written.
    """
    start = time.monotonic()
    config = with_absolute_urls(config)
    _ = config.reading  # its ranges are checked
    pairs, num_unmatched = load_index(config.index_url)
    pairs = pairs.head(config.limit) if config.limit else pairs
    pairs = pairs.assign(set=pairs["set"].astype("str").fillna("") if "set" in pairs else "")
    methods = [find_method(name, url) for name, url in config.fused_urls]
    places, problems = find_images(
        methods, pairs, dict(config.fused_patterns), limited=config.limit is not None
    )
    if config.references:
        methods += [Method(name, "reference", "") for name in REFERENCES]
        for found in places.values():
            found |= dict.fromkeys(REFERENCES, "")
    rows = pairs[[*READ, "set"]].assign(
        locations=[json.dumps(places[name]) for name in pairs["pair_id"]]
    )
    scored: list[Row] = []
    num_images = sum(map(len, places.values()))
    with Progress(num_images, "images to score") as progress:
        for batch in _score(config, rows, tuple(methods)):
            for row in batch:
                (problems if row["reason"] else scored).append(row)
            progress.add(len(batch), pixels=sum(row["height"] * row["width"] for row in batch))
    scores = (
        tables.as_table(scored, SCORE_COLUMNS)
        .to_pandas()
        .sort_values(["method", "pair_id"], ignore_index=True)
    )
    problem_frame = tables.as_table(problems, PROBLEM_COLUMNS).to_pandas()
    means = score_table.means(scores, problem_frame, [method.name for method in methods])
    evaluation = _write(config, scores, problem_frame, means, pairs, num_unmatched, start)
    if write_page is not None:
        named = rows.set_index("pair_id", drop=False)
        options = _options(config, tuple(methods))
        try:
            evaluation.urls["page"] = write_page(
                config.output_url,
                scores=scores,
                methods=[method.name for method in methods],
                tables=score_table.sections(means),
                heading=score_table.heading(config.stretch),
                warning=score_table.warning(problem_frame),
                read_pictures=lambda name: read_pictures(named.loc[name].to_dict(), **options),
                num_images=config.num_images,
            )
        except Exception as error:  # the tables are written, and a page never makes the job fail
            text = f"{evaluation.text}\nno page: {one_line(error) or type(error).__name__}"
            return replace(evaluation, text=text)
    return evaluation


def _options(config: EvaluateConfig, methods: tuple[Method, ...]) -> dict[str, Any]:
    """Return the options with which the images of a pair are read."""
    return {
        "methods": methods,
        "stretch": config.stretch,
        "reading": config.reading,
        "max_pixels": config.max_pixels,
        "resample": config.resample,
    }


def _score(
    config: EvaluateConfig, rows: pd.DataFrame, methods: tuple[Method, ...]
) -> Iterable[list[Row]]:
    """Send the pairs through Ray Data; yield rows, one for each pair and method, as they come."""
    # Here, as Ray itself: not before the inputs are checked.
    from cluster.runtime.datasets import batches_of, dataset_of
    from cluster.runtime.session import ray_session

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
            options = _options(config, methods)
            scored = dataset.flat_map(cast(Any, score_pair), fn_kwargs=options, num_cpus=1)
            yield from batches_of(scored)


def _write(
    config: EvaluateConfig,
    scores: pd.DataFrame,
    problems: pd.DataFrame,
    means: pd.DataFrame,
    pairs: pd.DataFrame,
    num_unmatched: int,
    start: float,
) -> Evaluation:
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
