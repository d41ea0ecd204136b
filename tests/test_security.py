"""What docs/security.md says of the code itself: it unpickles nothing, whatever it is given to read."""

import ast
import io
import json
import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import ray.data  # noqa: F401  registers the column types that a hostile table would use
import ray.train
import torch

from cluster.archive.contact_sheet import draw_strip
from cluster.runtime import local_only
from cluster.storage import fused_store, objects, tables
from cluster.storage.urls import StorageError
from cluster.training.config import TrainConfig
from cluster.training.crops import decode_pair
from cluster.training.loop import _settings, _Worker

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("jobs", "cluster", "dmnet_core", "benchmarks")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
UNPICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
CALLS = {"read_pickle", "to_pickle", "unsafe_load"}
BUILTINS = {"eval", "exec", "compile", "__import__"}


class Hostile:
    """Makes a folder where it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def unpickling(source):
    """Return the places of a source that unpickle or run what they read."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".")]
        elif isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        found += [f"line {node.lineno}: {name}" for name in names if name in UNPICKLERS | CALLS]
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        options = {word.arg: ast.unparse(word.value) for word in node.keywords}
        last = call.rpartition(".")[2]
        wrong = (
            last in CALLS
            or call in BUILTINS
            or call.partition(".")[0] in UNPICKLERS
            or (call in ("torch.load", "load") and options.get("weights_only") != "True")
            or (last == "load" and call.startswith("yaml"))
            or options.get("allow_pickle", "False") != "False"
        )
        found += [f"line {node.lineno}: {call}"] if wrong else []
    return found


def test_no_source_of_the_project_unpickles():
    assert len(SOURCES) > 40
    found = {str(path): unpickling(path.read_text()) for path in SOURCES}
    assert not {name: places for name, places in found.items() if places}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from ray import cloudpickle",
        "import ray.cloudpickle as c",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
        "from pandas import read_pickle",
        "yaml.load(text, Loader=yaml.Loader)",
        "eval(text)",
    ],
)
def test_the_search_finds_what_unpickles(source):
    assert unpickling(source)


def test_a_training_goes_on_from_no_state_that_holds_a_pickle(tmp_path, monkeypatch):
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    state = {"model": {}, "progress": Hostile(tmp_path / "pwned")}
    torch.save(state, checkpoint / "state.pt")
    given = ray.train.Checkpoint.from_directory(str(checkpoint))
    monkeypatch.setattr(ray.train, "get_checkpoint", lambda: given)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        _Worker._restore(object.__new__(_Worker))
    assert not (tmp_path / "pwned").exists()
    torch.load(checkpoint / "state.pt", weights_only=False)
    assert (tmp_path / "pwned").exists()  # so it was hostile


def hostile_table(name, metadata, column):
    """Return a Parquet pair index with a column that claims to be of an extension type."""
    field = pa.field(
        "site",
        column.type,
        metadata={"ARROW:extension:name": name, "ARROW:extension:metadata": metadata},
    )
    needed = {"pair_id": ["a"], "ir_url": ["x"], "vis_url": ["y"]}
    schema = pa.schema([*(pa.field(key, pa.string()) for key in needed), field])
    buffer = io.BytesIO()
    pa.parquet.write_table(pa.table([*map(pa.array, needed.values()), column], schema=schema), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "name",
    ["ray.data.arrow_pickled_object", "ray.data.arrow_tensor", "arrow.py_extension_type"],
)
def test_a_table_with_a_column_that_a_library_would_unpickle_is_refused(tmp_path, name):
    data = pickle.dumps(Hostile(tmp_path / "pwned"))
    column = pa.array([data], pa.large_binary())
    if name == "ray.data.arrow_tensor":
        column = pa.array([[1.0]], pa.list_(pa.float64()))
    path = tmp_path / "pairs.parquet"
    path.write_bytes(hostile_table(name, data, column))
    with pytest.raises(StorageError, match="can't be read as Parquet"):
        tables.read_table(str(path))
    assert not (tmp_path / "pwned").exists()


