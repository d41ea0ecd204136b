"""Storage on local folders and on a real S3 server: the same behaviour on both."""

import functools
import http.server
import importlib.util
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cluster.archive.pair_index import open_index
from cluster.fusing.steps.read import Opening, read_window
from cluster.storage import fused_store, objects, tables, urls
from cluster.storage.s3 import S3_OPTIONS, filesystem
from cluster.storage.tables import Database
from cluster.storage.urls import StorageError


@pytest.fixture(params=["local", "s3"])
def root(request, tmp_path):
    if request.param == "local":
        return str(tmp_path / "root")
    return request.getfixturevalue("s3") + "/root"


def test_what_was_put_is_read_listed_and_deleted(root):
    names = ("a.png", "sub/b c.png", "sub/é#?%20.png")
    for name in names:
        objects.put_bytes(urls.join_url(root, name), name.encode())
    files = objects.list_files(root)
    assert [file.path for file in files] == sorted(names)
    assert [file.size for file in files] == [len(file.path.encode()) for file in files]
    assert [objects.read_bytes(file.url) for file in files] == [f.path.encode() for f in files]
    objects.delete(files[0].url)
    objects.delete(files[0].url)
    assert not objects.exists(files[0].url)
    assert objects.exists(files[1].url)
    with pytest.raises(FileNotFoundError, match=r"root/a\.png"):
        objects.read_bytes(files[0].url)


def test_an_etag_changes_with_the_bytes_only(root):
    url = urls.join_url(root, "a")
    objects.put_bytes(url, b"one")
    before = objects.list_files(root)
    assert objects.list_files(root) == before
    objects.put_bytes(url, b"two")
    assert objects.list_files(root)[0].etag != before[0].etag


def test_a_prefix_with_nothing_below_is_named(root):
    with pytest.raises(StorageError, match="expected"):
        objects.list_files(urls.join_url(root, "nothing"))
    assert tables.read_table(urls.join_url(root, "nothing")) is None
    assert tables.read_table(urls.join_url(root, "nothing.parquet")) is None
    assert fused_store.read_store_attributes(urls.join_url(root, "nothing")) is None


def test_a_table_comes_back_from_a_file_and_from_a_folder_of_parts(root):
    frame = pd.DataFrame({"pair_id": ["a", "é,\n\""], "size": [1, 2]})
    for name in ("table.parquet", "table.csv"):
        url = urls.join_url(root, name)
        tables.write_table(url, frame)
        pd.testing.assert_frame_equal(tables.read_table(url), frame, check_dtype=False)
    folder = urls.join_url(root, "folder.parquet")
    tables.write_table(urls.join_url(folder, "part-1.parquet"), frame[:1])
    tables.write_table(urls.join_url(folder, "part-2.parquet"), frame[1:])
    objects.put_bytes(urls.join_url(folder, "part-3.parquet.tmp"), b"no table")
    back = tables.read_table(folder)
    pd.testing.assert_frame_equal(back.reset_index(drop=True), frame, check_dtype=False)


def test_a_table_of_sql_is_put_whole_or_not_at_all(root):
    url = urls.join_url(root, "it's a table.parquet")
    with Database() as database:
        database.write("select range as number from range(100000)", url)
        assert list(tables.read_table(url)["number"]) == list(range(100_000))
        before = objects.list_files(root)
        with pytest.raises(Exception, match="no number"):
            database.write("select error('no number') as number", url)
    assert objects.list_files(root) == before  # the old table, and nothing beside it


def test_rows_come_back_from_the_files_that_tasks_read(root):
    frame = pd.DataFrame({"pair_id": [f"é\n{n}" for n in range(10)], "score": [0.5, None] * 5})
    with Database() as database:
        database.add("pairs", frame)
        prefix = urls.join_url(root, "todo")
        named = list(database.write_blocks("from pairs order by score, pair_id desc", prefix, 4))
        assert list(database.write_blocks("from pairs limit 0", f"{prefix}-none", 4)) == []
    assert [len(tables.read_blocks([url])) for url in named] == [4, 4, 2]
    expected = frame.sort_values(["score", "pair_id"], ascending=[True, False])
    assert tables.read_blocks(named)["pair_id"].to_pylist() == list(expected["pair_id"])


def test_rows_that_come_one_by_one_are_held_in_part_and_arrive_in_full():
    rows = ((f"p{number}", number) for number in range(2 * tables.ROWS_AT_ONCE + 7))
    with Database() as database:
        database.add_rows("listed", {"name": "str", "number": "int64"}, rows)
        assert database.first("select count(*), max(number), count(distinct name) from listed") == (
            2 * tables.ROWS_AT_ONCE + 7, 2 * tables.ROWS_AT_ONCE + 6, 2 * tables.ROWS_AT_ONCE + 7
        )  # fmt: skip
        batches = list(database.batches("select number from listed order by number"))
        assert list(map(len, batches)) == [tables.ROWS_AT_ONCE, tables.ROWS_AT_ONCE, 7]
        assert batches[2][6] == {"number": 2 * tables.ROWS_AT_ONCE + 6}


