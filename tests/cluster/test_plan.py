"""What a run leaves out: what the ledger holds of the present sources and fingerprint."""

import random

import numpy as np
import pytest

from cluster.archive.pair_index import open_index
from cluster.fusing import plan as plans
from cluster.fusing.config import FuseConfig
from cluster.fusing.plan import check_fingerprint, make_fingerprint, mark_lost
from cluster.storage import fused_store, objects
from cluster.storage.scene_store import SceneLayout, create_scene, finish_scene, write_scene_window
from cluster.storage.tables import Database
from dmnet_core.checkpoint import load_checkpoint
from tests.cluster.ledgers import Bench, ledger_row


@pytest.fixture
def bench(tmp_path):
    with Database() as database:
        yield Bench(database, tmp_path)


def make_plan(bench, limit=None, digest="F", **options):
    return plans.make_plan(bench.database, digest, limit, **options)


def todo(bench, *names, limit=None, retry_rejected=False, digest="F", **index):
    """Return what a run over pairs of these names would fuse."""
    bench.put_index(*names, **index)
    make_plan(bench, limit, digest, retry_rejected=retry_rejected)
    return bench.names("todo")


def test_what_the_ledger_holds_is_left_out(bench):
    bench.put_ledger(ledger_row("b"), ledger_row("c", "rejected", "truncated"))
    assert todo(bench, "a", "b", "c", "d") == ["a", "d"]
    plan = make_plan(bench)
    assert (plan.num_done, plan.read_bytes, plan.write_bytes) == (2, 60, 14)
    assert (plan.num_pairs, plan.num_todo, plan.num_unknown_sizes) == (4, 2, 0)


def test_a_changed_source_another_fingerprint_and_a_lost_file_are_done_again(bench):
    bench.put_ledger(ledger_row("a"))
    assert todo(bench, "a", etag="2") == ["a"]
    bench.put_ledger(ledger_row("a", fingerprint="G"))
    assert todo(bench, "a") == ["a"]
    bench.put_ledger(ledger_row("a", "rejected", "missing_file"))
    assert todo(bench, "a") == ["a"]


@pytest.mark.parametrize("column", ["ir_bands", "vis_bands", "ir_to_vis"])
def test_other_bands_or_another_homography_of_the_same_bytes_are_fused_again(bench, column):
    bench.put_ledger(ledger_row("a"), ledger_row("b"))
    assert todo(bench, "a", "b", **{column: ["4", ""]}) == ["a"]
    assert make_plan(bench).num_to_compare == 0
    assert todo(bench, "a", "b", etag="2") == ["a", "b"]
    assert make_plan(bench).num_to_compare == 2


def test_done_rows_of_pairs_to_fuse_are_revoked_and_no_others(bench):
    bench.put_ledger(ledger_row("a"))
    assert todo(bench, "a", "b", etag="2") == ["a", "b"]
    assert bench.names("to_revoke") == ["a"]
    assert todo(bench, "b", "a", etag="2", limit=1) == ["b"]
    assert bench.names("to_revoke") == []
    bench.put_ledger(ledger_row("a", "rejected", "truncated"), ledger_row("b", fingerprint="G"))
    assert todo(bench, "a", "b", etag="2") == ["a", "b"]
    assert bench.names("to_revoke") == ["a", "b"]
    assert todo(bench, "a", retry_rejected=True) == ["a"]
    assert bench.names("to_revoke") == ["a"]
    bench.put_ledger(ledger_row("a", "rejected", "missing_file"))  # it has no pixels
    assert todo(bench, "a") == ["a"]
    assert bench.names("to_revoke") == []


def test_a_pair_that_a_run_was_replacing_is_done_again_whatever_its_source_is_now(bench):
    bench.put_ledger(ledger_row("a", "replacing"))
    assert todo(bench, "a") == todo(bench, "a", etag="2") == ["a"]
    assert bench.names("to_revoke") == []
    assert todo(bench, "b") == ["b"]
    assert bench.names("gone") == ["a"]


def test_an_output_that_turned_to_other_settings_and_back_trusts_no_row_that_was_revoked(bench):
    ledger = bench.put_ledger(ledger_row("a"), ledger_row("b"))
    assert todo(bench, "a", "b", digest="G", limit=1) == ["a"]
    ledger.mark(bench.database, "to_revoke", "replacing")  # and here the run with G is killed
    ledger.load(bench.database, None)
    assert todo(bench, "a", "b") == ["a"]
    assert todo(bench, "a", "b", digest="G") == ["a", "b"]


