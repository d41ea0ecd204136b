"""The tables that a run leaves, made of index and ledger."""

import re

import numpy as np
import pandas as pd
import pytest

from cluster.fusing.output import Output
from cluster.fusing.plan import make_plan
from cluster.fusing.results import metric_means, write_tables
from cluster.fusing.summary import judge, summarise
from cluster.storage import objects, tables
from cluster.storage.tables import Database
from tests.cluster.ledgers import Bench, ledger_row


@pytest.fixture
def bench(tmp_path):
    with Database() as database:
        yield Bench(database, tmp_path)


def table_of(bench, *names, name="out", **columns):
    """Write the tables of an index of pairs of these names; return the metrics."""
    bench.put_index(*names, **columns)
    make_plan(bench.database, "F", None)
    output = Output(f"{bench.folder}/{name}")
    write_tables(bench.database, output)
    return tables.read_table(output.metrics)


def test_the_tables_hold_each_pair_once_in_the_index_s_order_whatever_part_it_is_in(bench):
    numbers = np.random.default_rng(0).permutation(5000)
    bench.put_ledger(
        *(ledger_row(f"p{n}", written_bytes=int(n), EN=float(n)) for n in numbers),
        ledger_row("bad", "rejected", "truncated", detail="ir: short"),
    )
    names = [f"p{number}" for number in range(5000)]
    metrics = table_of(bench, "bad", *names, weather=["fog", *map(str, range(5000))])
    assert list(metrics["pair_id"]) == names
    assert list(metrics["EN"]) == list(range(5000))
    assert list(metrics["weather"]) == list(map(str, range(5000)))
    rejected = tables.read_table(f"{bench.folder}/out/rejected.parquet")
    assert rejected.to_dict("records") == [
        {"pair_id": "bad", "reason": "truncated", "detail": "ir: short", "ir_url": "i", "vis_url": "v"}
    ]


def test_means_are_of_the_finite_values_and_counts_of_everything(bench):
    rows = [ledger_row(f"p{n}", EN=float(n), MI=float("nan") if n else 3.0) for n in range(2500)]
    bench.put_ledger(*rows, ledger_row("bad", "rejected", "empty"))
    bench.put_index(*(f"p{n}" for n in range(2500)), "bad", "new")
    plan = make_plan(bench.database, "F", None)
    means = metric_means(bench.database)
    assert means["EN"] == 1249.5 and means["MI"] == 3.0
    summary = summarise(bench.database, plan)
    assert (summary.num_pairs, summary.num_fused, summary.num_rejected) == (2502, 2500, 1)
    assert summary.reasons == {"empty": 1}
    assert "1 pairs are neither fused nor rejected, for example 'new'" in judge(
        bench.database, summary, plan, 1.0
    ).problem


def test_a_limit_leaves_pairs_and_every_pair_of_the_index_is_counted_once(bench):
    bench.put_ledger(ledger_row("a"), ledger_row("b", "rejected", "empty"), ledger_row("d"))
    bench.put_index("a", "b", "c", "d", "e")
    for limit, counted, problem in (
        (1, (5, 2, 1, 2), "33.33% of the pairs"),
        (2, (5, 2, 1, 2), "33.33% of the pairs"),
        (3, (5, 2, 1, 1), "1 pairs are neither fused nor rejected, for example 'c'"),
        (9, (5, 2, 1, 0), "2 pairs are neither fused nor rejected, for example 'c'"),
    ):
        plan = make_plan(bench.database, "F", limit)
        found = summarise(bench.database, plan)
        assert plan.num_index == 5
        assert (found.num_pairs, found.num_fused, found.num_rejected, found.num_left) == counted
        assert problem in judge(bench.database, found, plan, 0.1).problem


