"""What a run will do: the pair index minus what the ledger holds under the present fingerprint.

The fingerprint covers everything that changes pixels, metrics or which pairs are rejected, and
nothing else: not actors, not batch sizes. Made before Ray starts, so a finished archive costs
seconds.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from cluster.archive.pair_index import SOURCE
from cluster.fusing.config import FuseConfig
from cluster.storage import fused_store, urls
from cluster.storage.tables import Database
from dmnet_core.checkpoint import Checkpoint

FORMAT_VERSION = 4
"""Raise it when the stored arrays or the metrics change for the same input."""
SEED = 0
"""Seed of DM's noise."""
RETRIED = ("missing_file", "failed")
"""Reasons that may pass without any change of the source: a later run tries these pairs again."""


@dataclass(frozen=True)
class Fingerprint:
    """All that decides a fused pixel or a metric, apart from the sources."""

    fields: dict[str, Any]
    """Each setting by name."""
    digest: str
    """SHA-256 of the fields, hexadecimal."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much there is, how much is done and how much is left; the pairs themselves are in tables.

    `make_plan` leaves these tables in its database, beside `pairs`, `unmatched`, `ledger` and `latest`:

        current     pairs of the index that are done: __row, pair_id, status, reason, recorded_at,
                    written_bytes
        todo        pairs that the run fuses: __row
        surveyed    those of them that are scenes whose survey holds: __row
        to_compare  those of them whose files have other etags than when they were fused, and the same
                    sizes, as after a copy: __row, pair_id, recorded_at
        gone        rows of `latest` of pairs that have left the index and may have pixels
        to_revoke   rows of `latest` that stop being true once the run begins
    """

    num_pairs: int
    """Pairs of the index that the run is about, at most --limit."""
    num_beyond: int
    """Pairs of the index that --limit leaves out."""
    num_unmatched: int
    """Names that make no pair."""
    num_todo: int
    """Pairs that the run fuses."""
    num_surveyed: int
    """Pairs among them that are scenes of which only windows are left."""
    num_to_compare: int
    """Pairs among them whose bytes may be those that they were fused from."""
    read_bytes: int
    """Size of the sources to read, as far as the index knows it, in bytes."""
    num_unknown_sizes: int
    """Files to read whose size the index does not know."""
    write_bytes: int
    """Estimated size of what the run writes, in bytes: as the pairs fused before, else as the visible
    sources."""
    num_gone: int
    """Pairs that have left the index and may have pixels; these are kept unless they are pruned."""
    num_gone_otherwise: int
    """Pairs that have left the index and were fused with other settings than the present ones."""
    num_gone_torn: int
    """Pairs that have left the index and whose pixels a run was replacing or removing when it died."""

    @property
    def num_index(self) -> int:
        """All names of the index: its pairs, and the names that make no pair."""
        return self.num_pairs + self.num_beyond + self.num_unmatched

    @property
    def num_done(self) -> int:
        """Pairs of the run that need nothing."""
        return self.num_pairs - self.num_todo


def make_fingerprint(checkpoint: Checkpoint, config: FuseConfig) -> Fingerprint:
    """Return the fingerprint of a run."""
    fields = {
        "format_version": FORMAT_VERSION,
        "weights": checkpoint.digest,
        "network": checkpoint.model.config.to_dict(),
        "precision": config.precision,
        "ir_range": config.ir_range,
        "vis_range": config.vis_range,
        "colour": config.colour,
        "temperatures": config.temperatures,
        "resample": config.resample,
        "dtype": config.output_dtype,
        "max_pixels": config.max_pixels,
        "window": config.window,
        "seed": SEED,
    }
    text = json.dumps(fields, sort_keys=True)
    # Through JSON, so that they compare equal to what a store gives back.
    return Fingerprint(json.loads(text), hashlib.sha256(text.encode()).hexdigest())


def check_fingerprint(
    database: Database, stored: dict[str, Any] | None, present: Fingerprint, output_url: str
) -> None:
    """Raise ValueError where the output was made under another fingerprint, naming the fields.

    Args:
        database: holds the table `latest` of the ledger.
        stored: the store's root attributes, None where there is no store.
        present: fingerprint of the present run.
        output_url: URL of the output, named in the message.
    """
    before = (stored or {}).get("fingerprint")
    if before is None:
        (others,) = database.first(
            "select count(*) from latest where fingerprint != $digest", digest=present.digest
        )
        if not others:
            return
        differing = "an unknown setting (the store's attributes are gone)"
    else:
        names = sorted(set(before) | set(present.fields))
        differing = "; ".join(
            f"{name} was {_short(before.get(name))} and is {_short(present.fields.get(name))}"
            for name in names
            if before.get(name) != present.fields.get(name)
        )
        if not differing:
            return
    raise ValueError(
        f"output {urls.redact_url(output_url)!r} was made with other settings: {differing}. "
        "Give the settings it was made with, or another --output, or --reprocess to fuse it all again"
    )


