"""The rooms and their imports: one way only, no circle, each library in its own room."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOP_ROOMS = ("fusing", "evaluating", "training", "exporting")
MAY_IMPORT = {
    "text": set(),
    "storage": {"text"},
    "archive": {"text", "storage"},
    "runtime": {"text", "storage"},
    **{room: {"text", "storage", "archive", "runtime"} for room in TOP_ROOMS},
}
"""Rooms of `cluster` that a room may import, apart from itself."""
FORBIDDEN = {
    "dmnet_core": {"ray", "fsspec", "s3fs", "zarr", "pyarrow", "duckdb", "cluster", "jobs", "PIL"},
    "jobs": {"ray", "torch", "fsspec", "zarr", "pyarrow", "duckdb", "numpy"},
    "cluster": {"jobs"},
}
ONLY_IN = {
    **dict.fromkeys(("fsspec", "s3fs", "pyarrow", "duckdb", "zarr"), {"storage"}),
    "ray": {"runtime", *TOP_ROOMS},
    "PIL": {"archive"},
}
"""Libraries that only some rooms of `cluster` import."""
NO_RAY = ("fusing/steps", "evaluating/scoring.py", "training/crops.py")
"""Parts of the top rooms that are plain functions on rows."""


def modules(*packages):
    """Return the source file of every module, by its dotted name; a package is its __init__."""
    found = {}
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path):
    """Return every name that a file imports, wherever in it, also under TYPE_CHECKING."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import, expected none"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def module_of(name, known):
    """Return the known module that an imported name is, or is in; None where it is none of ours."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_a_package_imports_nothing_above_it_or_beyond_its_task(package):
    files = modules(package)
    assert files
    for name, path in files.items():
        wrong = {other.partition(".")[0] for other in imported(path)} & FORBIDDEN[package]
        assert not wrong, f"{name} imports {wrong}"


def test_a_room_imports_only_the_rooms_below_it():
    known = modules("cluster")
    for name, path in known.items():
        _, _, below = name.partition(".")
        room = below.partition(".")[0]
        if not room:
            continue
        ours = {module_of(other, known) for other in imported(path)} - {None}
        rooms = {other.split(".")[1] for other in ours if "." in other}
        assert rooms <= MAY_IMPORT[room] | {room}, f"{name} imports {rooms - MAY_IMPORT[room]}"


def test_each_library_is_imported_only_where_it_belongs():
    for name, path in modules("cluster").items():
        libraries = {other.partition(".")[0] for other in imported(path)}
        for library in libraries & ONLY_IN.keys():
            assert name.split(".")[1] in ONLY_IN[library], f"{name} imports {library}"
        if str(path.relative_to(ROOT / "cluster")).startswith(NO_RAY):
            assert "ray" not in libraries, f"{name} imports ray"


def test_no_import_goes_in_a_circle():
    known = modules("jobs", "cluster", "dmnet_core")
    graph = {}
    for name, path in known.items():
        graph[name] = {module_of(other, known) for other in imported(path)} - {None, name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"these modules import each other: {' <- '.join(error.args[1])}")
