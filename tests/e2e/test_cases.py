"""Archives as people have them, which were once read wrongly: a test for each, by its folder's name.

Those of how a job starts and ends are in `test_cases_jobs`.
"""

import shutil

import numpy as np
import pandas as pd
import pytest

from cluster.archive.name_reader import OUTPUT_PARTS
from cluster.archive.pair_index import load_index, open_index
from cluster.evaluating.config import EvaluateConfig
from cluster.evaluating.images import find_images, find_method
from cluster.fusing.output import Output
from cluster.fusing.steps.fuse import FuseWindows
from cluster.fusing.steps.read import Opening, read_window
from cluster.fusing.steps.rows import RANGES
from cluster.fusing.steps.write import write_window
from cluster.storage import fused_store, objects
from cluster.storage.tables import Database, read_table
from dmnet_core.checkpoint import load_checkpoint
from dmnet_core.prepare import Reading
from tests.conftest import SHARED
from tests.e2e.archives import run_job


@pytest.fixture
def case(tmp_path):
    """Return the function that copies a case's files into a folder of the test's own."""

    def copied(name):
        if not (SHARED / "cases").is_dir():
            pytest.skip(f"no cases: {SHARED / 'cases'} is absent")
        (found,) = (SHARED / "cases").glob(f"[0-9][0-9]_{name}")
        shutil.copytree(found, tmp_path / name, copy_function=shutil.copyfile)
        for folder in [tmp_path / name, *(tmp_path / name).rglob("*/")]:
            folder.chmod(0o755)
        return tmp_path / name

    return copied


def index(folder, *options, ir="ir", vis="vis"):
    """Run index_archive over two folders of a case; return the job, the pairs and the unmatched names."""
    sides = ["--ir", str(folder / ir), "--vis", str(folder / vis)]
    job = run_job("index_archive", *sides, "--output", str(folder / "p.parquet"), *options)
    if job.returncode or "--dry-run" in options:
        return job, None, None
    return job, read_table(str(folder / "p.parquet")), read_table(str(folder / "p.unmatched.parquet"))


PATTERNS = ("--ir-pattern", "{id}_T", "--vis-pattern", "{id}_W")


def test_one_folder_two_sides(case):
    folder = case("one_folder_two_sides")
    job, pairs, unmatched = index(folder, *PATTERNS, ir="photos", vis="photos")
    assert list(pairs["pair_id"]) == ["DJI_0001", "DJI_0002", "DJI_0003"], job.stderr
    assert len(unmatched) == 0
    (folder / "photos/DJI_0004_W.JPG").write_bytes(b"x")  # a partner that was lost, and a third camera
    (folder / "photos/DJI_0001_Z.JPG").write_bytes(b"x")
    job, pairs, unmatched = index(folder, *PATTERNS, ir="photos", vis="./photos/")
    assert len(pairs) == 3
    found = dict(zip(unmatched["pair_id"], unmatched["reason"], strict=True))
    assert found == {"DJI_0004": "missing_partner", "DJI_0001_Z": "missing_partner"}
    assert load_index(str(folder / "p.parquet"))[1] == 2


def test_same_folder_pairs_itself(case):
    folder = case("same_folder_pairs_itself")
    (folder / "link").symlink_to("photos")
    for vis in ("photos", "photos/", "photos/../photos", "link"):
        for options in ((), ("--ir-pattern", "{id}_T", "--vis-pattern", "{id}_T")):
            job, *_ = index(folder, *options, ir="photos", vis=vis)
            assert job.returncode == 2
            assert "name the same files, each of which would be paired with itself" in job.stderr
        sides = ["--ir", str(folder / "photos"), "--vis", f"{folder}/{vis}"]
        job = run_job("fuse_archive", *sides, "--output", str(folder / "o"), "--dry-run")
        assert job.returncode == 2 and "--ir-pattern '{id}_T'" in job.stderr
    assert not list(folder.glob("p.*")) and not (folder / "o").exists()
    job, *_ = index(folder, "--ir-pattern", "photos/{id}", ir=".", vis="photos")
    assert "name the same files" in job.stderr


