"""How many pairs were fused and rejected, and whether a run counts as a success."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cluster.archive.pair_index import PairIndex
from cluster.fusing.plan import Plan

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How a run ended, or how things stand before one."""

    num_pairs: int
    """In the run, those without partner included."""
    num_fused: int
    """Of these, fused now or before."""
    num_rejected: int
    """Of these, rejected now or before."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Rejected pairs by reason."""
    problem: str = ""
    """Why the job must not count as a success; empty where it may."""


def summarise(plan: Plan, unmatched: list[Row]) -> Summary:
    """Count what the ledger and the unmatched names say about the pairs of a run."""
    current = plan.current[plan.current["position"] < len(plan.pairs)]
    refused = current[current["status"] == "rejected"]
    reasons = Counter(refused["reason"]) + Counter(row["reason"] for row in unmatched)
    return Summary(
        num_pairs=len(plan.pairs) + len(unmatched),
        num_fused=int((current["status"] == "fused").sum()),
        num_rejected=len(refused) + len(unmatched),
        reasons=dict(sorted(reasons.items())),
    )


def judge(summary: Summary, index: PairIndex, plan: Plan, max_rejected: float) -> Summary:
    """Return the summary of a finished run with its problem, where it has one."""
    num_left = summary.num_pairs - summary.num_fused - summary.num_rejected
    if num_left:
        lost = np.setdiff1d(plan.pairs["position"], plan.current["position"])
        example = f", for example {index.at(lost[:1])['pair_id'][0]!r}" if len(lost) else ""
        problem = f"{num_left} pairs are neither fused nor rejected{example}: run the job again"
    elif summary.num_rejected > max_rejected * summary.num_pairs:
        share = summary.num_rejected / summary.num_pairs
        problem = f"{share:.2%} of the pairs were rejected, expected at most {max_rejected:.2%}"
    else:
        problem = ""
    return replace(summary, problem=problem)
