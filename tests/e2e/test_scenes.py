"""Images of more than a window through the whole job: by windows, resumed, scored, opened by others."""

import json

import numpy as np
import pytest
import rasterio
import torch
import xarray
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds

from cluster.archive.sources.open import open_source
from cluster.fusing.ledger import COLUMNS
from cluster.storage import fused_store, objects, tables, urls
from dmnet_core.inference import fused_luminance
from dmnet_core.levels import to_levels
from dmnet_core.metrics import METRICS, fusion_metrics
from dmnet_core.scene import fuse_scene
from dmnet_core.synthetic import render_scene
from tests.e2e.archives import (
    check_pixels,
    fuse_arguments,
    png,
    read_metrics,
    read_parquet,
    read_rejected,
    run_job,
    shipped_model,
    write_archive,
)

pytestmark = pytest.mark.usefixtures("shared_ray")
WINDOW = 96
ORIGIN = (500_000.0, 5_000_000.0)
PLACE = {"crs": "EPSG:32632", "transform": from_origin(*ORIGIN, 2.0, 2.0)}


def put_geotiff(path, pixels, **place):
    """Write (H, W) or (H, W, 3) as a tiled GeoTIFF."""
    bands = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", height=bands.shape[1], width=bands.shape[2], count=len(bands),
        dtype=bands.dtype, tiled=True, blockxsize=64, blockysize=64, compress="deflate", **place,
    ) as file:  # fmt: skip
        file.write(bands)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """An archive of a frame and three scenes, their pixels, and the output of one run over them."""
    folder = tmp_path_factory.mktemp("scenes")
    frames = write_archive(str(folder), 1, height=96, width=112)
    ir, vis = render_scene("night_road", 1, 211, 187)
    objects.put_bytes(f"{folder}/ir/plain.png", png(ir))
    objects.put_bytes(f"{folder}/vis/plain.png", png(vis))
    # 16-bit counts with a hole that the file declares, three times coarser than the visible image
    ir, vis = render_scene("aerial", 2, 240, 300)
    counts = 20_000 + 40 * ir[::3, ::3].astype(np.uint16)
    counts[:40, :30] = 0
    put_geotiff(folder / "ir/map.tif", counts, nodata=0, crs=PLACE["crs"],
                transform=from_origin(*ORIGIN, 6.0, 6.0))  # fmt: skip
    put_geotiff(folder / "vis/map.tif", vis, **PLACE)
    intact = (folder / "vis/map.tif").read_bytes()
    damaged = len(intact) // 2
    (folder / "vis/broken.tif").write_bytes(intact[:damaged] + bytes(3000) + intact[damaged + 3000 :])
    (folder / "ir/broken.tif").write_bytes((folder / "ir/map.tif").read_bytes())
    output = str(folder / "out")
    arguments = ["fuse_archive", *fuse_arguments(str(folder), output), "--window", str(WINDOW)]
    job = run_job(*arguments)
    assert job.returncode == 0, job.stderr + job.stdout
    return folder, output, arguments, frames, job


def metrics_of(output):
    return read_metrics(output).set_index("pair_id")


def test_scenes_and_frames_of_one_archive_are_fused_and_counted(archive):
    folder, output, arguments, frames, job = archive
    found = metrics_of(output)
    assert sorted(found.index) == ["day/000", "map", "plain"]
    assert found["num_windows"].to_dict() == {"day/000": 1, "map": 12, "plain": 6}
    assert found["grid"].to_dict() == {"day/000": "identity", "map": "georeferenced", "plain": "identity"}
    assert found.loc["map", ["height", "width", "bands"]].tolist() == [240, 300, 3]
    rejected = read_rejected(output).set_index("pair_id")
    assert list(rejected.index) == ["broken"]
    assert "4 = 3 fused + 1 rejected" in job.stdout
    check_pixels(output, frames)  # a frame among scenes is what it is alone
    stored = [file.path for file in objects.find_files(f"{output}/statistics")]
    assert "plain.safetensors" in stored and not [path for path in stored if path.endswith(".npz")]


