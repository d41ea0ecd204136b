"""What a run tells people: the plan, one progress line, the closing table, the preview picture."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from cluster.fusing.plan import Plan
from cluster.fusing.summary import Summary
from cluster.storage import urls
from cluster.text import units
from cluster.text.plain_text import printable
from cluster.text.run_log import RunLog
from dmnet_core.metrics import METRICS

SECONDS_PER_LINE = 30.0
SECONDS_PER_REDRAW = 0.5
NUM_PREVIEW = 4


class MetricsSeen:
    """What people are shown of a metrics table that passes by: the means, and a few pairs."""

    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows
        self.places = np.unique(np.linspace(0, num_rows - 1, min(NUM_PREVIEW, num_rows)).astype(int))
        self.shown = pd.DataFrame()
        """The rows of a few pairs, far from each other."""
        self.sums = dict.fromkeys(METRICS, 0.0)
        self.counts = dict.fromkeys(METRICS, 0)

    def passing(self, frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        """Pass the table's `num_rows` rows on."""
        start = 0
        for frame in frames:
            for name in METRICS:
                values = frame[name].to_numpy(dtype=float)
                finite = values[np.isfinite(values)]
                self.sums[name] += float(finite.sum())
                self.counts[name] += len(finite)
            here = self.places[(self.places >= start) & (self.places < start + len(frame))]
            self.shown = pd.concat([self.shown, frame.iloc[here - start]])
            start += len(frame)
            yield frame

    def means(self) -> str:
        """Return the metrics' means over all pairs where they are finite, in one line."""
        return "  ".join(
            f"{name} {self.sums[name] / count:.3g}" for name, count in self.counts.items() if count
        )


class Progress:
    """One short line: redrawn in place on a terminal, else a new one every 30 seconds."""

    def __init__(self, total: int, log: RunLog) -> None:
        self.total = total
        self.log = log
        self.done = 0
        self.rejected = 0
        self.start = time.monotonic()
        self.first: float | None = None
        self.last_line = self.start
        self.live = sys.stdout.isatty() and not log.as_json

    def add(self, done: int, rejected: int) -> None:
        """Count windows that are finished, of which `rejected` were not fused."""
        self.done += done
        self.rejected += rejected
        now = time.monotonic()
        if now - self.last_line >= (SECONDS_PER_REDRAW if self.live else SECONDS_PER_LINE):
            self.last_line = now
            self._say(end="")

    def line(self) -> str:
        """Return the line as it is now."""
        rate = self.done / max(time.monotonic() - self.start, 1e-6)
        left = units.duration((self.total - self.done) / rate) if rate > 0 else "?"
        return (
            f"{self.done}/{self.total} pairs  {rate:.2f} pairs/s  {left} left  "
            f"{self.rejected} rejected"
        )

    def close(self) -> None:
        """End the line."""
        self._say(end="\n")

    def _say(self, end: str) -> None:
        if self.live:
            print(f"\r{self.line()}   ", end=end, flush=True)
            return
        counts = {"done": self.done, "total": self.total, "rejected": self.rejected}
        self.log.say("progress", self.line(), **counts)


def say_plan(
    log: RunLog, plan: Plan, num_unmatched: int, *, prune: bool = False, memory: str = ""
) -> None:
    """Say what a run would do; `memory` is what an actor will need, in words."""
    unknown = int((plan.todo[["ir_size", "vis_size"]] < 0).to_numpy().sum())
    rows = {
        "pairs in index": len(plan.pairs) + num_unmatched,
        "without partner": num_unmatched,
        "already done": plan.num_done,
        "pairs to fuse": len(plan.todo),
        "windows": len(plan.todo),
        "to read": units.size(plan.read_bytes)
        + (f" and {unknown} files of unknown size" if unknown else ""),
        "to write": f"about {units.size(plan.write_bytes)}",
    }
    if memory:
        rows["memory"] = memory
    if len(plan.gone):
        others = f", {plan.num_gone_otherwise} of other settings" if plan.num_gone_otherwise else ""
        if num_torn := int((plan.gone["status"] != "fused").sum()):
            others += f", {num_torn} of a run that died may have pixels and have no metrics"
        kept = "results removed" if prune else f"results kept{others}; --prune removes them"
        rows["left the index"] = f"{len(plan.gone)} ({kept})"
    log.say(
        "plan", units.table(rows), pairs=len(plan.pairs) + num_unmatched, without_partner=num_unmatched,
        done=plan.num_done, to_fuse=len(plan.todo), read_bytes=plan.read_bytes, gone=len(plan.gone),
    )  # fmt: skip


def say_summary(
    log: RunLog, summary: Summary, written: dict[str, str], seen: MetricsSeen, seconds: float
) -> None:
    """Say how a run ended and where its results are."""
    rows: dict[str, Any] = {
        "pairs": f"{summary.num_pairs} = {summary.num_fused} fused + {summary.num_rejected} rejected"
    }
    rows |= {f"  {printable(reason)}": count for reason, count in summary.reasons.items()}
    if seen.num_rows:
        rows["means"] = seen.means()
    rows["time"] = units.duration(seconds)
    rows |= {name: printable(urls.redact_url(url)) for name, url in written.items()}
    log.say(
        "finished", units.table(rows), pairs=summary.num_pairs, fused=summary.num_fused,
        rejected=summary.num_rejected, reasons=summary.reasons, problem=summary.problem,
        seconds=round(seconds, 3),
    )  # fmt: skip


