"""How many pairs were fused and rejected, and whether a run counts as a success."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from cluster.fusing.plan import Plan
from cluster.storage.tables import Database
from cluster.text.plain_text import printable


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How a run ended, or how things stand before one."""

    num_pairs: int
    """Pairs of the index, or of its partition, names without a partner included."""
    num_fused: int
    """How many of `num_pairs` are fused, by this run or before."""
    num_rejected: int
    """How many of `num_pairs` are rejected, by this run or before."""
    num_left: int = 0
    """How many of `num_pairs` are neither, since --limit leaves them out."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Number of rejected pairs by reason."""
    problem: str = ""
    """Why the job must not count as a success; empty where it may."""


def summarise(database: Database, plan: Plan) -> Summary:
    """Count what the ledger and the unmatched names say about the pairs of the index."""
    rejected = database.frame(
        "select reason, count(*) as number from (select reason from current where status = 'rejected' "
        "union all select reason from unmatched) group by reason order by reason"
    )
    reasons = dict(zip(rejected["reason"], map(int, rejected["number"]), strict=True))
    num_fused, num_beyond = database.first(
        "select count(*) filter (status = 'fused'), count(*) filter (__row >= $limit) from current",
        limit=plan.num_pairs,
    )
    return Summary(
        num_pairs=plan.num_index,
        num_fused=num_fused,
        num_rejected=sum(reasons.values()),
        num_left=plan.num_beyond - num_beyond,
        reasons=reasons,
    )


def judge(database: Database, summary: Summary, plan: Plan, max_rejected: float) -> Summary:
    """Return the summary of a finished run with its problem, where it has one."""
    problem = ""
    num_settled = summary.num_pairs - summary.num_left
    if num_settled - summary.num_fused - summary.num_rejected:
        num_left, example = database.first(
            "select count(*), arg_min(pair_id, __row) from pairs anti join current using (__row) "
            "where __row < $limit",
            limit=plan.num_pairs,
        )
        problem = (
            f"{num_left} pairs are neither fused nor rejected, for example {example!r}: run the job again"
        )
    elif summary.num_rejected and not summary.num_fused:
        reasons = ", ".join(f"{number} {printable(name)}" for name, number in summary.reasons.items())
        problem = (
            f"all {summary.num_rejected} pairs were rejected ({reasons}), expected at least one to be "
            "fused: rejected.parquet in the output says why for each"
        )
    elif summary.num_rejected > max_rejected * num_settled:
        share = summary.num_rejected / num_settled
        problem = f"{share:.2%} of the pairs were rejected, expected at most {max_rejected:.2%}"
    return replace(summary, problem=problem)