def mark_lost(database: Database, store_url: str) -> tuple[int, int]:
    """Give the status `lost` to fused rows of `latest` whose pixels are not complete in the store.

    A pair is complete where the store has its metadata and a chunk for each of its windows, of which
    `latest` knows the number (column num_windows).

    Returns:
        How many pairs are complete in the store, and how many are lost.
    """
    database.add_rows(
        "objects", {"zarr_path": "str", "part": "str"}, fused_store.find_objects(store_url)
    )
    # Of a scene that is in no row of the ledger, nobody knows how many chunks it has.
    database.run(
        "create or replace table complete as select zarr_path from objects "
        "left join (select zarr_path, max(num_windows) as num_windows from latest group by zarr_path) "
        "using (zarr_path) group by zarr_path having bool_or(part = 'array') and bool_or(part = 'group') "
        "and count(distinct part) - 2 >= greatest(coalesce(any_value(num_windows), 1), 1)"
    )
    database.run("drop table objects")
    database.run(
        "update latest set status = 'lost' "
        "where status = 'fused' and zarr_path not in (select zarr_path from complete)"
    )
    return (
        int(database.first("select count(*) from complete")[0]),
        int(database.first("select count(*) from latest where status = 'lost'")[0]),
    )


def make_plan(
    database: Database, digest: str, limit: int | None, *, retry_rejected: bool = False
) -> Plan:
    """Subtract the ledger from the index, and leave the tables that `Plan` describes.

    Args:
        database: holds the tables that `open_index` and `Ledger.load` make.
        digest: digest of the present fingerprint.
        limit: only the first this many pairs are part of the run.
        retry_rejected: whether pairs that were rejected are tried again, whatever the reason.
    """
    source = ", ".join(SOURCE)
    same = " and ".join(f"p.{name} = l.{name}" for name in SOURCE if not name.endswith("etag"))
    again = "status = 'rejected'" if retry_rejected else f"reason in {RETRIED}"
    database.run(
        "create or replace table current as "
        "select __row, l.pair_id, l.status, l.reason, l.recorded_at, l.written_bytes "
        f"from pairs join latest l using ({source}) "
        "where l.status in ('fused', 'rejected') and l.fingerprint = $digest",
        digest=digest,
    )
    database.run(
        "create or replace table todo as select __row from pairs "
        f"anti join (from current where not ({again})) using (__row) where __row < $limit",
        limit=2**62 if limit is None else limit,
    )
    database.run(
        "create or replace table surveyed as select __row from pairs p semi join todo using (__row) "
        f"semi join (from latest where status = 'surveyed' and fingerprint = $digest) using ({source})",
        digest=digest,
    )
    database.run(
        "create or replace table to_compare as select __row, l.pair_id, l.recorded_at "
        "from pairs p join latest l using (pair_id) semi join todo using (__row) "
        f"where l.status = 'fused' and l.fingerprint = $digest and {same} "
        "and p.ir_size >= 0 and p.vis_size >= 0",
        digest=digest,
    )
    database.run(
        "create or replace table gone as from latest anti join pairs using (pair_id) "
        "where status in ('fused', 'surveyed', 'lost', 'replacing', 'pruning')"
    )
    # A pair of RETRIED has no pixels, so nothing of it can come to be trusted again.
    database.run(
        "create or replace table to_revoke as from latest where status = 'lost' "
        "or (status in ('fused', 'surveyed', 'rejected') and pair_id in (select pair_id from pairs "
        "semi join todo using (__row) anti join surveyed using (__row)) "
        f"and pair_id not in (select pair_id from current where reason in {RETRIED}))"
    )
    return _counted(database, digest, limit)


def _counted(database: Database, digest: str, limit: int | None) -> Plan:
    num_all, num_unmatched = database.first(
        "select (select count(*) from pairs), (select count(*) from unmatched)"
    )
    num_todo, read_bytes, vis_bytes, num_unknown = database.first(
        "select count(*), coalesce(sum(greatest(ir_size, 0) + greatest(vis_size, 0)), 0), "
        "coalesce(sum(greatest(vis_size, 0)), 0), "
        "coalesce(sum((ir_size < 0)::int + (vis_size < 0)::int), 0) from todo join pairs using (__row)"
    )
    (mean_written,) = database.first("select avg(written_bytes) from current where status = 'fused'")
    num_gone, num_otherwise, num_torn = database.first(
        "select count(*), count(*) filter (fingerprint != $digest), count(*) filter (status != 'fused') "
        "from gone",
        digest=digest,
    )
    num_pairs = num_all if limit is None else min(limit, num_all)
    return Plan(
        num_pairs=num_pairs,
        num_beyond=num_all - num_pairs,
        num_unmatched=num_unmatched,
        num_todo=num_todo,
        num_surveyed=database.first("select count(*) from surveyed")[0],
        num_to_compare=database.first("select count(*) from to_compare")[0],
        read_bytes=int(read_bytes),
        num_unknown_sizes=int(num_unknown),
        write_bytes=int(vis_bytes if mean_written is None else mean_written * num_todo),
        num_gone=num_gone,
        num_gone_otherwise=num_otherwise,
        num_gone_torn=num_torn,
    )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 24 else f"{text[:20]}..."
