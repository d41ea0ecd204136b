"""What a run tells people: the plan, one progress line, the closing table."""

from __future__ import annotations

import sys
import time
from typing import Any

from cluster.fusing.estimate import Estimate
from cluster.fusing.plan import Plan
from cluster.fusing.summary import Summary
from cluster.storage import urls
from cluster.text import units
from cluster.text.plain_text import printable
from cluster.text.run_log import RunLog

SECONDS_PER_LINE = 30.0
SECONDS_PER_REDRAW = 0.5


class Progress:
    """One short line: redrawn in place on a terminal, else a new one every 30 seconds."""

    def __init__(self, total: int, what: str, log: RunLog) -> None:
        self.total = total
        self.what = what
        self.log = log
        self.done = 0
        self.rejected = 0
        self.pixels = 0
        self.start = time.monotonic()
        self.last_line = self.start
        self.live = sys.stdout.isatty() and not log.as_json

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Count the ledger rows of windows that are finished."""
        self.done += len(rows)
        self.rejected += sum(row["status"] == "rejected" for row in rows)
        self.pixels += sum(row["height"] * row["width"] for row in rows if row["status"] != "surveyed")
        now = time.monotonic()
        if now - self.last_line >= (SECONDS_PER_REDRAW if self.live else SECONDS_PER_LINE):
            self.last_line = now
            self._say(end="")

    def line(self) -> str:
        """Return the line as it is now."""
        rate = self.done / max(time.monotonic() - self.start, 1e-6)
        left = units.duration((self.total - self.done) / rate) if rate > 0 else "?"
        return (
            f"{self.done}/{self.total} {self.what}  {self.pixels / 1e6:.1f} megapixels  {rate:.2f}/s  "
            f"{left} left  {self.rejected} rejected"
        )

    def close(self) -> None:
        """End the line."""
        self._say(end="\n")

    def _say(self, end: str) -> None:
        if self.live:
            print(f"\r{self.line()}   ", end=end, flush=True)
            return
        counts = {
            "what": self.what, "done": self.done, "total": self.total, "rejected": self.rejected,
            "megapixels": round(self.pixels / 1e6, 1),
        }  # fmt: skip
        self.log.say("progress", self.line(), **counts)


def say_plan(
    log: RunLog,
    plan: Plan,
    *,
    prune: bool = False,
    memory: str = "",
    pictures: str = "",
    cost: Estimate | None = None,
) -> None:
    """Say what a run would do.

    Args:
        log: log of the run.
        plan: what there is to do.
        prune: whether the run removes what left the index.
        memory: what an actor will need, in words.
        pictures: how many files are palette pictures of radiometric files, in words.
        cost: what the pairs will cost; None where it was not estimated.
    """
    unknown = f" and {plan.num_unknown_sizes} files of unknown size" if plan.num_unknown_sizes else ""
    rows = {
        "pairs in index": plan.num_index,
        **({"beyond --limit": plan.num_beyond} if plan.num_beyond else {}),
        "without partner": plan.num_unmatched,
        "already done": plan.num_done,
        "pairs to fuse": plan.num_todo,
        "to read": units.size(plan.read_bytes) + unknown,
        "to write": f"about {units.size(plan.write_bytes)}",
    }
    if plan.num_surveyed:
        rows["begun"] = f"{plan.num_surveyed} of them are scenes, of which only windows are left"
    if cost:
        rows["windows"] = f"about {cost.num_windows}, {cost.megapixels:,.1f} megapixels"
        if cost.seconds:
            rows["time"] = f"about {units.duration(cost.seconds)}, on actors as fast as this machine"
    if plan.num_to_compare:
        rows["to compare"] = f"{plan.num_to_compare} of them, whose files may only have been copied"
    if memory:
        rows["memory"] = memory
    if pictures:
        rows["radiometric"] = f"{pictures} are palette pictures; --temperatures reads FLIR's temperatures"
    if plan.num_gone:
        others = f", {plan.num_gone_otherwise} of other settings" if plan.num_gone_otherwise else ""
        if plan.num_gone_torn:
            others += f", {plan.num_gone_torn} of a run that died may have pixels and have no metrics"
        kept = "results removed" if prune else f"results kept{others}; --prune removes them"
        rows["left the index"] = f"{plan.num_gone} ({kept})"
    log.say(
        "plan", units.table(rows), pairs=plan.num_index, beyond_limit=plan.num_beyond,
        without_partner=plan.num_unmatched, done=plan.num_done, to_fuse=plan.num_todo,
        read_bytes=plan.read_bytes, gone=plan.num_gone,
    )  # fmt: skip


def say_summary(
    log: RunLog, summary: Summary, means: dict[str, float], written: dict[str, str], seconds: float
) -> None:
    """Say how a run ended, the mean of each metric, and where the results are."""
    left = f" + {summary.num_left} left by --limit" if summary.num_left else ""
    counts = f"{summary.num_pairs} = {summary.num_fused} fused + {summary.num_rejected} rejected{left}"
    rows: dict[str, Any] = {"pairs": counts}
    rows |= {f"  {printable(reason)}": count for reason, count in summary.reasons.items()}
    if means:
        rows["means"] = "  ".join(f"{name} {mean:.3g}" for name, mean in means.items())
    rows["time"] = units.duration(seconds)
    rows |= {name: printable(urls.redact_url(url)) for name, url in written.items()}
    log.say(
        "finished", units.table(rows), pairs=summary.num_pairs, fused=summary.num_fused,
        rejected=summary.num_rejected, left=summary.num_left, reasons=summary.reasons,
        problem=summary.problem, seconds=round(seconds, 3),
    )  # fmt: skip
