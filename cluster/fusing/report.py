"""What a run tells people: the plan and the closing table."""

from __future__ import annotations

from typing import Any

from cluster.fusing.estimate import Estimate
from cluster.fusing.plan import Plan
from cluster.fusing.summary import Summary
from cluster.storage import urls
from cluster.text import units
from cluster.text.plain_text import printable
from cluster.text.run_log import RunLog


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
