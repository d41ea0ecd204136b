"""What a run leaves out: the ledger under the present fingerprint and the present sources."""

import time

import pandas as pd
import pytest

from cluster import storage
from cluster.config import FuseConfig
from cluster.ledger import COLUMNS, ROWS_PER_PART, LedgerWriter, read_ledger
from cluster.plan import check_fingerprint, make_fingerprint, make_plan, valid_since
from cluster.results import Output, write_tables
from dmnet_core.checkpoint import load_checkpoint

NUMBERS = {"int64": 0, "float64": 0.5, "str": ""}


def index_of(*names, etag="1"):
    return pd.DataFrame(
        {
            "pair_id": names, "ir_url": "i", "vis_url": "v", "ir_size": 10, "ir_etag": etag,
            "vis_size": 20, "vis_etag": "1",
        }
    )  # fmt: skip


def ledger_row(name, status="fused", reason="", **changed):
    row = {column: NUMBERS[kind] for column, kind in COLUMNS.items()}
    row |= {"pair_id": name, "status": status, "reason": reason, "fingerprint": "F"}
    row |= {"ir_size": 10, "ir_etag": "1", "vis_size": 20, "vis_etag": "1", "written_bytes": 7}
    return row | changed


def ledger_of(*rows):
    return storage.typed_frame(list(rows), COLUMNS)


def todo(index, ledger, limit=None):
    return list(make_plan(index, ledger, "F", limit).todo["pair_id"])


def test_what_the_ledger_holds_is_left_out():
    ledger = ledger_of(ledger_row("b"), ledger_row("c", "rejected", "truncated"))
    plan = make_plan(index_of("a", "b", "c", "d"), ledger, "F", None)
    assert list(plan.todo["pair_id"]) == ["a", "d"]
    assert (plan.num_done, plan.read_bytes, plan.write_bytes) == (2, 60, 14)


def test_a_changed_source_another_fingerprint_and_a_lost_file_are_done_again():
    assert todo(index_of("a", etag="2"), ledger_of(ledger_row("a"))) == ["a"]
    assert todo(index_of("a"), ledger_of(ledger_row("a", fingerprint="G"))) == ["a"]
    assert todo(index_of("a"), ledger_of(ledger_row("a", "rejected", "missing_file"))) == ["a"]


def test_a_pair_that_a_run_was_replacing_is_done_again_whatever_its_source_is_now():
    plan = make_plan(index_of("a", "b", etag="2"), ledger_of(ledger_row("a")), "F", None)
    assert list(plan.changed["pair_id"]) == ["a"] and set(plan.changed["ir_etag"]) == {"1"}
    torn = ledger_of(ledger_row("a", "replacing"))
    assert todo(index_of("a"), torn) == todo(index_of("a", etag="2"), torn) == ["a"]
    assert not len(make_plan(index_of("a"), torn, "F", None).changed)
    assert list(make_plan(index_of("b"), torn, "F", None).gone["pair_id"]) == ["a"]
    refused = ledger_of(ledger_row("a", "rejected", "truncated"), ledger_row("b", fingerprint="G"))
    plan = make_plan(index_of("a", "b", etag="2"), refused, "F", None)
    assert list(plan.changed["pair_id"]) == ["a", "b"]
    asked = make_plan(index_of("a"), refused, "F", None, retry_rejected=True)
    assert list(asked.changed["pair_id"]) == ["a"]
    lost = make_plan(index_of("b"), ledger_of(ledger_row("a", "lost")), "F", None)
    assert list(lost.gone["pair_id"]) == ["a"] and list(lost.todo["pair_id"]) == ["b"]
    retried = ledger_of(ledger_row("a", "rejected", "missing_file"))
    assert not len(make_plan(index_of("a"), retried, "F", None).changed)
    limited = make_plan(index_of("b", "a", etag="2"), ledger_of(ledger_row("a")), "F", 1)
    assert not len(limited.changed)


def test_rejected_pairs_are_tried_again_only_where_asked():
    ledger = ledger_of(ledger_row("a"), ledger_row("b", "rejected", "crashed"))
    assert todo(index_of("a", "b"), ledger) == []
    plan = make_plan(index_of("a", "b"), ledger, "F", None, retry_rejected=True)
    assert list(plan.todo["pair_id"]) == ["b"]


def test_a_pair_that_left_the_index_is_kept_until_it_is_pruned_and_fused_anew_if_it_returns():
    rows = [ledger_row("a"), ledger_row("b", fingerprint="G"), ledger_row("c", "rejected", "empty")]
    plan = make_plan(index_of("a"), ledger_of(*rows), "F", None)
    assert (list(plan.gone["pair_id"]), plan.num_gone_otherwise, len(plan.todo)) == (["b"], 1, 0)
    pruned = ledger_of(ledger_row("a", "pruned"))
    assert not len(make_plan(index_of("b"), pruned, "F", None).gone)
    assert todo(index_of("a"), pruned) == ["a"]
    half = ledger_of(ledger_row("a", "pruning"))  # by a run that died: its pixels are still to go
    assert list(make_plan(index_of("b"), half, "F", None).gone["pair_id"]) == ["a"]
    assert todo(index_of("a"), half) == ["a"]


