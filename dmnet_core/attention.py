"""What CSAB does to the feature maps of a pair: the maps before and after it.

Paper: DMNet Fig. 11 shows them as heat maps, for the detail maps of both sources and the latent map.
Ours: one number a pixel is the mean of the absolute values over the channels.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dmnet_core.inference import fuse_prepared
from dmnet_core.model import DMNet
from dmnet_core.model.csab import CSAB
from dmnet_core.prepare import Float, PreparedPair

MAPS = ("latent", "infrared detail", "visible detail")
"""Names of the maps, in the order in which the network sends them through CSAB."""


def csab_maps(
    model: DMNet, pair: PreparedPair, *, pair_id: str = "", seed: int = 0
) -> dict[str, tuple[Float, Float]]:
    """Return each of MAPS before and after CSAB, while a pair is fused.

    Args:
        model: in eval mode.
        pair: the pair, fused whole.
        pair_id: its name, which keys its noise.
        seed: seed of the noise.

    Returns:
        By name two (h, w) float32 maps, 0 or more: h and w are the pair's height and width over
        `DMNetConfig.unshuffle`, rounded up.

    Raises:
        ValueError: the network was trained without CSAB.
    """
    if not isinstance(model.csab, CSAB):
        raise ValueError("csab_maps: the network has no CSAB, expected one that was trained with it")
    height, width = (-(-side // model.config.unshuffle) for side in pair.ir.shape)
    seen: list[tuple[Float, Float]] = []

    def strength(maps: Tensor) -> Float:
        mean: Float = maps[0].abs().mean(dim=0)[:height, :width].float().cpu().numpy()
        return mean

    def keep(_: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((strength(inputs[0]), strength(output)))

    hook = model.csab.register_forward_hook(keep)
    try:
        fuse_prepared(model, [pair], pair_ids=[pair_id], seed=seed)
    finally:
        hook.remove()
    return dict(zip(MAPS, seen, strict=True))
