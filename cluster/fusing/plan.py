"""What a run will do: the pair index minus what the ledger holds under the present fingerprint.

A plan holds places in the index and entries of the ledger, not their rows: some hundred bytes a pair.

The fingerprint covers everything that changes pixels, metrics or which pairs are rejected, and
nothing else: not actors, not batch sizes. Made before Ray starts, so a finished archive costs
seconds.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cluster.fusing.config import FuseConfig
from cluster.storage import urls
from dmnet_core.checkpoint import Checkpoint

FORMAT_VERSION = 2
"""Raise it when the stored arrays or the metrics change for the same input."""
SEED = 0
"""Of DM's noise."""
TORN = ("pruning", "replacing")
"""Statuses of ledger rows whose pixels a run was about to remove, or to put others in their place."""
LOST = "lost"
"""Status, in no ledger, of a row whose pixels are not in the store."""
RETRIED = ("missing_file", "failed")
"""Reasons that may pass without any change of the source: a later run tries these pairs again."""


@dataclass(frozen=True)
class Fingerprint:
    """All that decides a fused pixel or a metric, apart from the sources."""

    fields: dict[str, Any]
    """Each setting by name."""
    digest: str
    """SHA-256 of the fields, hexadecimal."""


@dataclass(frozen=True)
class Plan:
    """What there is, what is done and what is left."""

    pairs: pd.DataFrame
    """The keys of the run's pairs, see `PairIndex.keys`; sizes unknown are -1."""
    current: pd.DataFrame
    """Ledger entries that hold for the whole index now, in its order; `position` is the row in it."""
    todo: pd.DataFrame
    """The rows of `pairs` that the run fuses."""
    gone: pd.DataFrame
    """Ledger entries of pairs that were fused and have left the index; they are kept unless pruned. Those
    whose status is not `fused` are what a run that died left of them: in no table, but maybe pixels."""
    num_gone_otherwise: int
    """Of those, made with other settings than the present ones."""
    changed: pd.DataFrame
    """Ledger entries that a run may come to trust again, whatever pixels it finds then: those LOST, and
    those of pairs in `todo`, where sources or settings change back, or the pair leaves the index."""

    @property
    def num_done(self) -> int:
        """Pairs of the run that need nothing."""
        return len(self.pairs) - len(self.todo)

    @property
    def read_bytes(self) -> int:
        """Size of the sources to read, as far as the index knows it."""
        return int(self.todo[["ir_size", "vis_size"]].clip(lower=0).to_numpy().sum())

    @property
    def write_bytes(self) -> int:
        """Estimate: as the pairs fused before, else as large as the visible sources."""
        fused = self.current[self.current["status"] == "fused"]
        if len(fused):
            return int(fused["written_bytes"].mean() * len(self.todo))
        return int(self.todo["vis_size"].clip(lower=0).sum())


def make_fingerprint(checkpoint: Checkpoint, config: FuseConfig) -> Fingerprint:
    """Return the fingerprint of a run."""
    fields = {
        "format_version": FORMAT_VERSION,
        "weights": checkpoint.digest,
        "network": checkpoint.model.config.to_dict(),
        "precision": config.precision,
        "range": config.range_policy,
        "dtype": config.output_dtype,
        "max_pixels": config.max_pixels,
        "seed": SEED,
    }
    text = json.dumps(fields, sort_keys=True)
    # Through JSON, so that they compare equal to what a store gives back.
    return Fingerprint(json.loads(text), hashlib.sha256(text.encode()).hexdigest())


