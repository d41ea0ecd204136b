"""Small scenes for tests, and the way a run stores them."""

import numpy as np
from rasterio.crs import CRS

from cluster.fusing.steps.fuse import FuseWindows
from cluster.fusing.steps.read import read_window
from cluster.fusing.steps.score import score_window
from cluster.fusing.steps.write import write_window
from cluster.storage import objects
from cluster.storage.scene_store import (
    SceneLayout,
    create_scene,
    finish_scene,
    write_overviews,
    write_scene_window,
)
from dmnet_core.checkpoint import load_checkpoint
from dmnet_core.prepare import Reading

UTM = CRS.from_epsg(32610)
PLACE = (30.0, 0.0, 500_000.0, 0.0, -30.0, 4_100_000.0)


def layout_of(height=100, width=150, bands=1, dtype="uint8", window=64, **changed):
    return SceneLayout(
        height=height, width=width, bands=bands, dtype=dtype, window=window, **changed
    )


def on_earth(crs=UTM, wkt="WKT2_2019", **changed):
    code = crs.to_epsg()
    return layout_of(
        **{
            "crs_wkt": crs.to_wkt(version=wkt),
            "crs_code": f"EPSG:{code}" if code else "",
            "transform": PLACE,
        }
        | changed
    )


def picture(layout, seed=0):
    """Return random pixels, (H, W[, bands]), and flags, most of them set."""
    generator = np.random.default_rng(seed)
    shape = (layout.height, layout.width, layout.bands)[: 2 + (layout.bands > 1)]
    pixels = (generator.random(shape) * 250 + 1).astype(layout.dtype)
    return pixels, generator.random(shape[:2]) > 0.1


def put_windows(store, name, layout, pixels, valid):
    n = layout.window
    for row in range(layout.num_rows):
        for column in range(layout.num_columns):
            place = np.s_[row * n : row * n + n, column * n : column * n + n]
            write_scene_window(store, name, layout, row, column, pixels[place], valid[place])


def put_scene(store, name, layout, pixels=None, valid=None):
    """Store a whole scene as a run does."""
    if pixels is None:
        pixels, valid = picture(layout)
    create_scene(store, name, layout)
    put_windows(store, name, layout, pixels, valid)
    write_overviews(store, name, layout)
    finish_scene(store, name, layout, {"pair_id": name})
    return pixels, valid


def score_scene(row, opening, output):
    """Survey a scene, fuse and score its windows by the steps of a run; return its row and the options.

    Args:
        row: pair_id, ir_url, vis_url and window 0.
        opening: how it is cut into windows.
        output: folder of the store and the statistics.
    """
    options = {
        "store_url": f"{output}/fused.zarr", "statistics_url": f"{output}/statistics",
        "fingerprint": "F", "opening": opening,
    }  # fmt: skip
    fuse_windows = FuseWindows(
        checkpoint_url=None, digest=load_checkpoint().digest, device="cpu", num_threads=1,
        reading=Reading(), opening=opening, statistics_url=options["statistics_url"],
        output_dtype="uint8", precision="fp32", seed=0,
    )  # fmt: skip

    def fused(row):
        (done,) = fuse_windows.fuse_rows([read_window(row, opening=opening)])
        return write_window(done, **options)

    survey = fused(row)
    assert survey["status"] == "surveyed", survey["detail"]
    sizes = {"scene_height": survey["height"], "scene_width": survey["width"]}
    scene = survey | sizes | {"recorded_at": 1.0}
    windows = [fused(scene | {"window": number}) for number in range(1, survey["num_windows"] + 1)]
    for window in windows:
        assert window["status"] == "fused", window["detail"]
        assert window["source_version"] == survey["source_version"]
        scored = score_window(scene | window, **options)
        assert scored["status"] == "scored", scored["detail"]
    return scene, options


def files_of(url):
    return sorted(file.path for file in objects.find_files(url))
