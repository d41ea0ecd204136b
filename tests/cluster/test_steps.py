"""The three steps on rows, without Ray."""

import io
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.crs import CRS
from rasterio.transform import from_origin

from cluster.archive.pair import read_images
from cluster.archive.reasons import BadImage, BadPair
from cluster.archive.sources.source import digest_of
from cluster.fusing.steps import write
from cluster.fusing.steps.attempts import MAX_ATTEMPTS, AttemptCounts
from cluster.fusing.steps.compare import compare_bytes
from cluster.fusing.steps.fuse import FuseWindows
from cluster.fusing.steps.read import Opening, read_window
from cluster.fusing.steps.rows import delete_sums, sums_url
from cluster.fusing.steps.survey import load_survey
from cluster.fusing.steps.write import write_window
from cluster.storage import fused_store, objects
from cluster.storage.scene_store import survey_url
from dmnet_core.checkpoint import load_checkpoint
from dmnet_core.inference import fuse
from dmnet_core.metrics import METRICS
from dmnet_core.prepare import Reading

RANDOM = np.random.default_rng(0)
LAMBERT = "+proj=lcc +lat_1=41 +lat_2=45 +lat_0=43 +lon_0=7 +datum=WGS84"
OPENING = Opening(max_pixels=10_000, window=1024, halo=32)
IR = RANDOM.integers(0, 256, (40, 56), dtype=np.uint8)
VIS = RANDOM.integers(0, 256, (40, 56, 3), dtype=np.uint8)


def put(folder, name, pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    url = str(folder / name)
    objects.put_bytes(url, buffer.getvalue())
    return url


def put_geotiffs(folder, bands, place):
    """Write the first of three bands as the infrared image and all as the visible one; return URLs."""
    row = {}
    for side, number in (("ir", 1), ("vis", 3)):
        row[f"{side}_url"] = str(folder / f"{side}.tif")
        with rasterio.open(
            row[f"{side}_url"], "w", driver="GTiff", height=bands.shape[1], width=bands.shape[2],
            count=number, dtype="uint8", **place,
        ) as file:  # fmt: skip
            file.write(bands[:number])
    return row


@pytest.fixture
def row(tmp_path):
    return {
        "pair_id": "night/1",
        "ir_url": put(tmp_path, "ir.png", IR),
        "vis_url": put(tmp_path, "vis.png", VIS),
        "zarr_path": "night/1",
        "window": 0,
    }


@pytest.fixture(scope="module")
def fuse_windows():
    return make_fuse_windows(load_checkpoint().digest)


def make_fuse_windows(digest):
    return FuseWindows(
        checkpoint_url=None, digest=digest, device="cpu", num_threads=2, reading=Reading(),
        opening=OPENING, statistics_url="", output_dtype="uint8", precision="fp32", seed=0,
    )  # fmt: skip


def run(rows, fuse_windows, store):
    read = [read_window(row, opening=OPENING) for row in rows]
    fused = fuse_windows.fuse_rows(read)
    return [write_window(row, **write_options(store)) for row in fused]


def write_options(store):
    return {
        "store_url": str(store), "statistics_url": f"{store}/statistics", "fingerprint": "F",
        "opening": OPENING,
    }  # fmt: skip


def test_a_pair_is_fused_as_the_function_on_arrays_does(row, fuse_windows, tmp_path):
    (done,) = run([row], fuse_windows, tmp_path / "s")
    assert (done["status"], done["reason"], done["height"], done["bands"]) == ("fused", "", 40, 3)
    assert all(np.isfinite(done[name]) for name in METRICS)
    expected = fuse(load_checkpoint().model, IR, VIS, pair_id="night/1")
    np.testing.assert_array_equal(fused_store.read_fused(str(tmp_path / "s"), "night/1"), expected)
    assert "fused" not in done and "ir" not in done  # no pixels reach the driver
    assert done["crs"] == done["transform"] == ""


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("cluster.fusing.steps.read, cluster.fusing.steps.write", {"torch", "ray"}),
        # what Ray imports in a task that reads or writes, beside the step itself
        ("cluster.fusing.shared_attempts, cluster.runtime.datasets", {"torch"}),
    ],
)
def test_reading_and_writing_import_no_pytorch(modules, absent):
    program = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not absent & set(done.stdout.split())