def test_an_index_of_ones_own_may_name_one_file_twice(tmp_path):
    (tmp_path / "i.csv").write_text("pair_id,ir_url,vis_url\n1,a.tif,a.tif\n")
    assert len(load_index(str(tmp_path / "i.csv"))[0]) == 1


def test_output_inside_input(case):
    folder = case("output_inside_input")
    output = Output(str(folder / "ir/fused"))
    fused_store.create_store(output.store, {})
    pixels = objects.read_bytes(str(folder / "ir/00001.png"))
    for name in ("fused.zarr/00001/fused/c/0/0", "preview.png", "lease/000001.json", "report/a.png"):
        objects.put_bytes(f"{output.url}/{name}", pixels)
    sides = (str(folder / "ir"), str(folder / "vis"))
    assert load_index(None, *sides)[1] == 0
    job, pairs, unmatched = index(folder)
    assert list(pairs["pair_id"]) == ["00001"] and set(unmatched["reason"]) == {"not_image"}
    (folder / "ir/fused/other.png").write_bytes(pixels)  # the output's own run takes nothing below it
    assert load_index(None, *sides)[1] == 1
    with Database() as database:
        assert open_index(database, None, *sides, output_url=output.url) == 6
        assert database.first("select count(*) from unmatched") == (0,)
        shutil.move(f"{folder}/ir/fused", f"{folder}/vis/00002")
        for place in (str(folder / "vis"), str(folder)):  # where inputs are too, they stay inputs
            open_index(database, None, *sides, output_url=place)
            assert database.first("select count(*) from pairs") == (1,)


def test_the_parts_of_an_output_are_known_by_name():
    output = Output("o")
    found = {url.split("/")[1] for url in [output.ledger, output.runs, *output.urls().values()]}
    assert found <= OUTPUT_PARTS


def test_litter(case):
    folder = case("litter")
    (folder / "vis/00004").write_bytes((folder / "vis/00003.png").read_bytes())
    _, pairs, unmatched = index(folder)
    assert list(pairs["pair_id"]) == ["00001", "00002", "00003"]
    files = [path for side in ("ir", "vis") for path in (folder / side).rglob("*") if path.is_file()]
    assert len(unmatched) == len(files) - 6
    counted = unmatched[unmatched["reason"] != "not_image"]
    assert list(counted["pair_id"]) == ["00004"]  # which is a file without extension, and no litter


def test_a_folder_of_the_prefix_itself_may_have_any_name(case):
    folder = case("litter")
    (folder / ".cache/@eaDir/x.zarr").mkdir(parents=True)
    for side in ("ir", "vis"):
        (folder / side).rename(folder / f".cache/@eaDir/x.zarr/{side}")
    _, pairs, _ = index(folder / ".cache/@eaDir/x.zarr")
    assert len(pairs) == 3


def test_evaluate_sidecars(case):
    folder = case("evaluate_sidecars")
    pairs = load_index(str(folder / "pairs.csv"))[0].assign(set="")
    method = find_method("m", str(folder / "sidecar"))
    places, problems = find_images([method], pairs, {}, limited=False)
    assert problems == []
    assert places["FLIR_00211"] == {"m": str(folder / "sidecar/FLIR_00211.png")}

    for path in (folder / "sidecar").glob("*.png"):
        path.rename(path.with_name(f"{path.stem}_fused.png"))
    (folder / "sidecar/FLIR_00211.png").write_bytes(b"x")
    (folder / "sidecar/FLIR_00977_fused.jpg").write_bytes(b"x")
    places, problems = find_images([method], pairs, {"m": "{id}_fused"}, limited=False)
    assert places["FLIR_01130"] == {"m": str(folder / "sidecar/FLIR_01130_fused.png")}
    found = {(row["pair_id"], row["reason"]): row["detail"] for row in problems}
    assert found.keys() == {("FLIR_00211", "extra"), ("FLIR_00977", "ambiguous")}
    assert "--fused-pattern 'm={id}_fused.png'" in found["FLIR_00977", "ambiguous"]
    places, problems = find_images([method], pairs, {"m": "{id}_fused.png"}, limited=True)
    assert problems == [] and all(places.values())