def test_a_scene_of_the_job_is_that_of_the_function_on_arrays(archive):
    folder, output, *_ = archive
    ir, vis = render_scene("night_road", 1, 211, 187)
    expected = fuse_scene(shipped_model(), ir, vis, window=WINDOW, pair_id="plain").astype(int)
    stored = fused_store.read_fused(f"{output}/fused.zarr", "plain").astype(int)
    difference = np.abs(stored - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


def test_metrics_of_a_scene_are_those_of_the_whole_image(archive):
    folder, output, *_ = archive
    ir, vis = render_scene("night_road", 1, 211, 187)
    fused = fused_luminance(fused_store.read_fused(f"{output}/fused.zarr", "plain"))
    images = [fused_luminance(image) for image in (ir, vis)] + [fused]
    levels = [to_levels(torch.from_numpy(image)[None, None]) for image in images]
    whole = fusion_metrics(*levels)
    merged = metrics_of(output).loc["plain"]
    for name in METRICS:
        assert merged[name] == pytest.approx(float(whole[name][0]), rel=1e-6), name


def test_no_data_of_a_scene_is_masked_and_in_no_range(archive):
    folder, output, *_ = archive
    found = metrics_of(output).loc["map"]
    assert found["ir_low"] >= 20_000
    valid = fused_store.read_valid(f"{output}/fused.zarr", "map")
    hole = np.zeros((240, 300), bool)
    hole[:120, :90] = True
    assert (valid != ~hole).mean() < 0.01  # but for the pixels along its edge
    assert found["valid_share"] == pytest.approx(valid.mean(), abs=1e-9)


def test_a_scene_is_opened_by_gis(archive):
    folder, output, *_ = archive
    scene = xarray.open_zarr(f"{output}/fused.zarr/map", decode_coords="all", consolidated=False)
    assert scene["fused"].dims == ("band", "y", "x")
    assert float(scene["x"][0]) == ORIGIN[0] + 1 and float(scene["y"][-1]) == ORIGIN[1] - 2 * 240 + 1
    with rasterio.open(f'ZARR:"{output}/fused.zarr/map/fused/c"') as image:
        assert image.crs.to_epsg() == 32632 and image.transform == PLACE["transform"]
        assert image.shape == (240, 300) and image.count == 3
        np.testing.assert_array_equal(image.read(2), scene["fused"].values[1])


def test_a_pair_on_the_earth_has_a_stac_item_by_which_it_is_found(archive, tmp_path):
    folder, output, *_ = archive
    found, of_map = metrics_of(output), read_parquet(f"{output}/ledger").query("pair_id == 'map'")
    assert found["crs"].to_dict() == {"day/000": "", "map": "EPSG:32632", "plain": ""}
    assert found.loc["map", "transform"] == "2.0 0.0 500000.0 0.0 -2.0 5000000.0"
    assert set(of_map.query("window > 0")["crs"]) == {""} and len(of_map) > 12
    west, south, east, north = json.loads(objects.read_bytes(f"{output}/stac/map.json"))["bbox"]
    bounds = (ORIGIN[0], ORIGIN[1] - 480, ORIGIN[0] + 600, ORIGIN[1])
    expected = transform_bounds(PLACE["crs"], "EPSG:4326", *bounds)
    assert (west, south, east, north) == pytest.approx(expected, abs=1e-6)  # a tenth of a metre
    index = str(tmp_path / "index.parquet")
    table = ["--stac", f"{output}/stac/items.parquet"]
    job = run_job(
        "index_archive", *table, "--ir-asset", "fused", "--vis-asset", "fused", "--output", index
    )
    assert job.returncode == 0, job.stderr
    indexed = tables.read_table(index)
    assert list(indexed["pair_id"]) == ["map"]
    with open_source(indexed["vis_url"][0], max_pixels=10**6) as source:
        assert (source.height, source.width) == (240, 300) and source.transform == PLACE["transform"][:6]


def test_a_run_that_ended_half_way_does_only_the_windows_that_are_left(archive, tmp_path):
    folder, output, arguments, *_ = archive
    before = fused_store.read_fused(f"{output}/fused.zarr", "plain")
    again = run_job(*arguments)
    assert again.returncode == 0 and "nothing left to do" in again.stdout
    # As a run leaves it that was killed when four of the six windows were stored.
    ledger = read_parquet(f"{output}/ledger")
    of_scene = ledger[ledger["pair_id"] == "plain"]
    done = of_scene[(of_scene["status"] == "surveyed") | of_scene["window"].isin([1, 2, 4, 6])]
    kept = ledger[ledger["pair_id"] != "plain"].to_dict("records")
    kept += done[done["status"] != "scored"].to_dict("records")
    for file in list(objects.find_files(f"{output}/ledger")):
        objects.delete(file.url)
    tables.write_rows(f"{output}/ledger/part-0.parquet", kept, COLUMNS)
    objects.delete(urls.join_url(output, "fused.zarr/plain/zarr.json"))
    dry = run_job(*arguments, "--dry-run")
    assert "1 of them are scenes, of which only windows are left" in dry.stdout
    rest = run_job(*arguments)
    assert rest.returncode == 0, rest.stderr
    after = read_parquet(f"{output}/ledger")
    new = after[(after["pair_id"] == "plain") & (after["run_id"] != of_scene["run_id"].iloc[0])]
    assert sorted(new.loc[new["status"] == "fused", "window"]) == [0, 3, 5]
    np.testing.assert_array_equal(fused_store.read_fused(f"{output}/fused.zarr", "plain"), before)