def test_a_table_of_plain_columns_is_read(tmp_path):
    columns = {"a": "str", "b": "int64"}
    tables.write_rows(str(tmp_path / "t.parquet"), [{"a": "x", "b": 1}], columns)
    assert tables.read_table(str(tmp_path / "t.parquet")).to_dict("records") == [{"a": "x", "b": 1}]


@pytest.mark.parametrize("codec", ["pickle", "numcodecs.pickle"])
def test_a_store_whose_pixels_would_be_unpickled_is_refused(tmp_path, codec):
    array = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [8, 8],
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [8, 8]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": codec, "configuration": {}}],
    }
    objects.put_bytes(f"{tmp_path}/pair/fused/zarr.json", json.dumps(array).encode())
    objects.put_bytes(f"{tmp_path}/pair/fused/c/0/0", pickle.dumps(Hostile(tmp_path / "pwned")))
    with pytest.raises(ValueError, match="Unknown codec"):
        fused_store.read_fused(str(tmp_path), "pair")
    assert not (tmp_path / "pwned").exists()


def test_a_model_card_names_its_indexes_without_their_secrets():
    config = TrainConfig(
        index_urls=("https://host/get?token=hunter2.parquet", "s3://K:hunter2@bucket/b.csv"),
        output_url="gs://bucket/o?token=hunter2",
        checkpoint_url="https://host/w.safetensors?token=hunter2",
    )
    settings = _settings(config)
    assert settings["index_urls"] == ["get", "b.csv"]
    assert "hunter2" not in json.dumps(settings)


def test_a_pair_that_can_not_be_trained_on_is_named_without_its_secrets():
    url = "http://user:hunter2@127.0.0.1:9/x.png?token=hunter2"
    reason = decode_pair({"pair_id": "a", "ir_url": url, "vis_url": url})["reason"]
    assert "127.0.0.1" in reason and "hunter2" not in reason


def test_the_picture_of_a_pair_shows_a_name_in_one_line():
    images = [np.zeros((8, 8), np.uint8)] * 3
    hostile = draw_strip(images, "a\nb\x1b[2J\u202e")
    assert hostile.tobytes() == draw_strip(images, "a?b?[2J?").tobytes()
    assert hostile.tobytes() != draw_strip(images, "a").tobytes()


def test_the_files_of_a_local_ray_lie_where_nobody_else_was_before(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as base:
        monkeypatch.setenv("RAY_TMPDIR", base)
        ours = Path(base) / f"dmnet-{os.getuid()}"
        assert local_only.private_folder() == local_only.private_folder() == f"{ours}/ray"
        assert ours.stat().st_mode & 0o777 == 0o700
        ours.chmod(0o777)  # as someone who was there first would leave it
        other = Path(local_only.private_folder()).parent
        assert other != ours and other.stat().st_mode & 0o777 == 0o700
        ours.rmdir()
        ours.symlink_to(other)
        assert Path(local_only.private_folder()).parent not in (ours, other)


def test_a_folder_too_deep_for_the_sockets_of_ray_is_named_with_the_way_out(tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 60)
    deep.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(deep))
    with pytest.raises(ValueError, match="expected a path of at most 35 bytes: set RAY_TMPDIR=/tmp"):
        local_only.private_folder()


def test_what_closes_a_local_ray_is_taken_back_after_it(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-a-cluster")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    before, clusters = dict(os.environ), local_only.ray_constants.ENABLE_RAY_CLUSTER
    with local_only.closed_to_others():
        assert os.environ["RAY_AUTH_TOKEN"] == local_only.LOCAL_TOKEN != "of-a-cluster"
        assert local_only.ray_constants.ENABLE_RAY_CLUSTER is False
    assert dict(os.environ) == before
    assert local_only.ray_constants.ENABLE_RAY_CLUSTER is clusters
