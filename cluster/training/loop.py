"""The loop of a training worker: steps of Adam on crops, and a checkpoint after each epoch.

Every worker runs `train_loop` on its share of the pairs; DDP averages their gradients. After each epoch
the first worker saves and reports. Where a worker dies, Ray Train restarts the loop from that report.
"""

from __future__ import annotations

import io
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import ray.train
import ray.train.torch
import torch
import torch.distributed
from ray.util.queue import Queue
from tensorboardX import SummaryWriter  # type: ignore[import-untyped]
from torch import Tensor

from cluster.archive.contact_sheet import draw_sheet, draw_strip
from cluster.storage import objects, urls
from cluster.storage.config_urls import without_secrets
from cluster.training.config import TrainConfig
from cluster.training.crops import crop_batches, middle_of
from cluster.training.epoch_lines import send_row
from cluster.training.progress import Progress, learning_rate, stage_at
from dmnet_core import __version__
from dmnet_core.allocator import keep_memory
from dmnet_core.checkpoint import load_checkpoint, save_checkpoint
from dmnet_core.inference import fuse_and_score
from dmnet_core.losses import LossWeights, NoiseDraw, StageLoss
from dmnet_core.metrics import METRICS
from dmnet_core.model import DMNet, DMNetConfig
from dmnet_core.prepare import PreparedPair
from dmnet_core.ranges import from_unit

Row = dict[str, Any]
SECONDS_PER_SHARE = 2.0
"""Least time between two messages that say how much of the training is done."""


def network_config(config: TrainConfig) -> DMNetConfig:
    """Return the size and the parts of the network that a training is configured for."""
    preset = DMNetConfig.of_preset(config.preset)
    without = [part for part in config.without if part != "two-stage"]
    return DMNetConfig.from_dict(preset.to_dict() | {"without": without})


def train_loop(options: dict[str, Any]) -> None:
    """Train until the epochs, steps or minutes are used up.

    Ray Train supplies the datasets "train" and, where pairs are held out, "validation", both rows of
    `decode_pair`.

    Args:
        options: config (TrainConfig), num_pairs and num_held_out (int), and epoch_rows (the queue of
            EpochLines).
    """
    config: TrainConfig = options["config"]
    worker = _Worker(config, options["num_pairs"], options["num_held_out"], options["epoch_rows"])
    while worker.share < 1.0:
        if not worker.train_epoch():
            return
        worker.finish_epoch()


