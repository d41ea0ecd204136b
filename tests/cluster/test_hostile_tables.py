"""Tables that SQL could misread: odd types, odd names, broken files, and an interrupt."""

import tempfile
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from cluster.archive.pair_index import open_index
from cluster.fusing.config import FuseConfig
from cluster.fusing.output import Output
from cluster.fusing.plan import make_plan
from cluster.fusing.preview import write_preview
from cluster.storage import objects, tables
from cluster.storage.s3 import filesystem
from cluster.storage.tables import Database
from cluster.storage.urls import StorageError
from tests.cluster.ledgers import Bench, ledger_row


def write_index(path, **columns):
    given = {"pair_id": ["a", "b"], "ir_url": ["i", "j"], "vis_url": ["v", "w"]}
    pa.parquet.write_table(pa.table(given | columns), path)
    return str(path)


@pytest.mark.parametrize("unknown", [float("nan"), float("inf"), 1e300, -5.0, None])
def test_a_size_that_is_no_size_is_unknown_and_never_null(tmp_path, unknown):
    url = write_index(tmp_path / "pairs.parquet", ir_size=[unknown, 2.0])
    with Database() as database:
        open_index(database, url)
        assert list(database.frame("from pairs order by __row")["ir_size"]) == [-1, 2]


def test_a_pair_id_that_every_row_has_is_refused_without_comparing_row_by_row():
    with Database() as database:
        index = {"pair_id": ["a"] * 200_000, "ir_url": "i", "vis_url": "v"}
        with tempfile.TemporaryDirectory() as folder:
            tables.write_table(f"{folder}/pairs.parquet", pd.DataFrame(index))
            with pytest.raises(ValueError, match="199999 rows whose pair_id an earlier.*'a'"):
                open_index(database, f"{folder}/pairs.parquet")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [([1, 2], [1.5], [1, 2, 1.5]), ([None], ["fog"], [None, "fog"]), (["fog"], [None], ["fog", None])],
)
def test_a_column_of_two_types_gets_one_that_holds_both(tmp_path, first, second, expected):
    for number, values in enumerate((first, second)):
        pa.parquet.write_table(pa.table({"x": values}), tmp_path / f"part-{number}.parquet")
    with Database() as database:
        assert database.open("stored", str(tmp_path))
        found = [row["x"] for rows in database.batches("from stored") for row in rows]
    assert found == expected


def test_a_column_without_a_name_is_left_out(tmp_path):
    (tmp_path / "pairs.csv").write_text(",pair_id,ir_url,vis_url,note\n0,a,i,v,x\n1,b,i,v,y\n")
    url = write_index(tmp_path / "pairs.parquet", **{"": [0, 1], "note": ["x", "y"]})
    for name in (f"{tmp_path}/pairs.csv", url):
        with Database() as database:
            open_index(database, name)
            assert list(database.columns("from pairs"))[-2:] == ["ir_to_vis", "note"]


def test_a_temporary_folder_may_have_a_quote_in_its_name(tmp_path, monkeypatch):
    (tmp_path / "o'neil").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", f"{tmp_path}/o'neil")
    tables.write_table(f"{tmp_path}/table.parquet", pd.DataFrame({"x": [1]}))
    assert list(tables.read_table(f"{tmp_path}/table.parquet")["x"]) == [1]


def test_a_file_whose_pages_are_broken_is_one_line(tmp_path):
    path = tmp_path / "part-0.parquet"
    pa.parquet.write_table(pa.table({"x": np.arange(50_000) % 7}), path, compression="zstd")
    data = bytearray(path.read_bytes())
    data[20 : len(data) // 3] = b"\xff" * (len(data) // 3 - 20)
    path.write_bytes(data)
    with Database() as database:
        database.open("stored", str(tmp_path))
        with pytest.raises(StorageError, match="expected complete Parquet files"):
            database.first("select sum(x) from stored")


def test_a_store_that_refuses_a_request_is_no_missing_table(monkeypatch):
    def refuse(_path):
        raise PermissionError("no")

    monkeypatch.setattr(filesystem("memory"), "info", refuse)
    with pytest.raises(StorageError, match=r"memory://pairs.parquet.*PermissionError"):
        objects.is_file("memory://pairs.parquet")


def test_an_interrupt_during_a_query_is_an_interrupt():
    with Database() as database:
        database._connection = Mock(execute=Mock(side_effect=RuntimeError("Query interrupted")))
        with pytest.raises(KeyboardInterrupt, match="^$"):
            database.first("select 1")


def test_a_column_of_the_index_may_have_any_name_that_the_sql_uses(tmp_path):
    names = ("number", "at", "status", "reason", "detail", "window", "rowid", "l", "p", "pairs", "rows")
    with Database() as database:
        bench = Bench(database, tmp_path)
        bench.put_ledger(ledger_row("a"), ledger_row("b"))
        bench.put_index("a", "b", carried=dict.fromkeys(names, "x"))
        make_plan(database, "F", None)
        output = Output(f"{tmp_path}/out")
        write_preview(database, output, FuseConfig(output_url=output.url, index_url="i.csv"))
