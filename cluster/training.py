"""Two-stage training of DMNet on aligned pairs.

Stage I trains the autoencoder and DM side by side (L_au + L_dm), stage II everything from stage I's
weights (L_total). Every step takes random aligned crops of one size; the size is drawn each step,
because the network takes statistics over the image it is given and must see more than one scale.
A snapshot is written every few minutes; the same command goes on from it.
"""

from __future__ import annotations

import io
import json
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cluster.config import TrainConfig
from cluster.decode import decode_image
from cluster.pair_index import match_pairs
from cluster.storage import exists, join_url, list_files, put_bytes, read_bytes, redact_url
from dmnet_core.augment import vary_tones
from dmnet_core.checkpoint import save_checkpoint
from dmnet_core.inference import prepare_pair
from dmnet_core.losses import gradient_loss, intensity_loss, noise_loss, reconstruction_loss
from dmnet_core.model import DMNet, DMNetConfig

SNAPSHOT_EVERY_S = 120.0
LOG_EVERY_STEPS = 50
EMA_DECAY = 0.998
WARM_UP_STEPS = 50
MAX_DECODED_PIXELS = 2**24
Pair = tuple[Tensor, Tensor]


@dataclass
class Progress:
    """Where a training run stands."""

    step: int = 0
    elapsed_s: float = 0.0
    cpu_s: float = 0.0


class CropSampler:
    """Random aligned crops, flipped and turned, of pairs held in memory."""

    def __init__(self, pairs: list[Pair], config: TrainConfig, start_step: int) -> None:
        self.pairs = pairs
        self.crop_batches = config.crop_batches
        self.vary = config.vary_tones
        self.random = np.random.default_rng((config.seed, start_step))

    def draw(self) -> Pair:
        """Return ir and vis, each (B, 1, side, side) float32 in [0, 1]."""
        side, count = self.crop_batches[self.random.integers(len(self.crop_batches))]
        fitting = [pair for pair in self.pairs if min(pair[0].shape) >= side]
        crops = [self._crop(fitting[self.random.integers(len(fitting))], side) for _ in range(count)]
        if self.vary:
            crops = [(vary_tones(ir, self.random), vary_tones(vis, self.random)) for ir, vis in crops]
        return torch.stack([ir for ir, _ in crops]), torch.stack([vis for _, vis in crops])

    def _crop(self, pair: Pair, side: int) -> Pair:
        height, width = pair[0].shape
        y0 = int(self.random.integers(height - side + 1))
        x0 = int(self.random.integers(width - side + 1))
        turns, flip = int(self.random.integers(4)), bool(self.random.integers(2))

        def cut(image: Tensor) -> Tensor:
            crop = torch.rot90(image[y0 : y0 + side, x0 : x0 + side], turns)
            return (crop.flip(0) if flip else crop)[None]  # (1, side, side)

        return cut(pair[0]), cut(pair[1])


def load_training_pairs(data_urls: tuple[str, ...]) -> list[Pair]:
    """Decode every pair below each URL's ir/ and vis/, matched by name, as (H, W) luminance."""
    pairs = []
    for data_url in data_urls:
        ir_files, vis_files = (list_files(join_url(data_url, side)) for side in ("ir", "vis"))
        rows, unmatched = match_pairs(ir_files, vis_files)
        if unmatched:
            print(f"{len(unmatched)} names below {redact_url(data_url)} make no pair", flush=True)
        if not rows:
            raise ValueError(
                f"training data {data_url!r} has no names in both ir/ and vis/, expected pairs of "
                "images with one name: check the folder"
            )
        for row in rows:
            ir, vis = (
                decode_image(read_bytes(row[f"{side}_url"]), max_pixels=MAX_DECODED_PIXELS)
                for side in ("ir", "vis")
            )
            prepared = prepare_pair(ir, vis)
            pairs.append((torch.from_numpy(prepared.ir), torch.from_numpy(prepared.vis)))
    return pairs