def test_a_pattern_is_refused_for_a_method_that_has_no_names_of_files(tmp_path):
    fused_store.create_store(f"{tmp_path}/fused.zarr", {})
    method = find_method("ours", str(tmp_path))
    nobody = pd.DataFrame({"pair_id": ["a"], "set": [""]})
    with pytest.raises(ValueError, match="names 'ours', which is an output of fuse_archive"):
        find_images([method], nobody, {"ours": "{id}_fused"}, limited=False)
    options = {"index_url": "i.csv", "output_url": "o", "fused_urls": (("a", "x"),)}
    for patterns in ((("b", "{id}"),), (("a", "{id}"), ("a", "{id}_2"))):
        with pytest.raises(ValueError, match="with a name that --fused gives, each name once"):
            EvaluateConfig(**options, fused_patterns=patterns)
    with pytest.raises(ValueError, match="--fused-pattern of a is 'fused', expected the text '{id}'"):
        EvaluateConfig(**options, fused_patterns=(("a", "fused"),))


def test_two_extensions(case):
    folder = case("two_extensions")
    job, *_ = index(folder, vis="RGB")
    assert job.returncode == 2
    assert "ambiguous: 3" in job.stderr and "take one by --ir-pattern '{id}.tiff'" in job.stderr
    job, pairs, unmatched = index(folder, "--ir-pattern", "{id}.tiff", vis="RGB")
    assert [url.rpartition("/")[2] for url in pairs["ir_url"]] == [
        "FLIR_00001.tiff", "FLIR_00002.tiff", "FLIR_00003.tiff",
    ]  # fmt: skip
    assert set(unmatched["reason"]) == {"other_extension"} and len(unmatched) == 3
    assert load_index(str(folder / "p.parquet"))[1] == 0
    job, *_ = index(folder, "--ir-pattern", "{id}.png", vis="RGB")
    assert "No infrared file has the extension that '{id}.png' names" in job.stderr


def test_wrong_advice_npy(case):
    folder = case("wrong_advice_npy")
    sides = ["--ir", str(folder / "ir"), "--vis", str(folder / "vis")]
    job = run_job("fuse_archive", *sides, "--output", str(folder / "o"))
    assert job.returncode == 2
    assert "not_image: 2, for example '0' (ir: the extension '.npy' is not read)" in job.stderr
    assert "None of the infrared files is an image that is read, expected one of the" in job.stderr
    assert "png, tif, tiff, webp" in job.stderr and "--ir-pattern" not in job.stderr
    assert not (folder / "o").exists()


def test_a_dry_run_shows_pairs_from_all_over_and_what_was_left_out(case):
    folder = case("litter")
    for number in range(100, 150):
        for side in ("ir", "vis"):
            shutil.copy(folder / side / "00001.png", folder / side / f"{number}.png")
    (folder / "ir/alone.png").write_bytes(b"x")
    job, *_ = index(folder, "--dry-run")
    lines = job.stdout.splitlines()
    assert lines[0] == f"53 pairs in {folder}/p.parquet (not written)"
    assert lines[1] == "  '00001': '00001.png' with '00001.png'"
    assert lines[10] == "  '144': '144.png' with '144.png'"
    assert lines[11:] == [
        "1 names without a pair (missing_partner)",
        "  for example 'alone', vis: no file of this name below the prefix",
        "18 files left out (not_image)",
        "  for example '.DS_Store', ir: a file or folder whose name begins with a dot",
    ]
    assert not list(folder.glob("p.*"))


def fused(pairs, store, reading):
    """Send pairs, (pair_id, ir, vis), through the three steps; return their ledger rows by pair_id."""
    opening = Opening(max_pixels=10**6, window=1024, halo=32)
    step = FuseWindows(
        checkpoint_url=None, digest=load_checkpoint().digest, device="cpu", num_threads=2,
        opening=opening, statistics_url="", reading=reading, output_dtype="uint8", precision="fp32",
        seed=0,
    )  # fmt: skip
    rows = [
        {"pair_id": name, "ir_url": str(ir), "vis_url": str(vis), "window": 0} for name, ir, vis in pairs
    ]
    done = step.fuse_rows([read_window(row, opening=opening) for row in rows])
    options = {"store_url": str(store), "statistics_url": "", "fingerprint": "F", "opening": opening}
    written = [write_window(row, **options) for row in done]
    return pd.DataFrame(written).set_index("pair_id")