def check_fingerprint(
    stored: dict[str, Any] | None, entries: pd.DataFrame, present: Fingerprint, output_url: str
) -> None:
    """Raise ValueError where the output was made under another fingerprint, naming the fields.

    Args:
        stored: the store's root attributes, None where there is no store.
        entries: of the output's ledger.
        present: of this run.
        output_url: for the message.
    """
    if not _is_of_another(stored, entries, present):
        return
    before = (stored or {}).get("fingerprint")
    if before is None:
        differing = "an unknown setting (the store's attributes are gone)"
    else:
        names = sorted(set(before) | set(present.fields))
        differing = "; ".join(
            f"{name} was {_short(before.get(name))} and is {_short(present.fields.get(name))}"
            for name in names
            if before.get(name) != present.fields.get(name)
        )
    raise ValueError(
        f"output {urls.redact_url(output_url)!r} was made with other settings: {differing}. "
        "Give the settings it was made with, or another --output, or --reprocess to fuse it all again"
    )


def valid_since(stored: dict[str, Any] | None, entries: pd.DataFrame, present: Fingerprint) -> float:
    """Return the time up to which no ledger row holds for pixels of the present fingerprint.

    Where an output turns to another fingerprint, pixels may be overwritten of which no row says so, if
    the run dies: so whoever turns it back must not trust the rows from before.

    Args:
        stored: the store's root attributes, None where there is no store.
        entries: of the output's whole ledger.
        present: of this run.
    """
    if _is_of_another(stored, entries, present):
        return max(time.time(), float(entries["recorded_at"].to_numpy().max(initial=0.0)))
    return float((stored or {}).get("ledger_since", 0.0))


def make_plan(
    pairs: pd.DataFrame,
    entries: pd.DataFrame,
    digest: str,
    limit: int | None,
    *,
    retry_rejected: bool = False,
    since: float = 0.0,
) -> Plan:
    """Subtract the ledger from the index.

    Args:
        pairs: the keys of `PairIndex`.
        entries: of `Ledger`.
        digest: of the present fingerprint.
        limit: only the first this many pairs are part of the run.
        retry_rejected: whether pairs that were rejected are tried again, whatever the reason.
        since: rows recorded up to then don't hold: see `valid_since`.
    """
    first = entries[entries["window"] == 0]
    is_done = first["status"].isin(["fused", "rejected"])
    valid = first[is_done & (first["fingerprint"] == digest) & (first["recorded_at"] > since)]
    place = pd.Index(pairs["source"]).get_indexer(pd.Index(valid["source"]))
    holds = np.zeros(len(valid), dtype=bool)
    found = place >= 0
    holds[found] = pairs["pair"].to_numpy()[place[found]] == valid["pair"].to_numpy()[found]
    current = valid[holds].assign(position=place[holds]).sort_values("position", ignore_index=True)
    again = current["status"] == "rejected" if retry_rejected else current["reason"].isin(RETRIED)
    finished = current.loc[~again, "position"].to_numpy()
    open_rows = np.ones(len(pairs), dtype=bool)
    open_rows[finished] = False
    num_pairs = len(pairs) if limit is None else min(limit, len(pairs))
    stored = first[first["status"].isin(["fused", LOST, *TORN])]
    gone = stored[~stored["pair"].isin(pairs["pair"])].reset_index(drop=True)
    todo = pairs.iloc[:num_pairs][open_rows[:num_pairs]]
    retried = current.loc[current["reason"].isin(RETRIED), "pair"]
    may_hold = first["pair"].isin(todo["pair"]) & ~first["pair"].isin(retried)
    return Plan(
        pairs=pairs.iloc[:num_pairs],
        current=current,
        todo=todo,
        gone=gone,
        num_gone_otherwise=int((gone["fingerprint"] != digest).sum()),
        changed=first[(is_done & may_hold) | (first["status"] == LOST)],
    )


def _is_of_another(stored: dict[str, Any] | None, entries: pd.DataFrame, present: Fingerprint) -> bool:
    """Return whether the store, or where it says nothing the ledger, has another fingerprint."""
    before = (stored or {}).get("fingerprint")
    if before is None:
        return bool(set(entries["fingerprint"]) - {present.digest})
    return bool(before != present.fields)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 24 else f"{text[:20]}..."