class _Worker:
    """One worker's network, optimizer and progress."""

    def __init__(
        self, config: TrainConfig, num_pairs: int, num_held_out: int, epoch_rows: Queue
    ) -> None:
        context = ray.train.get_context()
        self.rank: int = context.get_world_rank()
        self.world: int = context.get_world_size()
        self.config = config
        self.num_pairs = num_pairs
        self.epoch_rows = epoch_rows
        self.last_said = float("-inf")
        torch.set_num_threads(config.cpus_per_worker)
        torch.manual_seed(config.seed)
        self.device = ray.train.torch.get_device()
        keep_memory()
        self.model = DMNet(network_config(config))
        if config.checkpoint_url is not None:
            given = load_checkpoint(objects.read_bytes(config.checkpoint_url)).model
            self.model.load_state_dict(given.state_dict())
        # a quarter less time a step on a CPU
        cast(Any, self.model.to(self.device)).to(memory_format=torch.channels_last)
        self.average = torch.optim.swa_utils.AveragedModel(
            self.model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config.ema)
        )
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate)
        self.progress = Progress()
        self._restore()
        self.share = self._agreed(self.progress.share(config))
        """Finished share of the training by the first worker's clock, so that all workers use the same
        learning rate and end in the same step."""
        weights = LossWeights(
            lambda0=config.lambda0, lambda2=config.lambda2, operator=config.gradient,
            guarded=config.guard, gain=config.gradient_gain, directed=config.directed,
            terms=config.term_weights(),
        )  # fmt: skip
        # stage I leaves some parameters without a gradient
        self.loss = ray.train.torch.prepare_model(
            StageLoss(self.model, weights, bf16=config.bf16),
            parallel_strategy_kwargs={"find_unused_parameters": True},
        )
        self.validation: list[tuple[str, PreparedPair]] = []
        if self.rank == 0 and num_held_out:
            held_out = ray.train.get_dataset_shard("validation").iter_rows()
            self.validation = [(row["pair_id"], middle_of(row)) for row in held_out]

    def train_epoch(self) -> bool:
        """Train on every pair crops_per_pair times; return False where a loss was not finite.

        The epoch ends early where stage I or the training ends, by steps or by time.
        """
        config, progress = self.config, self.progress
        self.stage = stage_at(config, self.share)
        index = self.stage - 1
        self.sums: dict[str, float] = {}
        self.num_steps, self.num_crops = 0, 0
        self.epoch_start, started, cpu = time.monotonic(), time.monotonic(), time.process_time()
        before, cpu_before = progress.seconds[index], progress.cpu_seconds
        shard = ray.train.get_dataset_shard("train")
        for names, ir, vis in crop_batches(
            shard, config, self.num_pairs, epoch=progress.epoch, rank=self.rank, world=self.world
        ):
            parts = self._step(ir.to(self.device), vis.to(self.device))
            if parts is None:
                self._report_not_finite(names)
                return False
            self.num_steps += 1
            self.num_crops += len(names) * self.world
            progress.steps[index] += 1
            progress.seconds[index] = before + time.monotonic() - started
            progress.cpu_seconds = cpu_before + time.process_time() - cpu
            for name, value in parts.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
            self.share = self._agreed(progress.share(config))
            self._say_share()
            if self.share >= 1.0 or stage_at(config, self.share) != self.stage:
                break
        progress.epochs[index] += 1
        self.share = self._agreed(progress.share(config))
        if not self.num_steps:
            raise ValueError(
                f"an epoch of {self.num_pairs} pairs gives no step of {config.batch_size} crops: lower "
                "--batch-size or raise --crops-per-pair"
            )
        return True

    def finish_epoch(self) -> None:
        """Validate, save and report the epoch; only the first worker writes."""
        self._check_alike()
        losses = {name: self._mean(value / self.num_steps) for name, value in self.sums.items()}
        seconds = time.monotonic() - self.epoch_start
        row: dict[str, float] = {
            "epoch": self.progress.epoch,
            "stage": self.stage,
            "step": self.progress.step,
            "minutes": sum(self.progress.seconds) / 60,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "crops_per_s": self.num_crops / seconds,
            **losses,
        }
        if self.rank != 0:
            ray.train.report({"epoch": self.progress.epoch})
            return
        scores, panel = self._validate()
        row |= scores
        self.progress.history.append(row)
        self._show(panel, row)
        with tempfile.TemporaryDirectory() as folder:
            weights = save_checkpoint(self._averaged(), self._card(row), dtype=torch.float16)
            (Path(folder) / "dmnet.safetensors").write_bytes(weights)
            (Path(folder) / "state.pt").write_bytes(self._state())
            ray.train.report(row, checkpoint=ray.train.Checkpoint.from_directory(folder))
        self._put_weights(weights)

    def _step(self, ir: Tensor, vis: Tensor) -> dict[str, float] | None:
        """Take one step of Adam; return the losses, or None where a loss or gradient is not finite."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.progress.step, self.share)
        seed = np.random.SeedSequence((config.seed, self.progress.step, self.rank))
        generator = torch.Generator().manual_seed(int(seed.generate_state(1)[0]))
        draw = NoiseDraw.draw(self.model, ir, generator)
        parts = self.loss(self.stage, ir, vis, draw)
        if self._mean(float(parts["total"].isfinite())) < 1.0:
            return None
        self.optimizer.zero_grad(set_to_none=True)
        parts["total"].backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip or float("inf"))
        if not norm.isfinite():  # alike on all workers: the gradients are averaged by now
            return None
        self.optimizer.step()
        self.average.update_parameters(self.model)
        return {name: float(value.detach()) for name, value in parts.items()}

    def _averaged(self) -> DMNet:
        averaged = self.average.module if self.config.ema else self.model
        assert isinstance(averaged, DMNet)
        return averaged

    def _validate(self) -> tuple[dict[str, float], bytes | None]:
        """Return the mean metrics of the validation pairs and their picture."""
        if not self.validation:
            return {}, None
        model = self._averaged().eval()
        rows, strips = [], []
        for name, pair in self.validation:
            (fused,), metrics = fuse_and_score(model, [pair], pair_ids=[name])
            rows.append({key: float(value) for key, value in metrics.items()})
            strips.append(
                draw_strip([from_unit(i, "uint8") for i in (pair.ir, pair.vis, fused)], name)
            )
        model.train()
        return pd.DataFrame(rows)[list(METRICS)].mean().to_dict(), draw_sheet(strips)

    def _card(self, row: dict[str, float]) -> dict[str, str]:
        config = self.config
        return {
            "training_pairs": str(self.num_pairs),
            "steps": str(self.progress.step),
            "wall_minutes": f"{sum(self.progress.seconds) / 60:.1f}",
            "cpu_minutes": f"{self.progress.cpu_seconds / 60:.1f}",
            "settings": json.dumps(_settings(config)),
            "last_epoch": json.dumps({name: round(value, 5) for name, value in row.items()}),
            "software": f"dmnet-archive {__version__}, torch {torch.__version__}, ray {ray.__version__}",
        }

    def _state(self) -> bytes:
        """Return everything that resuming needs, readable with weights_only=True."""
        buffer = io.BytesIO()
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": json.dumps(asdict(self.progress)),
        }
        torch.save(state, buffer)
        return buffer.getvalue()

    def _restore(self) -> None:
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return
        with checkpoint.as_directory() as folder:
            state = torch.load(Path(folder) / "state.pt", map_location="cpu", weights_only=True)
            weights = (Path(folder) / "dmnet.safetensors").read_bytes()
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**json.loads(state["progress"]))
        if self.rank == 0:  # a run may have died after its report, before it put these files
            self._put_weights(weights)

    def _show(self, panel: bytes | None, row: dict[str, float]) -> None:
        """Put the epoch's picture and its TensorBoard file; an epoch that is repeated replaces them."""
        if panel is not None:
            self._put("panel.png", panel)
        with tempfile.TemporaryDirectory() as folder:
            # One file for each epoch: only closing a writer waits until the file is complete.
            writer = SummaryWriter(folder)
            for name, value in row.items():
                writer.add_scalar(name, value, self.progress.step)
            writer.close()
            (path,) = Path(folder).iterdir()
            name = f"events.out.tfevents.{self.progress.epoch:010d}.dmnet"
            self._put(f"tensorboard/{name}", path.read_bytes())

    def _put_weights(self, weights: bytes) -> None:
        """Put the weights, then the history, whose last row is their epoch; send the driver that row."""
        self._put("dmnet.safetensors", weights)
        history = pd.DataFrame(self.progress.history)
        self._put("history.csv", history.to_csv(index=False).encode())
        send_row(self.epoch_rows, self.progress.history[-1])

    def _put(self, name: str, data: bytes) -> None:
        objects.put_bytes(urls.join_url(self.config.output_url, name), data)

    def _say_share(self) -> None:
        """Tell the driver how much of the training is done, not at every step."""
        if self.rank == 0 and time.monotonic() - self.last_said >= SECONDS_PER_SHARE:
            self.last_said = time.monotonic()
            send_row(self.epoch_rows, {"share": self.share})

    def _check_alike(self) -> None:
        """Raise RuntimeError where the workers' weights differ: averaged gradients keep them equal."""
        own = sum(float(parameter.detach().double().abs().sum()) for parameter in self.model.parameters())
        mean = self._mean(own)
        if self._mean(float(abs(own - mean) > 1e-9 * mean)) > 0:
            raise RuntimeError(f"worker {self.rank}'s weights are not the others': {own} beside {mean}")

    def _report_not_finite(self, names: list[str]) -> None:
        """Put the step and its pair ids where the driver reads them; it ends the run with an error."""
        gathered: list[list[str] | None] = [names]
        if self.world > 1:
            gathered = [None] * self.world
            torch.distributed.all_gather_object(gathered, names)
        if self.rank == 0:
            everyone = [name for part in gathered if part for name in part]
            note = {"step": self.progress.step, "stage": self.stage, "pair_ids": everyone}
            url = urls.join_url(self.config.output_url, "not_finite.json")
            objects.put_bytes(url, json.dumps(note).encode())

    def _mean(self, value: float) -> float:
        """Return the mean of a value over the workers."""
        if self.world == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return float(total / self.world)

    def _agreed(self, value: float) -> float:
        """Return the first worker's value."""
        if self.world == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.broadcast(shared, src=0)
        return float(shared)


def _settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings without URLs' secrets and without what changes no weight."""
    settings = without_secrets(config)
    for name in ("output_url", "num_workers", "cpus_per_worker", "use_gpu"):
        del settings[name]
    settings["index_urls"] = [url.rsplit("/", 1)[-1] for url in settings["index_urls"]]
    if settings["checkpoint_url"]:
        settings["checkpoint_url"] = settings["checkpoint_url"].rsplit("/", 1)[-1]
    return settings