def test_an_archive_whose_pairs_are_all_rejected_is_no_success_and_one_without_pairs_is(bench):
    bench.put_ledger(ledger_row("a", "rejected", "empty"), ledger_row("b", "rejected", "wrong_type"))
    for names, problem in (
        (["a", "b"], r"all 2 pairs were rejected \(1 empty, 1 wrong_type\), expected at least one"),
        ([], "$"),  # a part of a small archive
    ):
        bench.put_index(*names)
        plan = make_plan(bench.database, "F", None)
        judged = judge(bench.database, summarise(bench.database, plan), plan, 1.0)
        assert re.match(problem, judged.problem)


def test_a_kept_pair_stands_once_though_a_run_died_while_it_replaced_the_table(bench):
    metrics_url = f"{bench.folder}/out/metrics.parquet"
    bench.put_ledger(ledger_row("a"), ledger_row("b"), ledger_row("c"))
    table_of(bench, "a", "b", "c", site=["north", "south", None], height=3, status=[1, 2, 3])
    tables.write_table(f"{metrics_url}/part-older.parquet", tables.read_table(metrics_url))
    for _ in range(2):
        table = table_of(bench, "a", site="north", status=1, day=7)
        assert list(table["pair_id"]) == ["a", "b", "c"]
        assert list(table["site"][:2]) == ["north", "south"] and pd.isna(table["site"][2])
        assert list(table["status"]) == [1, 2, 3] and list(table["height"]) == [0, 0, 0]
        assert table["day"][0] == 7 and table["day"][1:].isna().all()
    assert len(list(objects.find_files(metrics_url))) == 1
    table = table_of(bench, "a")  # what only the table before knows stays
    assert pd.isna(table["site"][0]) and list(table["site"][1:2]) == ["south"]
    for other in (4.5, pd.Timestamp("2026-05-01")):
        with pytest.raises(ValueError, match="site.*--prune"):
            table_of(bench, "a", site=other)


def test_a_carried_column_may_come_go_and_widen_while_pairs_leave(bench):
    bench.put_ledger(ledger_row("a"), ledger_row("b"))
    day = pd.Timestamp("2026-05-01", tz="UTC")
    columns = {"count": [1, 2], "pair": ["x", "y"], "self": 1, "note": ["", "late"], "day": day}
    none = pd.Series([None], dtype="object")
    table_of(bench, "a", "b", carried=columns)
    table = table_of(bench, "a", count=2.5, day=none, seen=day).set_index("pair_id")
    assert list(table["count"]) == [2.5, 2] and table.loc["b", "day"] == day
    assert table.loc["b", ["pair", "self", "note"]].tolist() == ["y", 1, "late"]
    assert table["seen"].isna().tolist() == [False, True]
    table = table_of(bench, "a", "b", carried=columns).set_index("pair_id")
    assert list(table["count"]) == [1, 2] and list(table["pair"]) == ["x", "y"]
    table = table_of(bench, "a", name="none", seen=day)  # no table before at all
    assert list(table["pair_id"]) == ["a", "b"] and list(table["ir_url"]) == ["i", ""]


def test_a_column_that_was_empty_may_become_text_while_pairs_leave(bench):
    bench.put_ledger(ledger_row("a"), ledger_row("b"))
    table_of(bench, "a", "b", note=pd.Series([None, None], dtype="object"))
    table = table_of(bench, "a", note="fog")
    assert table["note"][0] == "fog" and pd.isna(table["note"][1])


def test_no_table_holds_what_may_be_secret_in_a_url(bench):
    bench.put_ledger(ledger_row("a"), ledger_row("b", "rejected", "empty"))
    secret = ["s3://key:secret@bucket/a\n.png", "s3://bucket/b\n.png?token=secret"]
    metrics = table_of(bench, "a", "b", ir_url=secret)
    assert list(metrics["ir_url"]) == ["s3://bucket/a\n.png"]
    rejected = tables.read_table(f"{bench.folder}/out/rejected.parquet")
    assert list(rejected["ir_url"]) == ["s3://bucket/b\n.png"]
