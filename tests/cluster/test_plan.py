"""What a run leaves out: the ledger under the present fingerprint and the present sources."""

import itertools
import time

import numpy as np
import pandas as pd
import pytest

from cluster.archive.pair_index import PairIndex, open_index
from cluster.fusing import plan as plans
from cluster.fusing.config import FuseConfig
from cluster.fusing.ledger import COLUMNS, READS_PER_PART, ROWS_PER_PART, LedgerWriter, read_ledger
from cluster.fusing.output import Output
from cluster.fusing.plan import check_fingerprint, make_fingerprint, valid_since
from cluster.fusing.results import write_tables
from cluster.storage import objects, tables
from dmnet_core.checkpoint import load_checkpoint

NUMBERS = {"int64": 0, "float64": 0.5, "str": ""}


def index_of(*names, etag="1", **columns):
    rows = pd.DataFrame({"pair_id": pd.Series(names, dtype="str"), "ir_url": "i", "vis_url": "v"})
    rows = rows.assign(ir_size=10, ir_etag=etag, vis_size=20, vis_etag="1")
    for name, values in columns.items():
        rows[name] = values
    return PairIndex([rows])


def ledger_row(name, status="fused", reason="", **changed):
    row = {column: NUMBERS[kind] for column, kind in COLUMNS.items()}
    row |= {"pair_id": name, "status": status, "reason": reason, "fingerprint": "F"}
    row |= {"ir_size": 10, "ir_etag": "1", "vis_size": 20, "vis_etag": "1", "written_bytes": 7}
    return row | changed