def test_a_survey_is_revoked_before_another_takes_its_place(bench):
    ledger = bench.put_ledger(ledger_row("a", "surveyed"), ledger_row("b", "surveyed"))
    assert todo(bench, "a", "b") == bench.names("surveyed") == ["a", "b"]
    assert bench.names("to_revoke") == []
    assert todo(bench, "a", "b", digest="G", limit=1) == ["a"]
    assert bench.names("to_revoke") == ["a"]
    ledger.mark(bench.database, "to_revoke", "replacing")  # and here the run with G is killed
    ledger.load(bench.database, None)
    assert todo(bench, "a", "b") == ["a", "b"] and bench.names("surveyed") == ["b"]


def test_rejected_pairs_are_tried_again_only_where_asked(bench):
    bench.put_ledger(ledger_row("a"), ledger_row("b", "rejected", "crashed"))
    assert todo(bench, "a", "b") == []
    assert todo(bench, "a", "b", retry_rejected=True) == ["b"]


def test_a_pair_that_left_the_index_is_kept_until_it_is_pruned_and_fused_anew_if_it_returns(bench):
    bench.put_ledger(
        ledger_row("a"), ledger_row("b", fingerprint="G"), ledger_row("c", "rejected", "empty")
    )
    assert todo(bench, "a") == [] and bench.names("gone") == ["b"]
    assert make_plan(bench).num_gone_otherwise == 1
    ledger = bench.put_ledger(ledger_row("a"))
    assert todo(bench, "b") == ["b"]
    ledger.mark(bench.database, "gone", "pruning")  # by a run that dies: the pixels are still to go
    ledger.load(bench.database, None)
    assert todo(bench, "b") == ["b"] and bench.names("gone") == ["a"]
    assert make_plan(bench).num_gone_torn == 1
    assert todo(bench, "a") == ["a"]
    ledger.mark(bench.database, "latest", "pruned")
    ledger.load(bench.database, None)
    assert todo(bench, "b") == ["b"] and bench.names("gone") == []
    assert todo(bench, "a") == ["a"]


def test_the_limit_counts_pairs_of_the_index(bench):
    bench.put_ledger(ledger_row("a"))
    assert todo(bench, "a", "b", "c", limit=2) == ["b"]


def test_an_index_that_knows_no_sizes_matches_its_own_ledger(bench, tmp_path):
    (tmp_path / "own.csv").write_text("pair_id,ir_url,vis_url\na,i,v\nb,i,v\n")
    bench.put_ledger(ledger_row("a", ir_size=-1, ir_etag="", vis_size=-1, vis_etag=""))
    open_index(bench.database, str(tmp_path / "own.csv"))
    plan = make_plan(bench)
    assert bench.names("todo") == ["b"]
    assert (plan.read_bytes, plan.num_unknown_sizes) == (0, 2)


def put_num_windows(bench, **counts):
    """Give the rows of `latest` their number of windows: 1 where none is named."""
    bench.database.run("alter table latest add column if not exists num_windows bigint")
    bench.database.run("update latest set num_windows = 1")
    for name, number in counts.items():
        bench.database.run("update latest set num_windows = $n where pair_id = $p", n=number, p=name)


def test_a_fused_row_whose_pixels_are_not_complete_is_lost_and_revoked(bench, tmp_path):
    store = str(tmp_path / "fused.zarr")
    for name in ("a", "b/c"):
        fused_store.write_fused(store, name, np.full((20, 30), 9, np.uint8), {})
    objects.delete(f"{store}/b/c/fused/c/0/0")
    bench.put_ledger(*(ledger_row(name, zarr_path=name) for name in ("a", "b/c", "d")))
    put_num_windows(bench)
    assert mark_lost(bench.database, store) == (1, 2)
    assert todo(bench, "a", "b/c", "d") == ["b/c", "d"]
    assert bench.names("to_revoke") == ["b/c", "d"]
    assert todo(bench, "a", "b/c") == ["b/c"] and bench.names("gone") == ["d"]


