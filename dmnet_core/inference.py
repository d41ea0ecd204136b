"""Inference on arrays: any size from 8 x 8 up, grey or colour, 8-bit, 16-bit or float.

    from dmnet_core.checkpoint import load_checkpoint
    from dmnet_core.inference import fuse
    fused = fuse(load_checkpoint().model, ir, vis)

Flow: `prepare_pair` of dmnet_core.prepare (no data, range, luminance, chroma) -> `fuse_prepared` or
`fuse_and_score` (pad, network, cut) -> `finish` (restore chroma, output type). `fuse` does all three.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dmnet_core.allocator import renew_memory
from dmnet_core.color import rgb_to_y, to_rgb
from dmnet_core.levels import to_levels
from dmnet_core.metrics import fusion_metrics
from dmnet_core.model import DMNet
from dmnet_core.model.config import DMNetConfig
from dmnet_core.noise import pair_key, position_noise
from dmnet_core.prepare import DEFAULT, Float, PreparedPair, Reading, prepare_pair
from dmnet_core.ranges import from_unit, to_unit, value_range

NUM_PEAK_MAPS = 25
"""Number of feature maps of the autoencoder, and as many of the U-Net, in memory at the peak where images
of several sizes take turns (benchmarks/memory.py)."""
NUM_ANCHORED_MAPS = 110
"""Number of maps at the image's resolution in memory at the peak while an anchored image is made
(benchmarks/memory.py)."""
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def fuse_prepared(
    model: DMNet,
    pairs: list[PreparedPair],
    *,
    pair_ids: list[str],
    seed: int = 0,
    precision: str = "fp32",
) -> list[Float]:
    """Fuse pairs of one size.

    Args:
        model: in eval mode; the pairs are fused on its device.
        pairs: all of one height and width.
        pair_ids: the name of each pair, which keys its noise.
        seed: seed of the noise.
        precision: fp32, or bf16 or fp16 on CUDA.

    Returns:
        The (H, W) luminance in [0, 1] of each pair.
    """
    ir, vis = _on_device(model, pairs)
    return _arrays(fuse_maps(model, ir, vis, pair_ids=pair_ids, seed=seed, precision=precision))


def fuse_and_score(
    model: DMNet,
    pairs: list[PreparedPair],
    *,
    pair_ids: list[str],
    seed: int = 0,
    precision: str = "fp32",
) -> tuple[list[Float], dict[str, Tensor]]:
    """Fuse pairs of one size and compute their metrics; nothing leaves the device in between.

    The metrics are those of an 8-bit result: `fusion_metrics` rounds all images to integer grey levels.
    Pixels without data on either side take no part in them.

    Args:
        model: as in `fuse_prepared`, and so are pairs, pair_ids, seed and precision.
        pairs: all of one height and width.
        pair_ids: the name of each pair.
        seed: seed of the noise.
        precision: precision of the network; the metrics are computed as always.

    Returns:
        The (H, W) luminance in [0, 1] of each pair, and (B,) float64 metrics by name, on the device.
    """
    ir, vis = _on_device(model, pairs)
    fused = fuse_maps(model, ir, vis, pair_ids=pair_ids, seed=seed, precision=precision)
    with torch.inference_mode():
        metrics = fusion_metrics(to_levels(ir), to_levels(vis), to_levels(fused), _masks(pairs, ir))
    return _arrays(fused), metrics


def _on_device(model: DMNet, pairs: list[PreparedPair]) -> tuple[Tensor, Tensor]:
    """Return ir and vis of all pairs as (B, 1, H, W) on the model's device."""
    device = next(model.parameters()).device
    ir, vis = (
        torch.from_numpy(np.stack(images))[:, None].to(device)
        for images in ([pair.ir for pair in pairs], [pair.vis for pair in pairs])
    )
    return ir, vis


def _masks(pairs: list[PreparedPair], like: Tensor) -> Tensor | None:
    """Return (B, 1, H, W) bool, True where both images have data; None where all have it everywhere."""
    masks = [pair.valid for pair in pairs]
    if all(mask is None for mask in masks):
        return None
    whole = np.ones(like.shape[2:], bool)
    return torch.from_numpy(np.stack([whole if m is None else m for m in masks]))[:, None].to(like.device)