def test_the_limit_counts_pairs_of_the_index():
    assert todo(index_of("a", "b", "c"), ledger_of(ledger_row("a")), limit=2) == ["b"]


def test_an_index_that_knows_no_sizes_matches_its_own_ledger():
    index = index_of("a").assign(ir_size=None, ir_etag=None, vis_size=None, vis_etag=None)
    row = ledger_row("a", ir_size=-1, ir_etag="", vis_size=-1, vis_etag="")
    assert todo(index, ledger_of(row)) == []


def test_a_ledger_comes_back_with_the_latest_row_of_each_window(tmp_path):
    url = str(tmp_path / "ledger")
    assert len(read_ledger(url)) == 0
    for status in ("rejected", "fused"):
        writer = LedgerWriter(url, f"run-{status}")
        writer.append([ledger_row("a", status)])
        writer.flush()
        writer.flush()
    frame = read_ledger(url)
    assert list(frame["status"]) == ["fused"]
    assert len(list((tmp_path / "ledger").iterdir())) == 2


def test_a_slow_run_leaves_few_parts_and_a_clock_behind_does_not_make_its_rows_older(tmp_path):
    url = str(tmp_path / "ledger")
    early = LedgerWriter(url, "run-1")
    early.not_before = time.time() + 3600  # its machine's clock
    early.append([ledger_row("a", "rejected")])
    early.flush()
    late = LedgerWriter(url, "run-2")
    late.not_before = float(read_ledger(url)["recorded_at"].max())
    for number in range(ROWS_PER_PART + 5):
        late.append([ledger_row("a" if number == 0 else f"b{number}")])
        late.flush()
    late.append([ledger_row("lost")])
    late.forget()
    late.flush()
    assert late.lag_s == 0
    frame = read_ledger(url)
    assert len(frame) == ROWS_PER_PART + 5 and set(frame["status"]) == {"fused"}
    assert len(list((tmp_path / "ledger").iterdir())) == 3


def test_rows_of_one_run_follow_each_other_though_its_clock_steps_back(tmp_path, monkeypatch):
    writer = LedgerWriter(str(tmp_path), "run")
    for seconds, status in ((100.0, "replacing"), (95.0, "fused")):
        monkeypatch.setattr(time, "time", lambda seconds=seconds: seconds)
        writer.append([ledger_row("a", status)])
    writer.flush()
    assert list(read_ledger(str(tmp_path))["status"]) == ["fused"]


def test_an_output_that_turned_to_other_settings_and_back_trusts_no_row_from_before():
    config = FuseConfig(output_url="o", index_url="i.csv")
    present = make_fingerprint(load_checkpoint(), config)
    ledger = ledger_of(ledger_row("a", fingerprint=present.digest, recorded_at=10.0))
    assert valid_since(None, ledger, present) == 0.0
    assert valid_since({"fingerprint": present.fields, "ledger_since": 7.0}, ledger, present) == 7.0
    turned = valid_since({"fingerprint": present.fields | {"range": "minmax"}}, ledger, present)
    assert turned >= 10.0
    plan = make_plan(index_of("a"), ledger, present.digest, None, since=turned)
    assert list(plan.todo["pair_id"]) == ["a"]
    plan = make_plan(index_of("a"), ledger, present.digest, None, since=7.0)
    assert not len(plan.todo)


def test_a_kept_pair_stands_once_though_a_run_died_while_it_replaced_the_table(tmp_path):
    output = Output(str(tmp_path))
    index = index_of("a", "b").assign(site=["north", "south"])
    ledger = ledger_of(ledger_row("a"), ledger_row("b"))
    write_tables(output, index, make_plan(index, ledger, "F", None), [])
    storage.write_table(f"{output.metrics}/part-older.parquet", storage.read_table(output.metrics))
    left = index[index["pair_id"] == "a"]
    for _ in range(2):
        write_tables(output, left, make_plan(left, ledger, "F", None), [])
        table = storage.read_table(output.metrics)
        assert list(table["pair_id"]) == ["a", "b"] and list(table["site"]) == ["north", "south"]
    assert len(storage.list_parts(output.metrics)) == 1


def test_a_different_setting_is_named_and_worker_settings_are_none():
    checkpoint = load_checkpoint()

    def fingerprint(**options):
        config = FuseConfig(output_url="o", index_url="i.csv", **options)
        return make_fingerprint(checkpoint, config)

    present = fingerprint()
    assert fingerprint(num_actors=7, batch_size=9, limit=3) == present
    empty = ledger_of()
    check_fingerprint(None, empty, present, "o")
    check_fingerprint({"fingerprint": present.fields}, empty, present, "o")
    other = {"fingerprint": fingerprint(range_policy="minmax").fields}
    with pytest.raises(ValueError, match='range was "minmax" and is "auto".*--reprocess'):
        check_fingerprint(other, empty, present, "o")
    with pytest.raises(ValueError, match="attributes are gone"):
        check_fingerprint(None, ledger_of(ledger_row("a")), present, "o")
