"""After a disaster: arrays, the store's root, the tables, the lease or the ledger are gone."""

import shutil
from pathlib import Path

import pytest

from cluster.storage import objects
from tests.e2e.archives import check_pixels, fuse_arguments, read_metrics, run_job, write_archive


@pytest.fixture(scope="module")
def fused_archive(shared_ray, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recovery")
    pairs = write_archive(str(folder / "archive"), 6)
    arguments = fuse_arguments(str(folder / "archive"), str(folder / "out"))
    done = run_job("fuse_archive", *arguments)
    assert done.returncode == 0, done.stderr
    return pairs, arguments, str(folder / "out")


def test_a_store_that_lost_arrays_is_made_whole_again_by_verify(fused_archive):
    pairs, arguments, output = fused_archive
    store = Path(output) / "fused.zarr"
    assert all((store / f"{name}/fused/zarr.json").is_file() for name in pairs)
    shutil.rmtree(store / "day/000")
    (store / "day/001/fused/c/0/0/0").unlink()
    (store / "day/002/fused/zarr.json").write_bytes(b"")
    (store / "day/003/zarr.json").unlink()
    blind = run_job("fuse_archive", *arguments)
    assert "nothing left to do" in blind.stdout
    done = run_job("fuse_archive", *arguments, "--verify")
    assert done.returncode == 0, done.stderr
    assert "2 whole arrays in the store; 4 that the ledger holds are not there" in done.stdout
    assert "6 = 6 fused + 0 rejected" in done.stdout
    check_pixels(output, pairs)
    assert "0 that the ledger holds" in run_job("fuse_archive", *arguments, "--verify").stdout


def test_a_lost_root_is_written_again_without_fusing(fused_archive):
    pairs, arguments, output = fused_archive
    root = Path(output) / "fused.zarr/zarr.json"
    before = root.read_bytes()
    root.unlink()
    done = run_job("fuse_archive", *arguments)
    assert done.returncode == 0 and "nothing left to do" in done.stdout, done.stderr
    assert root.read_bytes() == before


def test_lost_tables_and_a_lost_lease_come_back_without_fusing(fused_archive):
    pairs, arguments, output = fused_archive
    for name in ("metrics.parquet", "rejected.parquet", "lease"):
        shutil.rmtree(Path(output) / name)
    (Path(output) / "preview.png").unlink()
    done = run_job("fuse_archive", *arguments)
    assert done.returncode == 0 and "nothing left to do" in done.stdout, done.stderr
    assert sorted(read_metrics(output)["pair_id"]) == sorted(pairs)
    assert objects.exists(f"{output}/rejected.parquet") and objects.exists(f"{output}/preview.png")


@pytest.mark.slow
def test_a_lost_ledger_costs_the_time_and_changes_no_pixel(fused_archive):
    pairs, arguments, output = fused_archive
    shutil.rmtree(Path(output) / "ledger")
    store = Path(output) / "fused.zarr"
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    done = run_job("fuse_archive", *arguments)
    assert done.returncode == 0 and "6 = 6 fused" in done.stdout, done.stderr
    after = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    assert sorted(after) == sorted(before)
    check_pixels(output, pairs)
    assert sorted(read_metrics(output)["pair_id"]) == sorted(pairs)
    assert list((Path(output) / "ledger").glob("*.parquet"))
