"""The page of an evaluation: methods side by side, their means with ranks, and where they differ most.

    scores, tables -> most_different -> pictures of these pairs -> render -> report/index.html

Pictures are named by their bytes, and those that only an earlier page had are removed last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from itertools import chain, zip_longest
from typing import Any

import pandas as pd

from cluster.archive.contact_sheet import reduced
from cluster.archive.encoding import encode_image
from cluster.archive.pair_picture import Picture
from cluster.reporting.page import METHODS_PAGE, render
from cluster.reporting.pictures import FOLDER, MAX_SIDE, NAME, NUM_THREADS, QUALITY
from cluster.storage import objects, urls
from cluster.text.plain_text import one_line
from cluster.text.progress import Progress
from dmnet_core import __version__
from dmnet_core.metrics import METRICS

MOST_SHOWN = 8
"""Number of methods that the page shows at once."""
EVERYTHING = "all metrics"
"""Name of the difference over all metrics together."""

Row = dict[str, Any]
ReadPictures = Callable[[str], Mapping[str, Picture]]
"""From a pair_id to its images, uint8, by the names ir, vis and those of the methods that have one."""


def write_methods_page(
    output_url: str,
    *,
    scores: pd.DataFrame,
    methods: list[str],
    tables: list[Row],
    heading: str,
    warning: str,
    read_pictures: ReadPictures,
    num_images: int,
) -> str:
    """Write OUTPUT/report/index.html and its pictures; return the URL of the page.

    Args:
        output_url: URL of the output of an evaluation.
        scores: pair_id, set, method, height, width and the metrics, one row for each scored image.
        methods: their names, in the order of the tables.
        tables: the means of each set: set, columns, and rows of method, pairs and cells, which have text
            and mark, 1 for the best of a column and 2 for the second.
        heading: how the images were scored.
        warning: what has no scores; empty where everything has.
        read_pictures: gives the images of a pair.
        num_images: most pairs whose images are written.

    Raises:
        StorageError: the page or a picture can't be written.
    """
    folder_url = urls.join_url(output_url, "report", FOLDER)
    earlier = {file.path for file in objects.find_files(folder_url)}
    differences = most_different(scores)
    chosen = _chosen(differences, num_images)

    def draw(pair_id: str) -> tuple[dict[str, str], str]:
        return _draw(pair_id, read_pictures, folder_url)

    drawn: list[tuple[dict[str, str], str]] = []
    with (
        Progress(len(chosen), "pairs to draw") as progress,
        ThreadPoolExecutor(NUM_THREADS) as pool,
    ):
        for found in pool.map(draw, chosen):
            drawn.append(found)
            progress.add()
    data = {
        "title": urls.redact_url(output_url).rstrip("/").rpartition("/")[2] or "evaluation",
        "output": urls.redact_url(output_url),
        "made_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "software": f"dmnet-archive {__version__}",
        "heading": heading,
        "warning": warning,
        "metrics": list(METRICS),
        "methods": methods,
        "most_shown": MOST_SHOWN,
        "tables": tables,
        "num_pairs": int(scores["pair_id"].nunique()),
        **_pairs(chosen, scores, differences, drawn, methods),
    }
    url = urls.join_url(output_url, "report", "index.html")
    objects.put_bytes(url, render(data, METHODS_PAGE))
    _remove(folder_url, earlier - {name for names, _ in drawn for name in names.values()})
    return url


def most_different(scores: pd.DataFrame) -> pd.DataFrame:
    """Return by pair_id how far apart its methods are, in each metric and in all metrics together.

    That is the largest value less the smallest, over the standard deviation of the metric over all
    images; in all metrics together, the mean of these. A pair that only one method has is left out.

    Args:
        scores: pair_id, method and the metrics, one row for each scored image.
    """
    scaled = scores[list(METRICS)] / scores[list(METRICS)].std(ddof=0)
    grouped = scaled.groupby(scores["pair_id"])
    apart = (grouped.max() - grouped.min())[grouped.size() > 1]
    return apart.assign(**{EVERYTHING: apart.mean(axis=1)}).astype(float)


def _chosen(differences: pd.DataFrame, number: int) -> list[str]:
    """Return the pairs that differ most, by all metrics and by each in turn."""
    orders = [
        differences[name].dropna().sort_values(ascending=False, kind="stable").index[:number]
        for name in (EVERYTHING, *METRICS)
    ]
    # Half of the places belong to all metrics together.
    turns = chain(orders[0][: (number + 1) // 2], *zip_longest(*orders))
    return list(dict.fromkeys(name for name in turns if name is not None))[:number]


def _draw(pair_id: str, read_pictures: ReadPictures, folder_url: str) -> tuple[dict[str, str], str]:
    """Write the images of a pair; return their file names by side and method, and what is wrong."""
    names = {}
    try:
        for name, picture in read_pictures(pair_id).items():
            data = encode_image(reduced(picture, MAX_SIDE), "jpeg", QUALITY)
            names[name] = f"{sha256(data).hexdigest()[:20]}.jpg"
            objects.put_bytes(urls.join_url(folder_url, names[name]), data)
    except Exception as error:  # one bad pair must not end the page of thousands
        return names, one_line(error)[:300]
    return names, ""


def _remove(folder_url: str, names: set[str]) -> None:
    """Remove pictures of an earlier page; whatever else lies in the folder stays."""
    for name in names:
        if NAME.fullmatch(name):
            objects.delete(urls.join_url(folder_url, name))


def _pairs(
    chosen: list[str],
    scores: pd.DataFrame,
    differences: pd.DataFrame,
    drawn: list[tuple[dict[str, str], str]],
    methods: list[str],
) -> Row:
    """Return what the page shows of its single pairs."""
    of_chosen = scores[scores["pair_id"].isin(chosen)]
    found = {(row["pair_id"], row["method"]): row for row in of_chosen.to_dict("records")}
    first = of_chosen.drop_duplicates("pair_id").set_index("pair_id")
    return {
        "pairs": {
            "pair_id": chosen,
            "height": [int(first["height"][name]) for name in chosen],
            "width": [int(first["width"][name]) for name in chosen],
            "measures": {},
            "carried": {},
        },
        "sets": [str(first["set"][name]) for name in chosen],
        "scores": [
            [
                [float(row[metric]) for metric in METRICS] if (row := found.get((name, method))) else None
                for method in methods
            ]
            for name in chosen
        ],
        "differences": {
            name: [float(differences[name][pair]) for pair in chosen] for name in (EVERYTHING, *METRICS)
        },
        "images": [names for names, _ in drawn],
        "problems": [problem for _, problem in drawn],
        "quantiles": {},
    }
