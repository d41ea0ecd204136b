"""Imports go jobs -> cluster -> dmnet_core and never back."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FORBIDDEN = {
    "dmnet_core": {"ray", "fsspec", "s3fs", "zarr", "pyarrow", "cluster", "jobs", "PIL"},
    "jobs": {"ray", "torch", "fsspec", "zarr", "pyarrow", "numpy"},
}
STORAGE_ONLY = {
    "fsspec": "storage.py", "s3fs": "storage.py", "pyarrow": "storage.py", "zarr": "fused_store.py",
}  # fmt: skip
STEPS = ("steps.py", "decode.py", "storage.py", "pair_index.py", "scoring.py", "train_data.py")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_a_package_imports_nothing_above_it(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {str(f): imported(f) & FORBIDDEN[package] for f in files}
    assert not {name: found for name, found in wrong.items() if found}


def test_only_storage_knows_the_storage_libraries_and_no_step_knows_ray():
    for path in sorted((ROOT / "cluster").glob("*.py")):
        for library in imported(path) & set(STORAGE_ONLY):
            assert path.name == STORAGE_ONLY[library], path
        if path.name in STEPS:
            assert "ray" not in imported(path), path
        assert "jobs" not in imported(path), path
