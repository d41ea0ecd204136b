"""The rooms and their imports: one way only, no circle, each library in its own room."""

from graphlib import CycleError, TopologicalSorter

import pytest

from docs.draw_architecture import ROOT, import_graph, imported, module_of, modules

TOP_ROOMS = ("fusing", "evaluating", "training", "exporting", "reporting")
MAY_IMPORT = {
    "text": set(),
    "storage": {"text"},
    "archive": {"text", "storage"},
    "runtime": {"text", "storage"},
    **{room: {"text", "storage", "archive", "runtime"} for room in TOP_ROOMS},
}
"""Rooms of `cluster` that a room may import, apart from itself."""
FORBIDDEN = {
    "dmnet_core": {
        *("ray", "fsspec", "s3fs", "zarr", "pyarrow", "duckdb", "cluster", "jobs", "PIL", "rasterio")
    },
    "jobs": {"ray", "torch", "fsspec", "zarr", "pyarrow", "duckdb", "numpy"},
    "cluster": {"jobs"},
}
ONLY_IN = {
    **dict.fromkeys(
        ("fsspec", "s3fs", "pyarrow", "duckdb", "zarr", "zarr_cm", "stac_geoparquet"), {"storage"}
    ),
    "ray": {"runtime", *TOP_ROOMS},
    **dict.fromkeys(("PIL", "rasterio", "pystac", "shapely"), {"archive"}),
    **dict.fromkeys(("bokeh", "jinja2", "markupsafe"), {"reporting"}),
}
"""Libraries that only some rooms of `cluster` import."""
NO_RAY = ("fusing/steps", "evaluating/scoring.py", "exporting/writing.py", "training/crops.py")
"""Parts of the top rooms that are plain functions on rows."""


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
    try:
        TopologicalSorter(import_graph()).prepare()
    except CycleError as error:
        pytest.fail(f"these modules import each other: {' <- '.join(error.args[1])}")