@pytest.fixture
def ledger_of(tmp_path):
    """Make a ledger of rows, as a run leaves one."""
    numbers = itertools.count()

    def make(*rows):
        url = str(tmp_path / f"ledger-{next(numbers)}")
        size = max(2, len(rows) // 5)  # more than one part
        for start in range(0, len(rows), size):
            part = tables.typed_frame(list(rows[start : start + size]), COLUMNS)
            tables.write_table(f"{url}/part-{start:06d}.parquet", part)
        return read_ledger(url)

    return make


def make_plan(index, ledger, limit=None, digest="F", **options):
    return plans.make_plan(index.keys, ledger.entries, digest, limit, **options)


def todo(index, ledger, limit=None, **options):
    return list(index.at(make_plan(index, ledger, limit, **options).todo["position"])["pair_id"])


def names(ledger, entries):
    return list(ledger.rows(entries)["pair_id"])


def test_what_the_ledger_holds_is_left_out(ledger_of):
    ledger = ledger_of(ledger_row("b"), ledger_row("c", "rejected", "truncated"))
    index = index_of("a", "b", "c", "d")
    plan = make_plan(index, ledger)
    assert todo(index, ledger) == ["a", "d"]
    assert (plan.num_done, plan.read_bytes, plan.write_bytes) == (2, 60, 14)


def test_a_changed_source_another_fingerprint_and_a_lost_file_are_done_again(ledger_of):
    assert todo(index_of("a", etag="2"), ledger_of(ledger_row("a"))) == ["a"]
    assert todo(index_of("a"), ledger_of(ledger_row("a", fingerprint="G"))) == ["a"]
    assert todo(index_of("a"), ledger_of(ledger_row("a", "rejected", "missing_file"))) == ["a"]


def test_a_pair_that_a_run_was_replacing_is_done_again_whatever_its_source_is_now(ledger_of):
    ledger = ledger_of(ledger_row("a"))
    changed = ledger.rows(make_plan(index_of("a", "b", etag="2"), ledger).changed)
    assert list(changed["pair_id"]) == ["a"] and set(changed["ir_etag"]) == {"1"}
    torn = ledger_of(ledger_row("a", "replacing"))
    assert todo(index_of("a"), torn) == todo(index_of("a", etag="2"), torn) == ["a"]
    assert not len(make_plan(index_of("a"), torn).changed)
    assert names(torn, make_plan(index_of("b"), torn).gone) == ["a"]
    refused = ledger_of(ledger_row("a", "rejected", "truncated"), ledger_row("b", fingerprint="G"))
    assert names(refused, make_plan(index_of("a", "b", etag="2"), refused).changed) == ["a", "b"]
    assert names(refused, make_plan(index_of("a"), refused, retry_rejected=True).changed) == ["a"]
    lost = ledger_of(ledger_row("a", "lost"))
    assert names(lost, make_plan(index_of("b"), lost).gone) == ["a"]
    assert todo(index_of("b"), lost) == ["b"]
    retried = ledger_of(ledger_row("a", "rejected", "missing_file"))
    assert not len(make_plan(index_of("a"), retried).changed)
    assert not len(make_plan(index_of("b", "a", etag="2"), ledger, 1).changed)


def test_rejected_pairs_are_tried_again_only_where_asked(ledger_of):
    ledger = ledger_of(ledger_row("a"), ledger_row("b", "rejected", "crashed"))
    assert todo(index_of("a", "b"), ledger) == []
    assert todo(index_of("a", "b"), ledger, retry_rejected=True) == ["b"]


def test_a_pair_that_left_the_index_is_kept_until_it_is_pruned_and_fused_anew_if_it_returns(ledger_of):
    ledger = ledger_of(
        ledger_row("a"), ledger_row("b", fingerprint="G"), ledger_row("c", "rejected", "empty")
    )
    plan = make_plan(index_of("a"), ledger)
    assert (names(ledger, plan.gone), plan.num_gone_otherwise, len(plan.todo)) == (["b"], 1, 0)
    pruned = ledger_of(ledger_row("a", "pruned"))
    assert not len(make_plan(index_of("b"), pruned).gone)
    assert todo(index_of("a"), pruned) == ["a"]
    half = ledger_of(ledger_row("a", "pruning"))  # by a run that died: its pixels are still to go
    assert names(half, make_plan(index_of("b"), half).gone) == ["a"]
    assert todo(index_of("a"), half) == ["a"]


def test_the_limit_counts_pairs_of_the_index(ledger_of):
    assert todo(index_of("a", "b", "c"), ledger_of(ledger_row("a")), limit=2) == ["b"]


def test_an_index_that_knows_no_sizes_matches_its_own_ledger(ledger_of, tmp_path):
    (tmp_path / "own.csv").write_text("pair_id,ir_url,vis_url\na,i,v\n")
    index, _ = open_index(str(tmp_path / "own.csv"))
    row = ledger_row("a", ir_size=-1, ir_etag="", vis_size=-1, vis_etag="")
    assert todo(index, ledger_of(row)) == []


@pytest.mark.parametrize("num_pairs", [0, 1, 2000, 2001, 4500])
def test_rows_come_back_in_order_whatever_slice_and_part_they_are_in(num_pairs, tmp_path):
    order = np.random.default_rng(0).permutation(num_pairs)
    index = index_of(*(f"p{number}" for number in range(num_pairs)))
    rows = [ledger_row(f"p{number}", written_bytes=int(number)) for number in order]
    for start in range(0, num_pairs, ROWS_PER_PART):
        part = tables.typed_frame(rows[start : start + ROWS_PER_PART], COLUMNS)
        tables.write_table(f"{tmp_path}/part-{start:06d}.parquet", part)
    ledger = read_ledger(str(tmp_path))
    current = make_plan(index, ledger).current
    assert list(current["position"]) == list(range(num_pairs))
    slices = list(ledger.slices(current))
    assert max(map(len, slices), default=0) <= tables.SLICE_ROWS
    assert [n for rows in slices for n in rows["written_bytes"]] == list(range(num_pairs))
    odd = np.arange(num_pairs) % 2 == 1
    chosen = [name for frame in index.slices(odd) for name in frame["pair_id"]]
    assert chosen == [f"p{number}" for number in range(1, num_pairs, 2)]


def test_two_names_with_one_number_are_never_taken_for_each_other(ledger_of):
    ledger, index = ledger_of(ledger_row("a")), index_of("b")
    index.keys["source"] = ledger.entries["source"]  # as if these collided
    assert todo(index, ledger) == ["b"]


def test_a_ledger_comes_back_with_the_latest_row_of_each_window(tmp_path):
    url = str(tmp_path / "ledger")
    assert len(read_ledger(url).entries) == 0
    for status in ("rejected", "fused"):
        writer = LedgerWriter(url, f"run-{status}")
        writer.append([ledger_row("a", status)])
        writer.flush()
        writer.flush()
    frame = read_ledger(url).entries
    assert list(frame["status"]) == ["fused"]
    assert len(list((tmp_path / "ledger").iterdir())) == 2


def test_a_slow_run_leaves_few_parts_and_a_clock_behind_does_not_make_its_rows_older(tmp_path):
    url = str(tmp_path / "ledger")
    early = LedgerWriter(url, "run-1")
    early.not_before = time.time() + 3600  # its machine's clock
    early.append([ledger_row("a", "rejected")])
    early.flush()
    late = LedgerWriter(url, "run-2")
    late.not_before = float(read_ledger(url).entries["recorded_at"].max())
    for number in range(ROWS_PER_PART + 5):
        late.append([ledger_row("a" if number == 0 else f"b{number}")])
        late.flush()
    late.append([ledger_row("lost")])
    late.forget()
    late.flush()
    assert late.lag_s == 0
    frame = read_ledger(url).entries
    assert len(frame) == ROWS_PER_PART + 5 and set(frame["status"]) == {"fused"}
    assert len(list((tmp_path / "ledger").iterdir())) == 3


def test_rows_of_one_run_follow_each_other_though_its_clock_steps_back(tmp_path, monkeypatch):
    writer = LedgerWriter(str(tmp_path), "run")
    for seconds, status in ((100.0, "replacing"), (95.0, "fused")):
        monkeypatch.setattr(time, "time", lambda seconds=seconds: seconds)
        writer.append([ledger_row("a", status)])
    writer.flush()
    assert list(read_ledger(str(tmp_path)).entries["status"]) == ["fused"]


def test_an_output_that_turned_to_other_settings_and_back_trusts_no_row_from_before(ledger_of):
    config = FuseConfig(output_url="o", index_url="i.csv")
    present = make_fingerprint(load_checkpoint(), config)
    ledger = ledger_of(ledger_row("a", fingerprint=present.digest, recorded_at=10.0))
    entries, same = ledger.entries, {"fingerprint": present.fields, "ledger_since": 7.0}
    assert valid_since(None, entries, present) == 0.0
    assert valid_since(same, entries, present) == 7.0
    turned = valid_since({"fingerprint": present.fields | {"range": "minmax"}}, entries, present)
    assert turned >= 10.0
    assert todo(index_of("a"), ledger, digest=present.digest, since=turned) == ["a"]
    assert todo(index_of("a"), ledger, digest=present.digest, since=7.0) == []


def test_a_kept_pair_stands_once_though_a_run_died_while_it_replaced_the_table(ledger_of, tmp_path):
    output = Output(str(tmp_path))
    ledger = ledger_of(ledger_row("a"), ledger_row("b"), ledger_row("c"))
    index = index_of("a", "b", "c", site=["north", "south", None], height=3, status=[1, 2, 3])
    write_tables(output, index, ledger, make_plan(index, ledger), [])
    tables.write_table(f"{output.metrics}/part-older.parquet", tables.read_table(output.metrics))
    left = index_of("a", site="north", status=1, day=7)
    for _ in range(2):
        write_tables(output, left, ledger, make_plan(left, ledger), [])
        table = tables.read_table(output.metrics)
        assert list(table["pair_id"]) == ["a", "b", "c"]
        assert list(table["site"][:2]) == ["north", "south"] and pd.isna(table["site"][2])
        assert list(table["status"]) == [1, 2, 3] and list(table["height"]) == [0, 0, 0]
        assert table["day"][0] == 7 and table["day"][1:].isna().all()
    assert len(objects.list_parts(output.metrics)) == 1
    without = index_of("a")  # what only the table before knows stays
    write_tables(output, without, ledger, make_plan(without, ledger), [])
    table = tables.read_table(output.metrics)
    assert pd.isna(table["site"][0]) and list(table["site"][1:2]) == ["south"]
    other = index_of("a", site=4.5)
    with pytest.raises(ValueError, match="site.*--prune"):
        write_tables(output, other, ledger, make_plan(other, ledger), [])


def test_a_carried_column_may_come_go_and_widen_while_pairs_leave(ledger_of, tmp_path):
    ledger = ledger_of(ledger_row("a"), ledger_row("b"))
    output, day = Output(f"{tmp_path}/out"), pd.Timestamp("2026-05-01", tz="UTC")
    columns = {"count": [1, 2], "pair": ["x", "y"], "self": 1, "note": ["", "late"], "day": day}
    before = index_of("a", "b", **columns)
    none = pd.Series([None], dtype="object")
    tonight = index_of("a", count=2.5, day=none, seen=day, for_s=day - day)

    def table_of(index):
        write_tables(output, index, ledger, make_plan(index, ledger), [])
        return tables.read_table(output.metrics).set_index("pair_id")

    table_of(before)
    table = table_of(tonight)
    assert list(table["count"]) == [2.5, 2] and table.loc["b", "day"] == day
    assert table.loc["b", ["pair", "self", "note"]].tolist() == ["y", 1, "late"]
    assert table["seen"].isna().tolist() == table["for_s"].isna().tolist() == [False, True]
    table = table_of(before)
    assert list(table["count"]) == [1, 2] and list(table["pair"]) == ["x", "y"]
    left = index_of("a", seen=day)  # no table before at all
    write_tables(Output(f"{tmp_path}/none"), left, ledger, make_plan(left, ledger), [])
    table = tables.read_table(f"{tmp_path}/none/metrics.parquet")
    assert list(table["pair_id"]) == ["a", "b"] and list(table["ir_url"]) == ["i", ""]


def test_a_ledger_of_another_version_is_refused_before_anything_is_fused(tmp_path):
    rows = tables.typed_frame([ledger_row("a")], COLUMNS).drop(columns="VIF")
    tables.write_table(f"{tmp_path}/part-0.parquet", rows)
    with pytest.raises(ValueError, match="no column VIF"):
        read_ledger(str(tmp_path))


def test_no_part_is_read_often_though_its_rows_lie_far_apart(ledger_of, monkeypatch):
    numbers = np.random.default_rng(0).permutation(20_000)
    ledger = ledger_of(*(ledger_row(f"p{number}") for number in numbers))
    index = index_of(*(f"p{number}" for number in range(len(numbers))))
    reads, read = [], objects.read_bytes
    monkeypatch.setattr(objects, "read_bytes", lambda url: reads.append(url) or read(url))
    slices = list(ledger.slices(make_plan(index, ledger).current))
    assert [name for rows in slices for name in rows["pair_id"]] == [
        f"p{number}" for number in range(len(numbers))
    ]
    assert max(map(len, slices)) <= tables.SLICE_ROWS
    assert len(reads) <= READS_PER_PART * len(ledger.parts)


def test_what_people_see_of_the_metrics_is_of_all_slices(ledger_of, tmp_path):
    numbers = range(2500)
    assert tables.SLICE_ROWS < 2500
    index = index_of(*(f"p{number:04d}" for number in numbers))
    ledger = ledger_of(
        *(ledger_row(f"p{n:04d}", EN=float(n), MI=float("nan") if n else 3.0) for n in numbers)
    )
    seen = write_tables(Output(str(tmp_path)), index, ledger, make_plan(index, ledger), [])
    assert "EN 1.25e+03" in seen.means() and "MI 3 " in seen.means()
    assert list(seen.shown["pair_id"]) == ["p0000", "p0833", "p1666", "p2499"]
    table = tables.read_table(Output(str(tmp_path)).metrics)
    assert list(table["EN"]) == list(numbers)
    assert list(table["pair_id"]) == [f"p{number:04d}" for number in numbers]


def test_a_different_setting_is_named_and_worker_settings_are_none(ledger_of):
    checkpoint = load_checkpoint()

    def fingerprint(**options):
        config = FuseConfig(output_url="o", index_url="i.csv", **options)
        return make_fingerprint(checkpoint, config)

    present = fingerprint()
    assert fingerprint(num_actors=7, batch_size=9, limit=3) == present
    empty = ledger_of().entries
    check_fingerprint(None, empty, present, "o")
    check_fingerprint({"fingerprint": present.fields}, empty, present, "o")
    other = {"fingerprint": fingerprint(range_policy="minmax").fields}
    with pytest.raises(ValueError, match='range was "minmax" and is "auto".*--reprocess'):
        check_fingerprint(other, empty, present, "o")
    with pytest.raises(ValueError, match="attributes are gone"):
        check_fingerprint(None, ledger_of(ledger_row("a")).entries, present, "o")