@pytest.mark.parametrize("bands", [1, 3])
def test_a_scene_that_lacks_a_window_or_its_end_is_lost(bench, tmp_path, bands):
    store = str(tmp_path / "fused.zarr")
    layout = SceneLayout(height=50, width=70, bands=bands, dtype="uint8", window=32)
    for name in ("whole", "torn", "open"):
        create_scene(store, name, layout)
        for row, column in np.ndindex(2, 3):
            shape = (*layout.window_size(row, column), bands)[: 2 + (bands > 1)]
            write_scene_window(store, name, layout, row, column, np.zeros(shape, np.uint8), None)
    for name in ("whole", "torn"):
        finish_scene(store, name, layout, {})
    objects.delete(f"{store}/torn/{'fused/c/1/2' if bands == 1 else 'fused/c/0/1/2'}")
    rows = (ledger_row(name, zarr_path=name) for name in ("whole", "torn", "open"))
    bench.put_ledger(*rows)
    put_num_windows(bench, whole=6, torn=6, open=6)
    assert mark_lost(bench.database, store) == (1, 2)
    assert todo(bench, "whole", "torn", "open") == ["torn", "open"]


def test_a_different_setting_is_named_and_worker_settings_are_none(bench):
    checkpoint = load_checkpoint()
    database = bench.database

    def fingerprint(**options):
        config = FuseConfig(output_url="o", index_url="i.csv", **options)
        return make_fingerprint(checkpoint, config)

    present = fingerprint()
    assert fingerprint(num_actors=7, batch_size=9, limit=3) == present
    bench.put_ledger()
    check_fingerprint(database, None, present, "o")
    check_fingerprint(database, {"fingerprint": present.fields}, present, "o")
    other = {"fingerprint": fingerprint(ir_range="minmax").fields}
    with pytest.raises(ValueError, match='range was "minmax" and is "auto".*--reprocess'):
        check_fingerprint(database, other, present, "o")
    bench.put_ledger(ledger_row("a", fingerprint="G"))
    with pytest.raises(ValueError, match="attributes are gone"):
        check_fingerprint(database, None, present, "o")


def planned(index, rows, digest, limit, again):
    """Return the names to fuse, to revoke and gone, by the rules of docs and ledger, in plain Python."""
    latest = {}
    for row in sorted(rows, key=lambda row: row["recorded_at"]):
        latest[row["pair_id"]] = row
    source = dict(index)

    def is_done(name):
        row = latest.get(name, {"status": ""})
        made_of = (row.get("fingerprint"), row.get("ir_etag"))
        return row["status"] in ("fused", "rejected") and made_of == (digest, source.get(name))

    def is_tried_again(name):
        row = latest[name]
        return row["status"] == "rejected" if again else row["reason"] in plans.RETRIED

    todo = [name for name, _ in index[:limit] if not is_done(name) or is_tried_again(name)]
    revoked = [
        name for name, row in latest.items()
        if name in todo and row["status"] in ("fused", "rejected")
        and not (is_done(name) and row["reason"] in plans.RETRIED)
    ]  # fmt: skip
    kept = ("fused", "lost", "replacing", "pruning")
    gone = [name for name, row in latest.items() if name not in source and row["status"] in kept]
    return todo, sorted(revoked), sorted(gone)


def test_plans_of_random_indexes_and_ledgers_are_those_of_plain_python(bench):
    draw = random.Random(0)
    reasons = {"rejected": ("missing_file", "failed", "truncated", "crashed")}
    for _ in range(30):
        names = draw.sample("abcdefgh", draw.randint(1, 8))
        index = [(name, draw.choice("12")) for name in names]
        rows = []
        for time in draw.sample(range(1, 50), draw.randint(1, 20)):
            status = draw.choice(("fused", "fused", "rejected", "replacing", "pruning", "pruned"))
            reason = draw.choice(reasons.get(status, ("",)))
            changed = {"fingerprint": draw.choice("FFG"), "ir_etag": draw.choice("12")}
            name = draw.choice("abcdefghij")
            rows.append(ledger_row(name, status, reason, recorded_at=float(time), **changed))
        limit, again = draw.choice((None, draw.randint(1, 9))), draw.random() < 0.3
        bench.put_ledger(*rows)
        bench.put_index(*names, etag=[etag for _, etag in index])
        make_plan(bench, limit, retry_rejected=again)
        found = tuple(bench.names(table) for table in ("todo", "to_revoke", "gone"))
        assert found == planned(index, rows, "F", limit, again), (index, rows, limit, again)