@pytest.fixture(scope="module")
def fused_cases(tmp_path_factory):
    """The ledger rows, by pair_id, of every case about pixels, and the store."""
    if not (SHARED / "cases").is_dir():
        pytest.skip(f"no cases: {SHARED / 'cases'} is absent")
    pairs = []
    for number in ("02", "03", "04", "05", "06", "17"):
        (found,) = (SHARED / "cases").glob(f"{number}_*")
        for ir in sorted(found.glob("ir/*")):
            (vis,) = found.glob(f"vis/{ir.stem}.*")
            pairs.append((f"{number}/{ir.stem}", ir, vis))
    store = tmp_path_factory.mktemp("cases") / "fused.zarr"
    return fused(pairs, store, Reading()), str(store)


def test_range_blanks_8bit_vis(case, tmp_path):
    folder = case("range_blanks_8bit_vis")
    pair = ("a", folder / "ir/a.png", folder / "vis/a.png")
    row = fused([pair], tmp_path / "s", Reading(ir_range="7000:9500")).loc["a"]
    assert [row[name] for name in RANGES] == [7000, 9500, 0, 255]
    image = fused_store.read_fused(str(tmp_path / "s"), "a")
    assert image.shape == (96, 128, 3) and np.ptp(image, axis=(0, 1)).min() > 50
    blanked = fused([pair], tmp_path / "s", Reading(vis_range="7000:9500")).loc["a"]
    assert (blanked["status"], blanked["reason"]) == ("rejected", "flat_range")


@pytest.mark.parametrize(
    ("pair_id", "low", "high"),
    [("02/geo_f32_nodata9999", 276.3, 298.4), ("02/geo_u16_zborder_notag", 27630, 29841)],
)
def test_nodata_and_zero_border(fused_cases, pair_id, low, high):
    metrics, store = fused_cases
    row = metrics.loc[pair_id]
    assert row["valid_share"] == 0.84375
    assert (row["ir_low"], row["ir_high"]) == pytest.approx((low, high), rel=3e-3)
    valid = fused_store.read_valid(store, row["zarr_path"])
    assert valid.mean() == 0.84375


@pytest.mark.parametrize("name", ["sparse_f32_None_tile", "sparse_rgb8_tile", "sparse_u16_None_tile"])
def test_sparse_tiff(fused_cases, name):
    metrics, store = fused_cases
    row = metrics.loc[f"03/{name}"]
    assert row["valid_share"] == pytest.approx(2 / 3)
    valid = fused_store.read_valid(store, row["zarr_path"])
    blocks = valid.reshape(-1, 32, valid.shape[1] // 32, 32)
    assert (blocks.min(axis=(1, 3)) == blocks.max(axis=(1, 3))).all()  # whole blocks of the file


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_rgb16_of_low_values(fused_cases, kind):
    metrics, store = fused_cases
    row = metrics.loc[f"04/{kind}_rgb16_12bit"]
    assert 600 < row["vis_low"] < 700 and 3200 < row["vis_high"] < 3300
    fused = fused_store.read_fused(store, row["zarr_path"])
    assert fused.shape == (96, 128, 3) and len(np.unique(fused)) > 150


@pytest.mark.parametrize("pair_id", ["05/fill", "06/geo_lerc", "06/tif_jpeg2000_u8_strip"])
def test_jpeg_fill_bytes_and_unsupported_called_damaged(fused_cases, pair_id):
    row = fused_cases[0].loc[pair_id]
    assert (row["height"], row["width"], row["valid_share"]) == (96, 128, 1.0)


def test_thumbnail_first(fused_cases):
    row = fused_cases[0].loc["17/a"]
    assert (row["height"], row["width"]) == (96, 128)
