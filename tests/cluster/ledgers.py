"""Small indexes and ledgers for tests of what a run plans and leaves."""

import itertools

import pandas as pd

from cluster.fusing.ledger import COLUMNS, Ledger
from cluster.storage import tables

NOTHING = {"int64": 0, "float64": 0.5, "str": ""}


def index_rows(*names, etag="1", carried=None, **columns):
    """Return rows of an index; `columns` and `carried` are further columns."""
    rows = pd.DataFrame({"pair_id": pd.Series(names, dtype="str"), "ir_url": "i", "vis_url": "v"})
    rows = rows.assign(ir_size=10, ir_etag=etag, vis_size=20, vis_etag="1")
    rows = rows.assign(ir_bands="", vis_bands="", ir_to_vis="")
    for name, values in (columns | (carried or {})).items():
        rows[name] = values
    return rows


def ledger_row(name, status="fused", reason="", **changed):
    row = {column: NOTHING[kind] for column, kind in COLUMNS.items()}
    row |= {"pair_id": name, "status": status, "reason": reason, "fingerprint": "F"}
    row |= {"ir_size": 10, "ir_etag": "1", "vis_size": 20, "vis_etag": "1", "written_bytes": 7}
    return row | changed


class Bench:
    """A database with an index and a ledger in it, made of rows."""

    def __init__(self, database, folder):
        self.database = database
        self.folder = folder
        self.numbers = itertools.count()

    def put_index(self, *names, **columns):
        rows = index_rows(*names, **columns)
        rows.insert(0, "__row", range(len(rows)))
        self.database.add("pairs", rows)
        nobody = dict.fromkeys(("pair_id", "reason", "detail", "ir_url", "vis_url"), "str")
        self.database.add("unmatched", tables.as_table([], nobody))

    def put_ledger(self, *rows):
        """Write rows as a run leaves them, in several parts, and load them."""
        url = f"{self.folder}/ledger-{next(self.numbers)}"
        size = max(2, len(rows) // 5)
        for start in range(0, len(rows), size):
            part = list(rows[start : start + size])
            tables.write_rows(f"{url}/part-{start:06d}.parquet", part, COLUMNS)
        ledger = Ledger(url, "run")
        ledger.load(self.database, None)
        return ledger

    def names(self, table):
        order = "__row" if "__row" in self.database.columns(f"from {table}") else "pair_id"
        joined = "" if table in ("latest", "gone", "to_revoke") else " join pairs using (__row)"
        found = self.database.frame(f"select pair_id from {table}{joined} order by {order}")
        return list(found["pair_id"])
