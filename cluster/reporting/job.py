"""The report job: tables of an output in, OUT/report/index.html and its pictures out.

    open_archive -> distributions, count_pairs, choose_pairs -> write_pictures -> render -> index.html

The page is put after its pictures, and pictures that only an earlier page had are removed last.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cluster.reporting.archive_tables import Archive, open_archive
from cluster.reporting.charts import COLOURS, charts
from cluster.reporting.chosen import Chosen, choose_pairs, describe_details, describe_rows
from cluster.reporting.config import ReportConfig
from cluster.reporting.distributions import distributions
from cluster.reporting.footprints import footprints
from cluster.reporting.overview import count_pairs, count_reasons, describe_runs, read_records
from cluster.reporting.page import render
from cluster.reporting.pictures import Pictures, remove_others, write_pictures
from cluster.storage import objects, urls
from cluster.storage.config_urls import with_absolute_urls
from cluster.storage.tables import Database
from cluster.text import units
from cluster.text.run_log import RunLog
from dmnet_core import __version__

MAX_PAGE_BYTES = 5_000_000
"""Largest page; of a large archive it holds so many pairs of the sample as fit."""
OPENING = {"max_pixels": 67_108_864, "temperatures": False, "resample": False}
"""Options of `open_pair`, as they are by default in fuse_archive."""
NUM_DETAILED = 600
"""Most pairs of which the page holds sources and ranges too."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Written:
    """What `write_report` wrote."""

    url: str
    """URL of the page."""
    num_pairs: int
    """Number of fused pairs in the archive."""
    num_shown: int
    """Number of pairs that the page holds."""
    num_pictures: int
    """Number of pairs with a small image."""
    num_bytes: int
    """Size of the page in bytes."""
    table_s: float
    """Seconds for everything but the pictures."""
    picture_s: float
    """Seconds for the pictures."""

    @property
    def text(self) -> str:
        """The same for people, on one line."""
        return (
            f"report on {self.num_pairs} pairs: {self.num_shown} on the page, {self.num_pictures} with "
            f"images; {units.size(self.num_bytes)} in {units.duration(self.table_s)}, images in "
            f"{units.duration(self.picture_s)}"
        )


def write_report(config: ReportConfig, log: RunLog | None = None) -> Written:
    """Write the report on an output of fuse_archive.

    Args:
        config: configuration of the report.
        log: log of the run that says how far it is; None prints text.

    Raises:
        ValueError, OSError: the output or the condition can't be used, or storage fails; one line.
    """
    start = time.monotonic()
    config = with_absolute_urls(config)
    output_url = config.output_url
    with Database() as database:
        archive = open_archive(database, output_url)
        records = read_records(output_url)
        chosen = choose_pairs(database, archive, output_url, config.where)
        kinds = database.columns("from stored")
        data = _describe(database, archive, records, output_url)
    rows = chosen.rows[: config.num_thumbnails]
    picture_start = time.monotonic()
    if config.heat_maps:
        # Here: the network takes seconds to load, and a report has none of it by default.
        from cluster.reporting.heat_maps import write_heat_maps

        latest = records[-1]["config"] if records else {}
        write_heat_maps(rows[: config.num_images], output_url, _opening(records), latest, log)
    pictures = write_pictures(rows, output_url, _opening(records), config.num_images, log)
    picture_s = time.monotonic() - picture_start
    page, num_shown = _fitting(data, chosen, archive, kinds, pictures)
    url = urls.join_url(output_url, "report", "index.html")
    objects.put_bytes(url, page)
    remove_others(output_url, pictures.earlier, rows)
    return Written(
        url=url,
        num_pairs=archive.num_pairs,
        num_shown=num_shown,
        num_pictures=sum(map(bool, pictures.names)),
        num_bytes=len(page),
        table_s=time.monotonic() - start - picture_s,
        picture_s=picture_s,
    )


def _describe(database: Database, archive: Archive, records: list[Row], output_url: str) -> Row:
    """Return what the page shows of the archive as a whole."""
    shown = urls.redact_url(output_url)
    return {
        "title": shown.rstrip("/").rpartition("/")[2] or shown,
        "output": shown,
        "made_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "software": f"dmnet-archive {__version__}",
        "counts": count_pairs(database, records),
        "reasons": count_reasons(database),
        "runs": describe_runs(records),
        "colours": list(COLOURS),
        "charts": charts(),
        **distributions(database, archive),
    }


def _opening(records: list[Row]) -> Row:
    """Return the options by which the latest run opened its sources; the defaults where none says it."""
    told = records[-1]["config"] if records else {}
    return {name: type(default)(told.get(name, default)) for name, default in OPENING.items()}


def _fitting(
    data: Row, chosen: Chosen, archive: Archive, kinds: dict[str, str], pictures: Pictures
) -> tuple[bytes, int]:
    """Return the page with as many pairs as fit, and their number."""
    number = len(chosen.rows)
    num_detailed = min(number, NUM_DETAILED)
    while True:
        page = render(data | _pairs(chosen, archive, kinds, pictures, number, num_detailed))
        if len(page) <= MAX_PAGE_BYTES or not number:
            return page, number
        # Half of the sample goes first; names of thousands of letters may need more.
        number = number // 2
        num_detailed = min(number, num_detailed)


def _pairs(
    chosen: Chosen,
    archive: Archive,
    kinds: dict[str, str],
    pictures: Pictures,
    number: int,
    num_detailed: int,
) -> Row:
    """Return what the page shows of its single pairs, of which it takes the first ones."""
    rows = chosen.rows[:number]
    outlines, note = footprints(rows)
    worst, best = (
        {name: [place for place in places if place < number] for name, places in of.items()}
        for of in (chosen.worst, chosen.best)
    )
    return {
        "num_pairs": archive.num_pairs,
        "num_wanted": min(chosen.num_wanted, number),
        "pairs": describe_rows(rows, archive, kinds),
        "details": describe_details(rows[:num_detailed]),
        "worst": worst,
        "best": best,
        "thumbnails": pictures.names[:number],
        "problems": pictures.problems[:number],
        "reductions": pictures.reductions[:number],
        "heat_maps": pictures.heat_maps[:number],
        "outlines": outlines,
        "map_note": note,
    }
