"""The training job through its real entry point: both stages, kills, two workers, S3, NaN."""

import io
import json
import os
import shutil
import signal
import struct
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.multiprocessing
from tensorboardX.proto.event_pb2 import Event

from cluster.storage import objects, urls
from cluster.training.config import TrainConfig
from cluster.training.job import hold_out
from dmnet_core.checkpoint import load_checkpoint, save_checkpoint
from dmnet_core.losses import LossWeights, NoiseDraw, StageLoss
from dmnet_core.metrics import METRICS
from dmnet_core.model import DMNet, DMNetConfig
from tests.conftest import free_port
from tests.core.test_model import TINY
from tests.e2e.archives import (
    HANG_S,
    fuse_arguments,
    processes_of,
    run_job,
    started_job,
    write_archive,
)
from tests.e2e.shared_ray import QUICK_TRAINING

OF_THE_MACHINE = ["minutes", "crops_per_s"]
QUICK = ["--crop", "32", "--batch-size", "2", "--validation-pairs", "1", "--cpus-per-worker", "1"]


def make_index(archive, num_pairs):
    write_archive(archive, num_pairs)
    index = run_job("index_archive", *fuse_arguments(archive, f"{archive}/pairs.parquet"))
    assert index.returncode == 0, index.stderr
    return f"{archive}/pairs.parquet"


def read_history(output):
    return pd.read_csv(io.BytesIO(objects.read_bytes(urls.join_url(output, "history.csv"))))


def wait_for_epoch(job, output, epoch):
    deadline = time.monotonic() + HANG_S
    while job.poll() is None and time.monotonic() < deadline:
        with suppress(FileNotFoundError):
            if len(read_history(output)) >= epoch:
                return
        time.sleep(0.05)
    raise AssertionError(f"epoch {epoch} was not seen; exit code {job.poll()}")


def timings(output):
    """Return what no second training of the first epoch would repeat."""
    return tuple(read_history(output).loc[0, OF_THE_MACHINE])


def kill_workers(job):
    workers = processes_of(job, "RayTrainWorker")
    assert workers
    for worker in workers:
        os.kill(worker, signal.SIGKILL)


@pytest.mark.own_ray
@pytest.mark.kills
@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_a_training_whose_worker_and_driver_were_killed_reaches_the_same_end(tmp_path):
    index = make_index(str(tmp_path / "archive"), 9)
    whole, output = tmp_path / "whole", str(tmp_path / "killed")
    arguments = ["--index", index, "--epochs", "2", "6", "--learning-rate", "1e-3", *QUICK]
    arguments += ["--schedule", "cosine", "--output"]
    undisturbed = run_job("train_dmnet", *arguments, str(whole))
    assert undisturbed.returncode == 0, undisturbed.stdout + undisturbed.stderr
    with started_job("train_dmnet", *arguments, output, environment=QUICK_TRAINING) as job:
        wait_for_epoch(job, output, 3)  # by then the first one's checkpoint is known to Ray Train
        first = timings(output)
        kill_workers(job)
        wait_for_epoch(job, output, len(read_history(output)) + 2)  # it went on by itself
        assert timings(output) == first, "the first epoch was trained again"
    # the end of the block has killed the driver, and its Ray
    assert len(read_history(output)) < 8

    again = run_job("train_dmnet", *arguments, output)
    assert again.returncode == 0, again.stdout + again.stderr
    assert timings(output) == first, "the first epoch was trained again"
    expected, found = read_history(str(whole)), read_history(output)
    assert list(found["epoch"]) == list(range(1, 9))
    assert list(found["stage"]) == [1, 1, 2, 2, 2, 2, 2, 2]
    pd.testing.assert_frame_equal(
        found.drop(columns=OF_THE_MACHINE), expected.drop(columns=OF_THE_MACHINE), rtol=1e-4
    )
    checkpoint = load_checkpoint(objects.read_bytes(f"{output}/dmnet.safetensors"))
    weights = load_checkpoint(whole / "dmnet.safetensors").model.state_dict()
    for name, value in checkpoint.model.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=1e-3, atol=1e-4)
    assert checkpoint.card["steps"] == str(int(expected["step"].iloc[-1]))
    assert json.loads(checkpoint.card["settings"])["epochs"] == [2, 6]
    assert len(objects.read_bytes(f"{output}/panel.png")) > 1000
    assert len(objects.list_files(f"{output}/tensorboard")) == 8