def test_plain_frames_are_read_without_gdal(row):
    program = (
        "import sys; from cluster.archive.pair import read_images; "
        f"read_images({row!r}, max_pixels=10_000); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"rasterio", "zarr", "torch"} & set(done.stdout.split())


def test_an_image_that_cannot_be_read_is_named_and_the_bytes_before_it_are_counted(row, tmp_path):
    images = read_images(row, max_pixels=40 * 56)
    np.testing.assert_array_equal(images.ir.pixels, IR)
    np.testing.assert_array_equal(images.vis.pixels, VIS)
    num_bytes = {side: (tmp_path / f"{side}.png").stat().st_size for side in ("ir", "vis")}
    assert images.num_bytes == sum(num_bytes.values())
    for side, counted in (("ir", 0), ("vis", num_bytes["ir"])):
        broken = row | {f"{side}_url": str(tmp_path / "gone.png")}
        with pytest.raises(BadPair, match=f"missing_file: {side}: not found") as caught:
            read_images(broken, max_pixels=40 * 56)
        assert caught.value.num_bytes == counted
        read = read_window(broken, opening=replace(OPENING, max_pixels=40 * 56))
        assert (read["reason"], read["read_bytes"]) == ("missing_file", counted)
        assert read["detail"].startswith(f"{side}: ")


def test_a_pair_of_two_sizes_is_fused_on_the_visible_grid(row, fuse_windows, tmp_path):
    row["ir_url"] = put(tmp_path, "small.png", IR[::2, ::2].copy())
    read = read_window(row, opening=replace(OPENING, resample=True))
    assert (read["grid"], read["ir_shape"], read["reason"]) == ("scale", "40 56", "")
    (fused,) = fuse_windows.fuse_rows([read])
    done = write_window(fused, **write_options(tmp_path / "s"))
    assert (done["status"], done["grid"], done["height"]) == ("fused", "scale", 40)
    assert read_window(row, opening=OPENING)["grid"] == ""


@pytest.mark.parametrize(("crs", "recorded"), [("EPSG:32610", "EPSG:32610"), (LAMBERT, "PROJCS[")])
def test_the_row_of_a_frame_says_where_it_lies_by_code_or_else_by_wkt(
    row, crs, recorded, fuse_windows, tmp_path
):
    place = {"crs": CRS.from_string(crs), "transform": from_origin(5e5, 4.1e6, 30, 30)}
    sides = put_geotiffs(tmp_path, np.moveaxis(VIS, 2, 0), place)
    (done,) = run([row | sides], fuse_windows, tmp_path / "s")
    assert done["status"] == "fused" and done["crs"].startswith(recorded) and "crs_code" not in done
    assert CRS.from_string(done["crs"]) == place["crs"]
    assert done["transform"] == "30.0 0.0 500000.0 0.0 -30.0 4100000.0"


def test_a_frame_on_the_earth_has_its_smaller_sizes(row, fuse_windows, tmp_path):
    place = {"crs": "EPSG:32632", "transform": from_origin(500_000.0, 5_000_000.0, 2.0, 2.0)}
    sides = put_geotiffs(tmp_path, RANDOM.integers(0, 256, (3, 16, 520), dtype=np.uint8), place)
    store = str(tmp_path / "s")
    (done,) = run([row | sides], fuse_windows, store)
    assert (done["status"], done["num_windows"]) == ("fused", 1)
    whole = fused_store.read_fused(store, "night/1").astype(float)
    half = fused_store.read_fused(store, "night/1/overviews/2")
    np.testing.assert_allclose(half, whole.reshape(8, 2, 260, 2, 3).mean(axis=(1, 3)), atol=0.5)
    assert fused_store.read_valid(store, "night/1/overviews/2").all()


def test_bytes_are_compared_by_their_digests_and_never_without_one(row):
    read = read_window(row, opening=OPENING)
    known = row | {name: read[name] for name in ("ir_digest", "vis_digest")}
    assert compare_bytes(known) == {"pair_id": "night/1", "same": True}
    assert not compare_bytes(known | {"vis_digest": digest_of(b"others")})["same"]
    assert not compare_bytes(known | {"ir_digest": ""})["same"]


def test_a_colour_image_without_colour_is_stored_as_grey(row, fuse_windows, tmp_path):
    row["vis_url"] = put(tmp_path, "grey.png", np.repeat(VIS[..., :1], 3, axis=2))
    (done,) = run([row], fuse_windows, tmp_path / "s")
    assert done["bands"] == 1


def test_each_bad_pair_has_its_reason_and_the_good_one_is_fused(row, fuse_windows, tmp_path):
    empty = str(tmp_path / "empty.png")
    objects.put_bytes(empty, b"")
    truncated = str(tmp_path / "cut.png")
    objects.put_bytes(truncated, objects.read_bytes(row["ir_url"])[:-30])
    page = str(tmp_path / "page.png")
    objects.put_bytes(page, b"<html>404</html>")
    nan = str(tmp_path / "nan.tif")
    buffer = io.BytesIO()
    Image.fromarray(np.full((40, 56), np.nan, np.float32)).save(buffer, "TIFF")
    objects.put_bytes(nan, buffer.getvalue())
    expected = {
        "empty": {"ir_url": empty},
        "truncated": {"ir_url": truncated},
        "wrong_type": {"vis_url": page},
        "missing_file": {"ir_url": str(tmp_path / "gone.png")},
        "size_mismatch": {"ir_url": put(tmp_path, "turned.png", IR.T.copy())},
        "no_finite_pixels": {"ir_url": nan},
        "too_many_pixels": {"ir_url": put(tmp_path, "large.png", np.zeros((101, 100), np.uint8))},
        "too_small": {
            "ir_url": put(tmp_path, "s1.png", IR[:7, :5].copy()),
            "vis_url": put(tmp_path, "s2.png", VIS[:7, :5].copy()),
        },
    }
    rows = [row | {"pair_id": reason} | change for reason, change in expected.items()]
    done = run([*rows, row], fuse_windows, tmp_path / "s")
    for reason, result in zip(expected, done, strict=False):
        assert (result["status"], result["reason"]) == ("rejected", reason), result["detail"]
        assert result["detail"] and "\n" not in result["detail"]
    assert done[-1]["status"] == "fused"


def test_columns_survive_a_batch_with_bytes_that_end_in_zeros(row, fuse_windows, tmp_path):
    row["ir_url"] = put(tmp_path, "black.png", np.zeros((40, 56), np.uint8))
    read = read_window(row, opening=OPENING)
    batch = {name: np.array([value], dtype=object) for name, value in read.items()}
    out = fuse_windows(batch)
    assert len(out["fused"][0]) == 40 * 56 * 3
    assert out["reason"][0] == ""


def test_a_pixel_does_not_depend_on_its_neighbours_in_the_batch(row, fuse_windows, tmp_path):
    other = row | {"pair_id": "other", "zarr_path": "other"}
    run([row], fuse_windows, tmp_path / "alone")
    run([other, row, other], fuse_windows, tmp_path / "together")
    alone, together = (
        fused_store.read_fused(str(tmp_path / name), "night/1") for name in ("alone", "together")
    )
    np.testing.assert_array_equal(alone, together)


def test_an_actor_refuses_weights_that_the_plan_was_not_made_for():
    with pytest.raises(ValueError, match="every node of the cluster"):
        make_fuse_windows("0" * 64)


def test_a_store_that_cannot_be_written_is_a_reason(row, fuse_windows, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (done,) = run([row], fuse_windows, tmp_path / "file" / "store")
    assert (done["status"], done["reason"]) == ("rejected", "failed")
    assert done["detail"].startswith("write:")


def test_a_rejected_pair_keeps_no_pixels_of_an_earlier_source(row, fuse_windows, tmp_path):
    store = str(tmp_path / "store")
    (done,) = run([row], fuse_windows, store)
    assert done["status"] == "fused" and fused_store.list_fused(store) == [done["zarr_path"]]
    (tmp_path / "store" / done["zarr_path"] / ".put-left").write_bytes(b"by a process that was killed")
    (refused,) = run([row | {"ir_url": str(tmp_path / "gone.png")}], fuse_windows, store)
    assert (refused["status"], refused["reason"]) == ("rejected", "missing_file")
    assert fused_store.list_fused(store) == []
    assert not (tmp_path / "store" / done["zarr_path"]).exists()


def test_a_large_pair_whose_writing_ended_its_process_three_times_is_not_written_again(
    row, fuse_windows, tmp_path, monkeypatch
):
    monkeypatch.setattr(write, "COUNTED_BYTES", 1)
    (fused,) = fuse_windows.fuse_rows([read_window(row, opening=replace(OPENING, max_pixels=10**6))])
    attempts = AttemptCounts()
    for _ in range(MAX_ATTEMPTS):
        attempts.begin([f"write {row['pair_id']} 0"])
    options = write_options(tmp_path / "store") | {"attempts": attempts}
    assert write_window(fused, **options)["reason"] == "crashed"
    assert attempts.open == {}
    assert write_window(fused, **options)["status"] == "fused"


def test_a_pair_that_ends_its_process_three_times_is_rejected_and_no_other_is(row, monkeypatch):
    fuse_windows = make_fuse_windows(load_checkpoint().digest)
    rows = [read_window(row | {"pair_id": name}, opening=OPENING) for name in ("a", "poison", "b")]
    whole = fuse_windows._fuse_all

    def fuse_or_die(rows):
        if any(row["pair_id"] == "poison" for row in rows):
            raise SystemExit("poison")  # where a decoder's crash would end the process
        return whole(rows)

    monkeypatch.setattr(fuse_windows, "_fuse_all", fuse_or_die)
    for _ in range(MAX_ATTEMPTS):
        with pytest.raises(SystemExit, match="poison"):
            fuse_windows.fuse_rows(rows)
    fused = fuse_windows.fuse_rows(rows)
    assert [one["reason"] for one in fused] == ["", "crashed", ""]
    assert "ended 3 times" in fused[1]["detail"]
    assert fuse_windows.attempts.open == {}


def test_a_pair_whose_reading_ended_its_process_three_times_is_not_read_again(row):
    attempts = AttemptCounts()
    for _ in range(MAX_ATTEMPTS):
        attempts.begin([f"read {row['pair_id']} 0"])
    assert read_window(row, opening=OPENING, attempts=attempts)["reason"] == "crashed"
    assert read_window(row, opening=OPENING, attempts=attempts)["reason"] == ""


def test_a_border_without_data_is_stored_as_a_mask_and_counted(row, fuse_windows, tmp_path):
    image = np.clip(IR, 60, None)
    image[:, :14] = 0
    row["ir_url"] = put(tmp_path, "border.png", image)
    store = tmp_path / "s"
    (done,) = run([row], fuse_windows, store)
    assert (done["status"], done["valid_share"]) == ("fused", 0.75)
    assert "valid" not in done
    np.testing.assert_array_equal(fused_store.read_valid(str(store), "night/1")[:, 14:], 1)
    np.testing.assert_array_equal(fused_store.read_valid(str(store), "night/1")[:, :14], 0)
    row["ir_url"] = put(tmp_path, "ir.png", IR)
    (again,) = run([row], fuse_windows, store)
    assert again["valid_share"] == 1.0
    assert fused_store.read_valid(str(store), "night/1") is None


def test_the_statistics_of_a_scene_are_no_other_pairs_and_go_with_it(tmp_path):
    root = str(tmp_path)
    for name in ("a", "a/sums-1.000", "a.safetensors/b"):
        objects.put_bytes(survey_url(root, name), b"survey")
        for survey_id in ("1.000", "2.000"):
            sums = sums_url(root, name, survey_id)
            for url in (f"{sums}/1.npz", f"{sums}.json"):
                objects.put_bytes(url, b"sums")
    number = len(list(objects.find_files(root)))
    assert number == 3 * 5
    delete_sums(root, "a", keep="2.000")
    assert len(list(objects.find_files(root))) == number - 2
    delete_sums(root, "a")
    left = {file.path for file in objects.find_files(root)}
    assert len(left) == number - 4 and {"a.safetensors", "a/sums-1.000.safetensors"} <= left


def test_a_survey_that_is_gone_is_named(tmp_path):
    with pytest.raises(BadImage, match="survey '.*a.safetensors' is gone.*run the same command again"):
        load_survey(survey_url(str(tmp_path), "a"), "1.000")


def test_a_survey_that_is_not_the_one_of_the_ledger_is_named(tmp_path):
    url = survey_url(str(tmp_path), "a")
    objects.put_bytes(url, b"that of another scene")
    with pytest.raises(BadImage, match="survey '.*a.safetensors' is not the one that this job put there"):
        load_survey(url, digest_of(b"that of this scene"))