def stage_one_loss(
    model: DMNet, ir: Tensor, vis: Tensor, config: TrainConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return L_au + L_dm and its parts, eq. (13) to (17)."""
    loss_vis = reconstruction_loss(vis, model.reconstruct(vis), config.mu)
    loss_ir = reconstruction_loss(ir, model.reconstruct(ir), config.mu)
    loss_dm = _noise_task(model, ir, vis)
    total = loss_vis + config.lambda1 * loss_ir + loss_dm
    return total, {"L_vi": loss_vis, "L_ir": loss_ir, "L_dm": loss_dm}


def stage_two_loss(
    model: DMNet, ir: Tensor, vis: Tensor, config: TrainConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return L_total and its parts, eq. (18), (19)."""
    batch, _, height, width = ir.shape
    noise = torch.randn(batch, *model.noise_shape(height, width))
    fused = model(ir, vis, noise)
    loss_int, loss_gd = intensity_loss(ir, vis, fused), gradient_loss(ir, vis, fused)
    loss_dm = _noise_task(model, ir, vis)
    total = loss_int + loss_dm + config.lambda2 * loss_gd
    return total, {"L_int": loss_int, "L_gd": loss_gd, "L_dm": loss_dm}


def train_dmnet(config: TrainConfig) -> Progress:
    """Train by the two stages until max_minutes or max_steps; leave OUT/dmnet.safetensors.

    Raises:
        ValueError: the data holds no pairs, or a loss is not finite.
    """
    torch.manual_seed(config.seed)
    network = DMNetConfig.compact() if config.preset == "compact" else DMNetConfig.paper()
    model = DMNet(network)
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(EMA_DECAY)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    progress = _restore(config, model, average, optimizer)
    pairs = load_training_pairs(config.data_urls)
    print(f"{len(pairs)} pairs, {sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    sampler = CropSampler(pairs, config, progress.step)
    torch.manual_seed(config.seed + progress.step)
    limit_s = 60.0 * config.max_minutes
    started, cpu_started, saved_at = time.monotonic(), time.process_time(), time.monotonic()
    elapsed_before, cpu_before = progress.elapsed_s, progress.cpu_s
    while progress.elapsed_s < limit_s and progress.step != config.max_steps:
        stage_two = progress.elapsed_s >= config.stage1_share * limit_s
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _schedule(progress, config, limit_s)
        ir, vis = sampler.draw()
        total, parts = (stage_two_loss if stage_two else stage_one_loss)(model, ir, vis, config)
        if not torch.isfinite(total):
            raise ValueError(
                f"training step {progress.step}: the loss is {total.item()}, expected a finite "
                "number: lower --learning-rate and start again from the last snapshot"
            )
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(model)
        progress.step += 1
        progress.elapsed_s = elapsed_before + time.monotonic() - started
        progress.cpu_s = cpu_before + time.process_time() - cpu_started
        if progress.step % LOG_EVERY_STEPS == 0:
            shown = "  ".join(f"{name} {value.item():.4f}" for name, value in parts.items())
            print(
                f"stage {'II' if stage_two else 'I'}  step {progress.step}  "
                f"{progress.elapsed_s / 60:.1f} min  {shown}",
                flush=True,
            )
        if time.monotonic() - saved_at > SNAPSHOT_EVERY_S:
            _save(config, model, average, optimizer, progress, len(pairs))
            saved_at = time.monotonic()
    _save(config, model, average, optimizer, progress, len(pairs))
    return progress


def _noise_task(model: DMNet, ir: Tensor, vis: Tensor) -> Tensor:
    batch, _, height, width = ir.shape
    noise = torch.randn(batch, *model.noise_shape(height, width)[1:])
    t = torch.randint(model.config.num_noise_steps, (batch,))
    return noise_loss(noise, model.predict_noise(ir, vis, t, noise))


def _schedule(progress: Progress, config: TrainConfig, limit_s: float) -> float:
    """Return the share of the peak learning rate: warm-up, then half a cosine over the time."""
    warm_up = min(1.0, (progress.step + 1) / WARM_UP_STEPS)
    done = min(1.0, progress.elapsed_s / limit_s)
    return warm_up * (0.02 + 0.98 * 0.5 * (1.0 + float(np.cos(np.pi * done))))


def _save(
    config: TrainConfig,
    model: DMNet,
    average: torch.optim.swa_utils.AveragedModel,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    num_pairs: int,
) -> None:
    card = {
        "training_data": ", ".join(url.rstrip("/").rsplit("/", 1)[-1] for url in config.data_urls),
        "training_pairs": str(num_pairs),
        "steps": str(progress.step),
        "wall_minutes": f"{progress.elapsed_s / 60:.1f}",
        "cpu_minutes": f"{progress.cpu_s / 60:.1f}",
        "losses": f"mu {config.mu}, lambda1 {config.lambda1}, lambda2 {config.lambda2}, Sobel",
        "optimizer": f"Adam {config.learning_rate}, cosine, clip 1, weight average {EMA_DECAY}",
        "crops": " ".join(f"{side}x{count}" for side, count in config.crop_batches),
        "software": f"torch {torch.__version__}",
    }
    state = io.BytesIO()
    torch.save(
        {
            "model": model.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
            "progress": json.dumps(vars(progress)),
        },
        state,
    )
    averaged = average.module
    assert isinstance(averaged, DMNet)
    put_bytes(
        join_url(config.output_url, "dmnet.safetensors"),
        save_checkpoint(averaged, card, dtype=torch.float16),
    )
    put_bytes(join_url(config.output_url, "snapshot.pt"), state.getvalue())


def _restore(
    config: TrainConfig,
    model: DMNet,
    average: torch.optim.swa_utils.AveragedModel,
    optimizer: torch.optim.Optimizer,
) -> Progress:
    url = join_url(config.output_url, "snapshot.pt")
    if not exists(url):
        return Progress()
    state = torch.load(io.BytesIO(read_bytes(url)), weights_only=True)
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return Progress(**json.loads(state["progress"]))
