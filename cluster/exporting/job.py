"""Fused images of chosen pairs as image files: metrics, selection, one step on Ray Data, record.

    open_tables -> choose_pairs -> export_pair -> Record.add -> problems.parquet

Every chosen pair is accounted for: exported now, up to date from before, or failed with a reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from cluster.exporting.config import ExportConfig
from cluster.exporting.record import Record
from cluster.exporting.selection import choose_pairs, open_tables, quality_of
from cluster.exporting.writing import export_pair
from cluster.storage import tables, urls
from cluster.storage.config_urls import with_absolute_urls
from cluster.storage.tables import Database
from cluster.text.progress import Progress

Row = dict[str, Any]
PROBLEM_COLUMNS = dict.fromkeys(("pair_id", "reason", "detail"), "str")
PAIRS_PER_BLOCK = 8
"""Least number of pairs that one task exports."""


@dataclass(frozen=True)
class Export:
    """What `export` did."""

    num_chosen: int
    """Number of pairs that were to be exported."""
    num_exported: int
    """Number of images that were written now."""
    num_skipped: int
    """Number of images that were up to date from an earlier run."""
    num_failed: int
    """Number of pairs without an image, all listed in the table of problems."""
    problems_url: str
    """URL of the table of pairs that failed, with their reasons."""

    @property
    def problem(self) -> str:
        """Why the job must not count as a success; empty where it may."""
        if self.num_exported + self.num_skipped + self.num_failed != self.num_chosen:
            return (
                f"{self.num_chosen} pairs were chosen, and {self.num_exported} exported, "
                f"{self.num_skipped} up to date and {self.num_failed} failed, expected the same sum: run "
                "the same command again"
            )
        if self.num_failed:
            return (
                f"{self.num_failed} of {self.num_chosen} pairs were not exported: see "
                f"{urls.redact_url(self.problems_url)}"
            )
        return ""


def export(config: ExportConfig) -> Export:
    """Export the fused images of all chosen pairs that are not up to date.

    Raises:
        ValueError, OSError: an input, a setting or a URL is wrong, or storage fails; one line. The same
            command goes on from where the record stands.
    """
    config = with_absolute_urls(config)
    store_url = urls.join_url(config.fused_url, "fused.zarr")
    if f"{config.output_url}/".startswith(f"{store_url}/"):
        raise ValueError(
            f"--output {urls.redact_url(config.output_url)!r} is in the store of fused images, expected "
            "another folder: a store holds arrays alone"
        )
    with Database() as database:
        open_tables(database, config)
        choose_pairs(database, config)
        num_chosen, num_todo, num_unknown = database.first(
            "select (select count(*) from chosen), (select count(*) from todo), "
            "(select count(*) from unknown)"
        )
        detail = "metrics.parquet has no pair of this name, expected a fused one: check the list"
        failed = [
            {"pair_id": row["pair_id"], "reason": "not_fused", "detail": detail}
            for rows in database.batches("from unknown order by pair_id")
            for row in rows
        ]
        num_exported = 0
        if num_todo:
            record = Record(config.output_url)
            how = {"format": config.image_format, "quality": quality_of(config)}
            with Progress(num_todo, "pairs to export") as progress:
                try:
                    for rows in _export(database, config, store_url):
                        written = [row | how for row in rows if not row["reason"]]
                        record.add(written)
                        num_exported += len(written)
                        failed += [
                            {name: row[name] for name in PROBLEM_COLUMNS} for row in rows if row["reason"]
                        ]
                        progress.add(
                            len(rows), pixels=sum(row["height"] * row["width"] for row in written)
                        )
                finally:
                    record.flush()
        problems_url = urls.join_url(config.output_url, "problems.parquet")
        tables.write_rows(problems_url, failed, PROBLEM_COLUMNS)
    return Export(
        num_chosen=num_chosen + num_unknown,
        num_exported=num_exported,
        num_skipped=num_chosen - num_todo,
        num_failed=len(failed),
        problems_url=problems_url,
    )


def _export(database: Database, config: ExportConfig, store_url: str) -> Iterator[list[Row]]:
    """Send the pairs of `todo` through Ray Data; yield their rows."""
    # Here, as Ray itself: not before the inputs are checked.
    from cluster.runtime.datasets import batches_of, dataset_of
    from cluster.runtime.session import ray_session

    options: dict[str, Any] = {
        "store_url": store_url,
        "output_url": config.output_url,
        "image_format": config.image_format,
        "quality": quality_of(config),
        "max_pixels": config.max_pixels,
    }
    with ray_session(0):
        with dataset_of(
            database,
            "select pair_id, zarr_path, height, width, file, version from todo order by zarr_path",
            urls.join_url(config.output_url, "todo"),
            least_per_block=PAIRS_PER_BLOCK,
            num_cpus=1,
        ) as dataset:
            exported = dataset.map(cast(Any, export_pair), fn_kwargs=options, num_cpus=1)
            yield from batches_of(exported)
