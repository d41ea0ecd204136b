"""The tables of an output, as a report reads them.

First in the flow: metrics.parquet, rejected.parquet and the ledger become views of a database, and
`measured` a table with what the whole archive is counted by.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.reporting.groups import Group, find_groups
from cluster.storage import urls
from cluster.storage.tables import Database, quoted
from dmnet_core.metrics import METRICS

MEASURES = (*METRICS, "valid_share", "seconds")
"""Columns of metrics.parquet of which the report shows distributions."""
OWN = frozenset(
    (
        *MEASURES, "pair_id", "height", "width", "bands", "dtype", "num_windows", "ir_low", "ir_high",
        "vis_low", "vis_high", "source_note", "grid", "crs", "transform", "zarr_path", "ir_url",
        "vis_url", "fingerprint",
    )
)  # fmt: skip
"""Columns of metrics.parquet that fuse_archive makes; every other one is carried from the index."""
NEEDED = ("pair_id", "zarr_path", "height", "width")
EMPTY_LEDGER = (
    "select '' as pair_id, 0::bigint as \"window\", '' as status, '' as run_id, 0.0 as recorded_at, "
    "0::bigint as ir_size, 0::bigint as vis_size, '' as ir_bands, '' as vis_bands, '' as ir_to_vis "
    "limit 0"
)
EMPTY_REJECTED = "select '' as pair_id, '' as reason, '' as detail limit 0"


@dataclass(frozen=True)
class Archive:
    """What the tables of an output hold."""

    measures: tuple[str, ...]
    """Those of MEASURES that the metrics have."""
    carried: tuple[str, ...]
    """Columns that the pair index carried into the metrics, and that hold numbers, text or times."""
    groups: tuple[Group, ...]
    """Ways to part the pairs, each a column `g<number>` of the table `measured`."""
    num_pairs: int
    """Number of fused pairs: rows of the metrics."""


def open_archive(database: Database, output_url: str) -> Archive:
    """Make the views `stored`, `rejected` and `ledger`, and the tables `latest` and `measured`.

    `latest` has the run of each fused pair. `measured` has pair_id, pixels, recorded_at, the measures,
    and a small whole number for each group: the place of the pair's value among those shown, from 0 on.

    Raises:
        ValueError: there is no metrics.parquet, or it lacks columns.
        StorageError: a table can't be read.
    """
    shown = urls.redact_url(output_url)
    if not database.open("stored", urls.join_url(output_url, "metrics.parquet")):
        raise ValueError(
            f"--output {shown!r} has no metrics.parquet, expected an output of fuse_archive: give what "
            "was its --output, and run it without --partition first"
        )
    columns = database.columns("from stored")
    if missing := [name for name in NEEDED if name not in columns]:
        raise ValueError(
            f"metrics.parquet of --output {shown!r} has no column {', '.join(missing)}, expected what "
            "fuse_archive writes: run it again"
        )
    if not database.open("rejected", urls.join_url(output_url, "rejected.parquet")):
        database.run(f"create or replace view rejected as {EMPTY_REJECTED}")
    if not database.open("ledger", urls.join_url(output_url, "ledger")):
        database.run(f"create or replace view ledger as {EMPTY_LEDGER}")
    database.run(
        "create or replace table latest as select pair_id, max(recorded_at) as recorded_at, "
        "arg_max(run_id, recorded_at) as run_id from ledger "
        "where \"window\" = 0 and status = 'fused' group by pair_id"
    )
    measures = tuple(name for name in MEASURES if name in columns)
    carried = {name: kind for name, kind in columns.items() if name not in OWN}
    groups = find_groups(database, carried)
    numbers = [f"try_cast(s.{quoted(name)} as double) as {quoted(name)}" for name in measures]
    labels = [f"{group.code(f'g{number}')} as g{number}" for number, group in enumerate(groups)]
    selected = ", ".join(
        ["s.pair_id", "s.height * s.width as pixels", "l.recorded_at", *numbers, *labels]
    )
    database.run(
        f"create or replace table measured as select {selected} from stored s "
        "left join latest l using (pair_id)",
        **{f"g{number}": list(group.values) for number, group in enumerate(groups)},
    )
    (num_pairs,) = database.first("select count(*) from measured")
    return Archive(measures, tuple(carried), groups, num_pairs)