def scalars(folder):
    """Return the values of TensorBoard's event files: one dictionary by name and step."""
    found = {}
    for path in sorted(Path(folder).glob("events*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])  # behind the length and its checksum
            data = data[16 + length :]
            found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
    return found


@pytest.fixture(scope="module")
def trained(shared_ray, tmp_path_factory):
    """A training that ends by its steps: the finished job, its arguments and its output."""
    folder = tmp_path_factory.mktemp("trained")
    index = make_index(str(folder / "archive"), 9)
    config = TrainConfig(index_urls=(index,), output_url="o", validation_pairs=2)
    broken = hold_out(pd.read_parquet(index), config)[0]["pair_id"].iloc[0]
    (folder / f"archive/vis/{broken}.png").write_bytes(b"<html>")
    arguments = [
        "--index", index, "--epochs", "2", "4", "--max-steps", "9", *QUICK, "--crop", "64", "32",
        "--crops-per-pair", "5", "--validation-pairs", "2",
    ]  # fmt: skip
    job = run_job("train_dmnet", *arguments, "--output", str(folder / "out"))
    assert job.returncode == 0, job.stdout + job.stderr
    assert f"not validated on: {broken!r}" in job.stdout
    return job, arguments, folder / "out"


def test_a_training_goes_on_with_the_network_that_it_began_with(trained):
    _, arguments, output = trained
    other = run_job("train_dmnet", *arguments, "--output", str(output), "--without", "dm")
    assert other.returncode == 2 and "without is []" in other.stderr


def test_a_number_of_steps_ends_stages_within_an_epoch_and_tensorboard_shows_all_of_them(trained):
    job, _, output = trained
    assert "7 pairs to train on, 1 held out (--validation-pairs), 1 unreadable" in job.stdout
    history = read_history(str(output))
    # A third of the steps is of stage I, as a third of the epochs would be.
    assert list(history.loc[history["stage"] == 1, "step"]) == [3]  # an epoch has more
    assert set(history["stage"]) == {1, 2} and history["step"].iloc[-1] == 9
    assert list(history["epoch"]) == list(range(1, len(history) + 1))
    shown = scalars(output / "tensorboard")
    for row in history.to_dict("records"):
        for name in ("stage", "L_int", "VIF", "learning_rate", "crops_per_s"):
            if pd.notna(row[name]):
                assert shown[name, row["step"]] == pytest.approx(row[name], rel=1e-5), name


@pytest.mark.slow
def test_a_training_that_died_between_its_report_and_its_put_is_made_whole(trained, tmp_path):
    _, arguments, whole = trained
    output = tmp_path / "whole"
    shutil.copytree(whole, output)
    arguments = [*arguments, "--output", str(output)]
    for name in ("dmnet.safetensors", "history.csv"):
        (output / name).unlink()
    over = run_job("train_dmnet", *arguments)
    assert over.returncode == 0, over.stdout + over.stderr
    for name in ("dmnet.safetensors", "history.csv"):
        assert (output / name).read_bytes() == (whole / name).read_bytes()


EVERY_OPTION = [
    "--without", "csab", "--crops-per-pair", "2", "--learning-rate", "1e-3", "--schedule", "cosine",
    "--warm-up", "2", "--clip", "1", "--ema", "0.5", "--gradient", "roberts", "--bf16",
    "--max-minutes", "60", *QUICK,
]  # fmt: skip


@pytest.fixture(scope="module")
def two_workers(shared_ray, tmp_path_factory):
    """A training of two workers on two indexes: its archive, arguments and output."""
    # Workers whose weights come apart end the job: each epoch compares them.
    folder = tmp_path_factory.mktemp("two")
    table = pd.read_parquet(make_index(str(folder / "archive"), 9))
    halves = [str(folder / f"{half}.parquet") for half in (1, 2)]
    for rows, half in zip((table[:4], table[4:]), halves, strict=True):
        rows.to_parquet(half)
    arguments = ["--index", *halves, "--epochs", "1", "3", *EVERY_OPTION]
    output = str(folder / "out")
    job = run_job("train_dmnet", *arguments, "--output", output, "--workers", "2")
    assert job.returncode == 0, job.stdout + job.stderr
    return str(folder / "archive"), arguments, output


@pytest.mark.slow
def test_two_workers_train_an_ablation_on_two_indexes_and_it_fuses(two_workers, tmp_path):
    archive, _, output = two_workers
    history = read_history(output)
    assert list(history["stage"]) == [1, 2, 2, 2]
    assert {*METRICS, "L_vi", "L_ir", "L_dm", "crops_per_s", "minutes"} <= set(history)
    assert 0 < history["learning_rate"].iloc[-1] < history["learning_rate"].iloc[0]
    checkpoint = f"{output}/dmnet.safetensors"
    card = load_checkpoint(checkpoint).card
    assert json.loads(card["settings"])["without"] == ["csab"] and card["training_pairs"] == "8"
    assert json.loads(card["last_epoch"])["VIF"] == pytest.approx(history["VIF"].iloc[-1], abs=1e-5)
    assert "torch" in card["software"]
    assert Path(f"{output}/panel.png").stat().st_size > 1000
    fused = run_job(
        "fuse_archive", *fuse_arguments(archive, str(tmp_path / "fused")), "--limit", "2",
        "--checkpoint", checkpoint,
    )  # fmt: skip
    assert fused.returncode == 0 and "9 = 2 fused" in fused.stdout, fused.stdout + fused.stderr


@pytest.mark.slow
def test_two_workers_follow_one_worker_s_curve(two_workers, tmp_path):
    _, arguments, output = two_workers
    job = run_job("train_dmnet", *arguments, "--output", str(tmp_path / "one"))
    assert job.returncode == 0, job.stdout + job.stderr
    one, two = read_history(str(tmp_path / "one")), read_history(output)
    assert list(one["step"]) == list(two["step"])
    for name in ("L_int", "L_gd"):
        # the crops differ; the first epochs fall by more than this
        assert list(two[name][1:]) == pytest.approx(list(one[name][1:]), rel=0.35)
    assert list(two["stage"]) == [1, 2, 2, 2]
    assert two["L_dm"].iloc[-1] < two["L_dm"].iloc[0]
    assert two["total"].iloc[-1] < two["total"].iloc[1]  # of stage II


def gradients(worker, port, queue):
    """Send the gradient of one worker's half of a batch; what DDP made of it."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=worker, world_size=2
    )
    model, ir, vis = model_and_images()
    half = slice(worker, worker + 1)
    wrapped = torch.nn.parallel.DistributedDataParallel(
        StageLoss(model, LossWeights()), find_unused_parameters=True
    )
    wrapped(2, ir[half], vis[half], draw_of(model, ir, half))["total"].backward()
    queue.put((worker, [p.grad.numpy() for p in model.parameters()]))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def model_and_images():
    torch.manual_seed(0)
    return DMNet(TINY), torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32)


def draw_of(model, ir, half):
    draw = NoiseDraw.draw(model, ir, torch.Generator().manual_seed(1))
    return NoiseDraw(draw.latent_noise[half], draw.target_noise[half], draw.t[half])


def test_two_workers_have_the_mean_of_their_gradients():
    context = torch.multiprocessing.get_context("spawn")
    queue, port = context.SimpleQueue(), free_port()
    workers = [context.Process(target=gradients, args=(n, port, queue)) for n in range(2)]
    for worker in workers:
        worker.start()
    found = dict(queue.get() for _ in workers)
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    model, ir, vis = model_and_images()
    loss = StageLoss(model, LossWeights())
    for half in (slice(0, 1), slice(1, 2)):
        (loss(2, ir[half], vis[half], draw_of(model, ir, half))["total"] / 2).backward()
    for number, parameter in enumerate(model.parameters()):
        for worker in (0, 1):
            # float32 sums in another order
            torch.testing.assert_close(
                torch.from_numpy(found[worker][number]), parameter.grad, atol=1e-5, rtol=1e-4
            )


@pytest.mark.own_ray
@pytest.mark.kills
@pytest.mark.slow
def test_a_training_on_s3_goes_on_there_after_a_stage_and_after_a_killed_worker(s3, shared_ray):
    index = make_index(f"{s3}/archive", 4)
    output = f"{s3}/training"
    arguments = ["--index", index, "--output", output, *QUICK]
    nothing = run_job("train_dmnet", *arguments, "--epochs", "0", "3")
    assert nothing.returncode == 2 and "nothing to begin with" in nothing.stderr
    first = run_job("train_dmnet", *arguments, "--epochs", "1", "0")
    assert first.returncode == 0, first.stdout + first.stderr
    before = read_history(output)
    arguments += ["--epochs", "0", "5"]
    with started_job("train_dmnet", *arguments, environment=shared_ray.environment) as job:
        wait_for_epoch(job, output, 4)  # by then the second one's checkpoint is known to Ray Train
        killed = read_history(output)
        kill_workers(shared_ray.node)
        assert job.wait(HANG_S) == 0
        job.log.seek(0)
        said = job.log.read()
    assert "epoch 6" in said and "epoch 1 " not in said
    history = read_history(output)
    assert list(history["epoch"]) == [1, 2, 3, 4, 5, 6]
    assert list(history["stage"]) == [1, 2, 2, 2, 2, 2]
    assert history["minutes"][0] == before["minutes"][0]  # not trained again
    assert history["minutes"][1] == killed["minutes"][1]
    checkpoint = load_checkpoint(objects.read_bytes(f"{output}/dmnet.safetensors"))
    assert checkpoint.card["steps"] == "6"


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
def test_a_loss_that_is_not_finite_stops_with_its_step_and_pairs(tmp_path):
    index = make_index(str(tmp_path / "archive"), 3)
    model = DMNet(DMNetConfig.compact())
    with torch.no_grad():
        model.embed.bias.fill_(float("nan"))
    (tmp_path / "nan.safetensors").write_bytes(save_checkpoint(model, {}))
    (tmp_path / "archive/ir/day/002.png").write_bytes(b"<html>")
    job = run_job(
        "train_dmnet", "--index", index, "--output", str(tmp_path / "out"), "--epochs", "0", "1",
        "--checkpoint", str(tmp_path / "nan.safetensors"), *QUICK, "--validation-pairs", "0",
    )  # fmt: skip
    assert job.returncode == 1, job.stdout + job.stderr
    assert "stopped at step 0 (stage 2)" in job.stderr
    assert "'day/000'" in job.stderr and "'day/001'" in job.stderr
    assert "not trained on: 'day/002'" in job.stdout and "1 unreadable" in job.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--index", "none.csv"], "none.csv' is not there"),
        (["--index", "i.csv", "--crop", "100"], "multiples of 32"),
        (["--index", "i.csv", "--without", "unet"], "--without is 'unet'"),
        (["--index", "i.csv", "--batch-size", "3", "--workers", "2"], "a multiple of --workers"),
        (["--index", "i.csv", "--workers", "0"], "--workers is 0"),
        (["--index", "i.csv", "--warm-up", "-5"], "--warm-up is -5"),
        (["--index", "i.csv", "--validation-pairs", "1"], "expected more than --validation-pairs"),
        (["--index", "i.csv", "--validation-pairs", "0", "--checkpoint", "no"], "no' is not there"),
    ],
)
def test_a_wrong_training_ends_in_one_clear_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "i.csv").write_text("pair_id,ir_url,vis_url\n1,a,b\n")
    job = run_job("train_dmnet", *arguments, "--output", "o")
    assert job.returncode == 2
    assert message in job.stderr.splitlines()[-1]
    assert "Traceback" not in job.stderr
