"""What training does before any worker starts: holding pairs out, decoding, sharing out the time."""

import numpy as np
import pandas as pd
import pytest

from cluster.storage import objects
from cluster.training.config import TrainConfig
from cluster.training.crops import VALIDATION_SIDE, decode_pair, middle_of, read_pair, side_of
from cluster.training.epoch_lines import print_new_epochs
from cluster.training.job import hold_out
from cluster.training.loop import network_config
from cluster.training.progress import FINAL_SHARE, Progress, learning_rate, stage_at, stage_epochs
from tests.e2e.archives import png, write_archive


def config_of(**options):
    return TrainConfig(index_urls=("i.csv",), output_url="o", **options)


def row_of(archive, pair_id):
    urls = {f"{side}_url": f"{archive}/{side}/{pair_id}.png" for side in ("ir", "vis")}
    return {"pair_id": pair_id, **urls}


def test_a_decoded_pair_is_the_prepared_pair_to_16_bits(tmp_path):
    write_archive(str(tmp_path), 1)
    row = row_of(tmp_path, "day/000")
    decoded = decode_pair(row)
    assert decoded["reason"] == ""
    pair = read_pair(row)
    for side in ("ir", "vis"):
        np.testing.assert_allclose(side_of(decoded, side).numpy(), getattr(pair, side), atol=1e-5)


def test_a_pair_that_cannot_be_read_says_why(tmp_path):
    write_archive(str(tmp_path), 1)
    row = row_of(tmp_path, "day/000")
    objects.put_bytes(row["vis_url"], png(np.zeros((20, 20), np.uint8)))
    assert "expected one size" in decode_pair(row)["reason"]
    assert "size" not in decode_pair(row_of(tmp_path, "none"))["reason"]
    assert decode_pair(row_of(tmp_path, "none"))["reason"]


def test_held_out_pairs_are_the_same_whatever_else_is_in_the_index():
    names = pd.DataFrame({"pair_id": [f"{n}" for n in range(50)]})
    held_out, rest = hold_out(names, config_of(validation_pairs=5))
    assert len(held_out) == 5 and len(rest) == 45
    assert not set(held_out["pair_id"]) & set(rest["pair_id"])
    again, _ = hold_out(names.iloc[::-1], config_of(validation_pairs=5))
    assert set(again["pair_id"]) == set(held_out["pair_id"])
    other, _ = hold_out(names, config_of(validation_pairs=5, seed=1))
    assert set(other["pair_id"]) != set(held_out["pair_id"])
    with pytest.raises(ValueError, match="expected more than --validation-pairs"):
        hold_out(names, config_of(validation_pairs=50))


def test_a_large_validation_pair_is_cut_to_its_middle(tmp_path):
    write_archive(str(tmp_path), 1, 700, 400)
    decoded = decode_pair(row_of(tmp_path, "day/000"))
    middle, whole = middle_of(decoded), side_of(decoded, "vis").numpy()
    assert middle.ir.shape == (VALIDATION_SIDE, 400)
    np.testing.assert_array_equal(middle.vis, whole[94 : 94 + VALIDATION_SIDE])


def test_progress_is_the_furthest_of_epochs_steps_and_minutes():
    config = config_of(epochs=(5, 15), max_steps=100, max_minutes=10.0)
    assert Progress(epochs=[5, 5]).share(config) == 0.5
    assert Progress(epochs=[1, 0], steps=[70, 0]).share(config) == 0.7
    assert Progress(epochs=[1, 0], steps=[7, 0], seconds=[540.0, 0.0]).share(config) == 0.9
    assert Progress(epochs=[5, 94]).share(config) == 1.0


def test_the_stages_in_two_runs_count_each_its_own():
    done = Progress(epochs=[5, 0], steps=[100, 0], seconds=[600.0, 0.0])
    first, second = config_of(epochs=(5, 0), max_steps=100), config_of(epochs=(0, 15), max_steps=100)
    assert done.share(first) == 1.0 and done.share(second) == 0.0
    assert done.share(config_of(epochs=(5, 15))) == 0.25


def test_the_stages_divide_a_training_as_they_divide_its_epochs():
    config = config_of(epochs=(5, 15))
    assert [stage_at(config, share) for share in (0.0, 0.2499, 0.25, 1.0)] == [1, 1, 2, 2]
    assert stage_at(config_of(epochs=(5, 15), without=("two-stage",)), 0.0) == 2


def test_the_learning_rate_rises_in_the_warm_up_and_falls_along_half_a_cosine():
    constant = config_of(learning_rate=1e-3, warm_up=4)
    assert [learning_rate(constant, step, 0.5) for step in (0, 1, 3, 9)] == pytest.approx(
        [0.25e-3, 0.5e-3, 1e-3, 1e-3]
    )
    cosine = config_of(learning_rate=1e-3, schedule="cosine")
    assert [learning_rate(cosine, 0, share) for share in (0.0, 0.5, 1.0)] == pytest.approx(
        [1e-3, 1e-3 * (1 + FINAL_SHARE) / 2, 1e-3 * FINAL_SHARE]
    )


def test_each_new_epoch_is_printed_once_and_none_of_earlier_runs(capsys, monkeypatch):
    def row(epoch):
        return {"epoch": epoch, "stage": 2, "step": 7, "minutes": 1.26, "crops_per_s": 3.0,
                "learning_rate": 1e-4, "L_int": 0.5, "VIF": 0.61234}  # fmt: skip

    monkeypatch.setattr("cluster.text.progress.SECONDS_PER_LINE", 0.0)
    rows = [row(epoch) for epoch in (4, 5, 5, 6, 5, 6, 7)]
    shares = [{"share": share} for share in (0.6, 0.7, 0.8)]
    print_new_epochs([shares[0], *rows, *shares[1:]], last_epoch=4)
    lines = capsys.readouterr().out.splitlines()
    shares = [line for line in lines if "of the training" in line]
    assert [line.split()[0] for line in shares] == ["60/100", "70/100", "80/100"]
    lines = [line for line in lines if line not in shares]
    assert [line.split()[:2] for line in lines] == [["epoch", str(n)] for n in (5, 6, 7)]
    assert lines[0] == "epoch 5  stage II  step 7  1.3 min  3.00 crops/s  L_int 0.5000  VIF 0.612"


def test_ablations_choose_the_network_and_the_stages():
    config = config_of(without=("dm", "two-stage"), epochs=(5, 15))
    assert network_config(config).without == ("dm",)
    assert stage_epochs(config) == (0, 20)
    assert stage_epochs(config_of(epochs=(5, 15))) == (5, 15)