def test_parts_may_lack_a_column_and_two_columns_of_one_name_are_refused(tmp_path):
    for number, frame in enumerate([pd.DataFrame({"a": [1]}), pd.DataFrame({"b": ["x"], "a": [2]})]):
        tables.write_table(f"{tmp_path}/folder/part-{number}.parquet", frame)
    rows = tables.read_table(f"{tmp_path}/folder")
    assert list(rows["a"]) == [1, 2] and rows["b"].isna().tolist() == [True, False]
    (tmp_path / "twice.csv").write_text("a,a\n1,2\n")
    with pytest.raises(StorageError, match="two columns are named 'a' and 'a'"):
        tables.read_table(f"{tmp_path}/twice.csv")


def test_a_file_is_put_with_the_permissions_of_the_umask_which_stays_as_it_was(tmp_path):
    before = os.umask(0o027)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: objects.put_bytes(f"{tmp_path}/{n}", b"x"), range(200)))
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}


def test_a_listing_of_many_pages_is_whole(s3, monkeypatch):
    monkeypatch.setattr("cluster.storage.s3.KEYS_PER_PAGE", 7)
    names = [f"{number:05d}" for number in range(100)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: objects.put_bytes(f"{s3}/many/{name}", b"x"), names))
    objects.put_bytes(f"{s3}/many-others", b"x")
    assert [file.path for file in objects.list_files(f"{s3}/many")] == names


def test_bytes_that_are_no_table_are_named(root):
    url = urls.join_url(root, "bad.parquet")
    objects.put_bytes(url, b"<html>")
    with pytest.raises(StorageError, match="can't be read as Parquet"):
        tables.read_table(url)


def test_what_is_no_file_is_refused_and_nobody_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("pipe.png", ""):
        with pytest.raises(urls.StorageError, match="no regular file"):
            objects.read_bytes(str(tmp_path / name))


def test_only_the_first_of_two_creates_a_file(tmp_path):
    url = str(tmp_path / "folder" / "x.json")
    assert objects.create_bytes(url, b"first")
    assert not objects.create_bytes(url, b"second")
    assert objects.read_bytes(url) == b"first"


def test_a_url_shows_no_secret():
    shown = urls.redact_url("s3://key:secret@bucket/path?token=secret")
    assert shown == "s3://bucket/path"
    assert urls.redact_url("/a/b?c@d") == "/a/b?c@d"


@pytest.fixture
def web_server(tmp_path):
    """The URL of a web server, which shows the files of tmp_path."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_single_files_of_a_web_server_are_read_and_its_folders_are_not_listed(tmp_path, web_server):
    (tmp_path / "ir").mkdir()
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(pixels).save(tmp_path / "ir/a.png")
    (tmp_path / "pairs.csv").write_text("pair_id,ir_url,vis_url\na,ir/a.png,ir/a.png\n")
    with Database() as database:
        open_index(database, f"{web_server}/pairs.csv")
        (row,) = database.frame("from pairs").to_dict("records")
    assert row["ir_url"] == f"{web_server}/ir/a.png"
    row, opening = row | {"window": 0}, Opening(max_pixels=1000, window=1024, halo=32)
    read = read_window(row, opening=opening)
    assert read["reason"] == "" and read["ir"] == pixels.tobytes()
    gone = read_window(row | {"vis_url": f"{web_server}/ir/b.png"}, opening=opening)
    assert gone["reason"] == "missing_file"
    with pytest.raises(StorageError, match="web server, which can't be listed.*give an --index"):
        objects.list_files(f"{web_server}/ir")


@pytest.mark.parametrize("scheme", ["odd", "gs"])
def test_a_scheme_that_cannot_be_used_is_named_with_what_can(scheme):
    if scheme == "gs" and importlib.util.find_spec("gcsfs"):
        pytest.skip("gcsfs is installed")
    for use in (objects.list_files, objects.read_bytes, objects.exists):
        with pytest.raises(StorageError, match=f"^URLs of {scheme}:// can't be used .*expected local"):
            use(f"{scheme}://place/x")


def test_an_unreachable_store_is_one_line_without_credentials(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # discard: nobody listens
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-id-7")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-key-7")
    one_attempt = S3_OPTIONS["config_kwargs"] | {"retries": {"total_max_attempts": 1}}
    monkeypatch.setitem(S3_OPTIONS, "config_kwargs", one_attempt)
    monkeypatch.setattr("cluster.storage.s3.S3_ROUNDS", 1)
    filesystem.cache_clear()
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StorageError, match="can't be used") as caught:
        objects.list_files("s3://nobody/here")
    filesystem.cache_clear()
    assert "s3://nobody/here" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "key-7" not in str(caught.value) and "key-id-7" not in str(caught.value)


def test_a_loop_of_links_ends_and_a_dangling_link_is_listed(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.png").write_bytes(b"x")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    files = objects.list_files(str(tmp_path))
    assert [(file.path, file.size) for file in files] == [("gone.png", -1), ("sub/a.png", 1)]


def test_a_missing_object_is_told_from_a_missing_bucket_whatever_their_names(s3):
    absent = f"{s3}/my-bucket/nothing"
    assert not objects.is_file(absent) and not objects.exists(absent)
    with pytest.raises(FileNotFoundError, match="no such object"):
        objects.read_bytes(absent)
    for ask in (objects.is_file, objects.read_bytes):
        with pytest.raises(urls.StorageError, match="can't be used"):
            ask(f"{s3}-elsewhere/nothing")
