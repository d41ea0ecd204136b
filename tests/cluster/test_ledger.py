"""The ledger: parts on a store, and the latest row of each window."""

import time

import pyarrow.parquet
import pytest

from cluster.fusing.ledger import COLUMNS, ROWS_PER_PART, Ledger
from cluster.storage import tables
from cluster.storage.tables import Database
from tests.cluster.ledgers import ledger_row


@pytest.fixture
def database():
    with Database() as opened:
        yield opened


def latest(database, url):
    """Return the status of each pair as a new run finds it."""
    Ledger(url, "reader").load(database, None)
    frame = database.frame("select pair_id, status from latest order by pair_id")
    return dict(zip(frame["pair_id"], frame["status"], strict=True))


def test_a_ledger_comes_back_with_the_latest_row_of_each_window(database, tmp_path):
    url = str(tmp_path / "ledger")
    assert latest(database, url) == {}
    for status in ("rejected", "fused"):
        ledger = Ledger(url, f"run-{status}")
        ledger.append([ledger_row("a", status), ledger_row("b")])
        ledger.flush()
        ledger.flush()
    assert latest(database, url) == {"a": "fused", "b": "fused"}
    assert len(list((tmp_path / "ledger").iterdir())) == 2


def test_a_slow_run_leaves_few_parts_and_a_clock_behind_does_not_make_its_rows_older(
    database, tmp_path
):
    url = str(tmp_path / "ledger")
    early = Ledger(url, "run-1")
    early.latest = time.time() + 3600  # its machine's clock
    early.append([ledger_row("a", "rejected")])
    early.flush()
    late = Ledger(url, "run-2")
    late.load(database, None)
    late.append([ledger_row(f"b{number}") for number in range(ROWS_PER_PART - 3)])
    for number in range(6):  # each flushed into the same part, until that is full
        late.append([ledger_row("a" if number == 0 else f"c{number}")])
        late.flush()
    late.append([ledger_row("lost")])
    late.forget()
    late.flush()
    assert late.lag_s == 0
    found = latest(database, url)
    assert len(found) == ROWS_PER_PART + 3 and set(found.values()) == {"fused"}
    assert len(list((tmp_path / "ledger").iterdir())) == 3


def test_rows_of_one_run_follow_each_other_though_its_clock_steps_back(
    database, tmp_path, monkeypatch
):
    ledger = Ledger(str(tmp_path), "run")
    for seconds, status in ((100.0, "replacing"), (95.0, "fused")):
        monkeypatch.setattr(time, "time", lambda seconds=seconds: seconds)
        ledger.append([ledger_row("a", status)])
    ledger.flush()
    assert latest(database, str(tmp_path)) == {"a": "fused"}


def test_a_mark_is_one_part_between_the_rows_before_and_after_it(database, tmp_path):
    ledger = Ledger(str(tmp_path), "run")
    ledger.append([ledger_row("a", zarr_path="a%"), ledger_row("b")])
    ledger.flush()
    ledger.load(database, None)
    database.run("create table marked as from latest where pair_id = 'a'")
    ledger.mark(database, "marked", "replacing")
    assert latest(database, str(tmp_path)) == {"a": "replacing", "b": "fused"}
    ledger.append([ledger_row("a")])
    ledger.flush()
    assert latest(database, str(tmp_path)) == {"a": "fused", "b": "fused"}
    first, mark, last = sorted(tmp_path.iterdir())
    (row,) = pyarrow.parquet.read_table(mark).to_pylist()
    assert (row["zarr_path"], row["run_id"], row["fingerprint"]) == ("a%", "run", "F")
    schemas = [pyarrow.parquet.read_schema(path) for path in (first, mark, last)]
    assert all(schema.names == list(COLUMNS) for schema in schemas)
    database.run("delete from marked")
    ledger.mark(database, "marked", "replacing")  # nothing to say
    assert len(list(tmp_path.iterdir())) == 3


def test_a_ledger_of_another_version_is_refused_before_anything_is_fused(database, tmp_path):
    columns = {name: kind for name, kind in COLUMNS.items() if name != "VIF"}
    tables.write_rows(f"{tmp_path}/part-0.parquet", [ledger_row("a")], columns)
    with pytest.raises(ValueError, match="no column VIF"):
        Ledger(str(tmp_path), "run").load(database, None)


def test_a_part_that_is_no_table_is_named(database, tmp_path):
    (tmp_path / "part-0.parquet").write_bytes(b"<html>")
    with pytest.raises(ValueError, match=f"{tmp_path}.*can't be read as Parquet"):
        Ledger(str(tmp_path), "run").load(database, None)
