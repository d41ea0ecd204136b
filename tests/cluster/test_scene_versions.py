"""Files that a scene's sources name: which of their versions it is fused from is checked at its end."""

import os
import shutil

import numpy as np
import pytest
import rasterio
import zarr

from cluster.archive.sources.open import open_source
from cluster.fusing.steps.read import Opening
from cluster.fusing.steps.score import finish_scene
from cluster.storage import fused_store, objects
from tests.cluster.scenes import on_earth, put_scene, score_scene

OPENING = Opening(max_pixels=10_000, window=32, halo=32)
SIDE = 48
"""Pixels along a side of the scene, which has four windows."""
NUM_SOURCES = 2


def put_tiff(path, seed):
    """Write one half of a scene, with the date that a copy to an archive may keep."""
    pixels = np.random.default_rng(seed).integers(60, 200, (1, SIDE, SIDE // 2), dtype=np.uint8)
    with rasterio.open(
        path, "w", driver="GTiff", height=SIDE, width=SIDE // 2, count=1, dtype="uint8"
    ) as file:
        file.write(pixels)
    os.utime(path, (1_700_000_000 + seed,) * 2)


def put_vrt(folder):
    """Write a VRT of two TIFFs side by side; return its path."""
    bands = ""
    for number in range(NUM_SOURCES):
        put_tiff(folder / f"{number}.tif", number)
        bands += (
            f'<SimpleSource><SourceFilename relativeToVRT="1">{number}.tif</SourceFilename>'
            f'<SourceBand>1</SourceBand><SrcRect xOff="0" yOff="0" xSize="{SIDE // 2}" ySize="{SIDE}"/>'
            f'<DstRect xOff="{number * SIDE // 2}" yOff="0" xSize="{SIDE // 2}" ySize="{SIDE}"/>'
            "</SimpleSource>"
        )
    path = folder / "both.vrt"
    path.write_text(
        f'<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE}"><VRTRasterBand dataType="Byte" band="1">'
        f"{bands}</VRTRasterBand></VRTDataset>"
    )
    return path


def put_zarr(path):
    pixels = np.random.default_rng(7).integers(1, 255, (SIDE, SIDE), dtype=np.uint8)
    array = zarr.create_array(
        str(path), shape=pixels.shape, dtype="u1", chunks=(16, 16), dimension_names=("y", "x")
    )
    array[:] = pixels
    return path


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A folder with a scene of a VRT and a Zarr array whose windows are all scored, and its row."""
    folder = tmp_path_factory.mktemp("scored")
    row = {
        "pair_id": "a", "ir_url": str(put_vrt(folder)), "vis_url": str(put_zarr(folder / "vis.zarr")),
        "window": 0,
    }  # fmt: skip
    scene, options = score_scene(row, OPENING, folder)
    assert scene["num_windows"] == 4
    return folder, scene, options


def finished(scored, tmp_path, change):
    """Finish a copy of the scene after a change to its files; return the row and the store."""
    folder, scene, options = scored
    shutil.copytree(folder, tmp_path / "copy")  # with the times of all files
    change(tmp_path / "copy")
    here = {
        name: value.replace(str(folder), f"{tmp_path}/copy")
        for name, value in {**scene, **options}.items()
        if name.endswith("_url")
    }
    options = options | {name: here[name] for name in ("store_url", "statistics_url")}
    return finish_scene(scene | here, **options), options["store_url"]


def test_a_scene_whose_files_stay_is_fused_also_after_they_were_moved_with_their_times(scored, tmp_path):
    done, store = finished(scored, tmp_path, lambda folder: None)
    assert (done["status"], done["reason"]) == ("fused", ""), done["detail"]
    assert fused_store.read_fused(store, "a").shape == (SIDE, SIDE)


CHANGES = {
    "a TIFF below the VRT": lambda folder: put_tiff(folder / "1.tif", 9),
    "a TIFF that is gone": lambda folder: (folder / "0.tif").unlink(),
    "two TIFFs exchanged": lambda folder: exchange(folder / "0.tif", folder / "1.tif"),
    "a chunk": lambda folder: (folder / "vis.zarr/c/2/1").write_bytes(b"another version"),
    "a chunk that is gone": lambda folder: (folder / "vis.zarr/c/0/0").unlink(),
    "metadata": lambda folder: os.utime(folder / "vis.zarr/zarr.json", (0, 0)),
}


def exchange(one, other):
    kept = one.with_suffix(".kept")
    one.rename(kept), other.rename(one), kept.rename(other)


@pytest.mark.parametrize("name", CHANGES)
def test_a_scene_of_which_a_file_was_replaced_is_no_scene_and_says_so(name, scored, tmp_path):
    done, store = finished(scored, tmp_path, CHANGES[name])
    assert (done["status"], done["reason"]) == ("rejected", "failed")
    assert "was replaced while the scene was fused, expected one version" in done["detail"]
    assert fused_store.list_fused(store) == []


def test_on_s3_the_objects_of_an_array_are_listed_and_the_tiffs_of_a_vrt_asked_for(s3, tmp_path):
    put_zarr(tmp_path / "vis.zarr"), put_vrt(tmp_path)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            objects.put_bytes(f"{s3}/{path.relative_to(tmp_path)}", path.read_bytes())

    def versions():
        found = []
        for name in ("vis.zarr", "both.vrt"):
            with open_source(f"{s3}/{name}", max_pixels=10_000) as source:
                found.append(source.parts_version())
        return found

    first = versions()
    assert versions() == first and all(len(version) == 32 for version in first)
    objects.put_bytes(f"{s3}/vis.zarr/c/2/1", b"another version")
    second = versions()
    assert second[0] != first[0] and second[1] == first[1]
    objects.put_bytes(f"{s3}/1.tif", (tmp_path / "0.tif").read_bytes())
    assert versions()[1] != first[1]


def test_flags_and_place_of_our_own_output_are_parts_and_a_plain_file_has_none(tmp_path):
    put_scene(str(tmp_path), "a", on_earth())
    found = []
    for path in ("", "a/valid/c/0/0", "a/spatial_ref/zarr.json", "a/x/zarr.json"):
        if path:
            os.utime(tmp_path / path, (0, 0))
        with open_source(f"{tmp_path}/a", max_pixels=10_000) as source:
            found.append(source.parts_version())
    assert len(set(found)) == 3 and found[2] == found[3]  # coordinates are not read
    put_tiff(tmp_path / "plain.tif", 0)
    with open_source(str(tmp_path / "plain.tif"), max_pixels=10_000) as source:
        assert source.parts_version() == ""