def fuse_maps(
    model: DMNet,
    ir: Tensor,
    vis: Tensor,
    *,
    pair_ids: list[str],
    seed: int,
    precision: str,
    origins: list[tuple[int, int]] | None = None,
) -> Tensor:
    """Pad, run the network and cut.

    Args:
        model: in eval mode.
        ir: (B, 1, H, W) float32 luminance in [0, 1], on the model's device.
        vis: of the same shape, range and device.
        pair_ids: the name of each pair, which keys its noise.
        seed: seed of the noise.
        precision: fp32, or bf16 or fp16 on CUDA.
        origins: row and column of each image's first pixel in its scene, multiples of the network's
            `size_multiple`; None where the images are whole.

    Returns:
        (B, 1, H, W) float32 in [0, 1] on the model's device.
    """
    height, width = ir.shape[2:]
    multiple = model.config.size_multiple
    padding = (0, -width % multiple, 0, -height % multiple)
    ir, vis = (F.pad(image, padding, mode="replicate") for image in (ir, vis))
    if ir.device.type == "cpu":
        renew_memory(tuple(ir.shape))
    size, stride = model.noise_shape(*ir.shape[2:])[2:], model.config.dm_stride
    steps, device = model.config.feature_steps, ir.device
    noise = torch.stack(
        [
            position_noise(
                pair_key(name, seed), steps, *size, y0=y0 // stride, x0=x0 // stride, device=device
            )
            for name, (y0, x0) in zip(pair_ids, origins or [(0, 0)] * len(ir), strict=True)
        ]
    )
    half = AUTOCAST.get(precision)
    with torch.inference_mode(), torch.autocast(device.type, half, enabled=half is not None):
        fused = model(ir.contiguous(memory_format=torch.channels_last), vis, noise)
        cut: Tensor = fused[:, 0, :height, :width].float().contiguous()[:, None]  # (B, 1, H, W)
    return cut


def _arrays(images: Tensor) -> list[Float]:
    """Return the (H, W) arrays of a (B, 1, H, W) batch."""
    return list(images[:, 0].cpu().numpy())


def memory_bytes(config: DMNetConfig, num_pixels: int) -> int:
    """Estimate the peak memory of fusing one image on a CPU in float32, in bytes, without the weights.

    Ours: most is taken by the autoencoder's maps, which have the image's resolution over `unshuffle`, and
    the U-Net's first ones, or by the maps at the image's resolution that an anchored image is made from.
    The metrics are computed afterwards and take less.

    Args:
        config: size of the network.
        num_pixels: height x width of the image.
    """
    width = config.dim / config.unshuffle**2 + config.unet_base / config.dm_stride**2
    num_maps = max(NUM_PEAK_MAPS * width, NUM_ANCHORED_MAPS if config.anchored else 0)
    return int(4 * num_maps * num_pixels)


def finish(
    luminance: Float, pair: PreparedPair, output_dtype: str = "uint8"
) -> NDArray[np.generic]:
    """Restore the chroma and convert to an output type; pixels without data in both images become 0.

    Args:
        luminance: (H, W) float32 in [0, 1], the fused one.
        pair: the pair that it was fused from.
        output_dtype: uint8, uint16 or float32; see `ranges.from_unit`.

    Returns:
        (H, W), or (H, W, 3) where the pair has chroma, in the output type.
    """
    image = luminance if pair.chroma is None else to_rgb(luminance, pair.chroma)
    if pair.ir_valid is not None and pair.vis_valid is not None:
        image = image.copy()
        image[~(pair.ir_valid | pair.vis_valid)] = 0
    return from_unit(image, output_dtype)


def fuse(
    model: DMNet,
    ir: NDArray[np.generic],
    vis: NDArray[np.generic],
    *,
    pair_id: str = "",
    seed: int = 0,
    reading: Reading = DEFAULT,
    output_dtype: str = "uint8",
    precision: str = "fp32",
) -> NDArray[np.generic]:
    """Fuse one pair of arrays; return (H, W), or (H, W, 3) where the image that gives it has colour.

    Arguments and errors are those of `prepare_pair`, `fuse_prepared` and `finish`. Images of Pillow are
    given as numpy.asarray(image.convert("RGB")), tensors as tensor.permute(1, 2, 0).numpy().
    """
    pair = prepare_pair(ir, vis, reading)
    fused = fuse_prepared(model, [pair], pair_ids=[pair_id], seed=seed, precision=precision)
    return finish(fused[0], pair, output_dtype)


def fused_luminance(image: NDArray[np.generic], stretch: str = "none") -> Float:
    """Return the luminance of a fused image, ours or another method's, for scoring.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3); uint8, uint16, or float in [0, 1].
        stretch: "none", or "minmax", which maps the image's least and greatest value to 0 and 1, as
            in the tables of the CDDFuse family (CVPR 2023). Stretching an 8-bit image leaves gaps in
            its histogram: for a comparison with those tables, give 16 bits or floats.

    Returns:
        (H, W) float32 in [0, 1].

    Raises:
        ValueError: a float image has values outside [0, 1].
    """
    high = 1.0 if image.dtype.kind == "f" else float(np.iinfo(image.dtype.name).max)
    if image.dtype.kind == "f" and not (image.min() >= 0 and image.max() <= 1):
        raise ValueError(
            f"the fused image holds floats from {image.min():g} to {image.max():g}, expected [0, 1] and "
            "no NaN: scale it, or store 8 or 16 bits"
        )
    values = to_unit(image, 0.0, high)
    if values.ndim == 3:
        values = rgb_to_y(values) if values.shape[2] == 3 else values[..., 0]
    return to_unit(values, *value_range(values, "minmax")) if stretch == "minmax" else values
