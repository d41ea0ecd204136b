"""Before the steps: whether the bytes of a pair are those that it was fused from. No Ray here."""

from __future__ import annotations

from cluster.archive.sources.source import digest_of
from cluster.fusing.steps.rows import Row
from cluster.storage import objects


def compare_bytes(row: Row) -> Row:
    """Say whether both files of a pair have the digests that the ledger holds of them.

    In:  pair_id, ir_url, vis_url, ir_digest, vis_digest (str).
    Out: pair_id, and same (bool); false also where a file cannot be read, which fusing then finds out,
         and where the ledger holds no digest, as of a file that was read by windows.
    """
    try:
        same = bool(row["ir_digest"] and row["vis_digest"]) and all(
            digest_of(objects.read_bytes(row[f"{side}_url"])) == row[f"{side}_digest"]
            for side in ("ir", "vis")
        )
    except (OSError, ValueError):
        same = False
    return {"pair_id": row["pair_id"], "same": same}
