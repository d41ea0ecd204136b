"""What a report says first: counts, rejected pairs by reason, and the runs."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from cluster.archive.reasons import REASONS
from cluster.storage import objects, urls
from cluster.storage.tables import Database

NUM_EXAMPLES = 5
"""Rejected pairs that are named of each reason."""
NUM_RUNS = 200
"""Number of the latest runs that are shown."""
MAX_LETTERS = 300
"""Longest detail of a rejected pair that is shown, in letters."""
RUN_ID = re.compile(r"(\d{8}T\d{6}Z)-[0-9a-f]+")

Row = dict[str, Any]


def count_pairs(database: Database, records: list[Row]) -> Row:
    """Return the numbers of pairs, pixels and valid pixels of an archive.

    Args:
        database: holds what `open_archive` makes.
        records: the records of the runs, the latest last.
    """
    has_valid = "valid_share" in database.columns("from measured")
    share = "sum(valid_share * pixels) / sum(pixels)" if has_valid else "null"
    num_fused, pixels, valid_share = database.first(
        f"select count(*), coalesce(sum(pixels), 0)::double, {share} from measured"
    )
    (num_rejected,) = database.first("select count(*) from rejected")
    left = [record["counts"]["num_left"] for record in records if record["exit_reason"] == "finished"]
    return {
        "fused": num_fused,
        "rejected": num_rejected,
        "left": left[-1] if left else 0,
        "megapixels": pixels / 1e6,
        "valid_share": valid_share,
    }


def count_reasons(database: Database) -> list[Row]:
    """Return each reason with its meaning, the number of its pairs and a few of them, most first."""
    rows = database.frame(
        "select reason, count(*) as number, "
        f"min({{'pair_id': pair_id, 'detail': left(detail, {MAX_LETTERS})}}, {NUM_EXAMPLES}) as examples "
        "from rejected group by reason order by number desc, reason"
    )
    return [
        {
            "reason": row["reason"],
            "meaning": REASONS.get(row["reason"], ""),
            "number": int(row["number"]),
            "examples": [(found["pair_id"], found["detail"] or "") for found in row["examples"]],
        }
        for _, row in rows.iterrows()
    ]


def read_records(output_url: str) -> list[Row]:
    """Return the records of the latest runs, the latest last; what is no record is left out."""
    found = sorted(
        file.path
        for file in objects.find_files(urls.join_url(output_url, "runs"))
        if RUN_ID.fullmatch(file.path.removesuffix(".json")) and file.path.endswith(".json")
    )[-NUM_RUNS:]
    with ThreadPoolExecutor(objects.NUM_THREADS) as pool:
        records = pool.map(_read_record, (urls.join_url(output_url, "runs", path) for path in found))
        return [record for record in records if record is not None]


def describe_runs(records: list[Row]) -> list[Row]:
    """Return when each run began, how long it took, what it did and how it ended."""
    runs = []
    for record in records:
        did = record.get("did", {})
        seconds = float(record["seconds"])
        fused = did.get("fused")
        runs.append(
            {
                "run_id": record["run_id"],
                "began": _began(record["run_id"]),
                "seconds": seconds,
                "exit_reason": str(record["exit_reason"]),
                "fused": fused,
                "rejected": did.get("rejected"),
                "megapixels": did.get("megapixels"),
                "rate": None if fused is None else 60 * fused / max(seconds, 1e-3),
            }
        )
    return runs


def _began(run_id: str) -> float:
    """Return when a run began, in milliseconds since 1970, as its name says."""
    found = RUN_ID.fullmatch(run_id)
    assert found, run_id
    return 1e3 * datetime.strptime(found[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _read_record(url: str) -> Row | None:
    try:
        record: Row = json.loads(objects.read_bytes(url))
        whole = {"run_id", "seconds", "exit_reason", "counts", "config"} <= record.keys()
        _began(record["run_id"])
        float(record["seconds"]), record["counts"]["num_left"]
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, FileNotFoundError):
        return None
    return record if whole else None
