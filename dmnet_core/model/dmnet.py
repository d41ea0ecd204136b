"""DMNet: one infrared and one visible image in, one fused image out.

Paper: DMNet (IEEE Internet of Things Journal, vol. 12, no. 19, 2025).

    stage I    I_x' = DE(A(D(B(I_x))))                   eq. (11), `reconstruct`
    stage II   F = DE(A(D_ir) + A(D_vis) + A(L))         eq. (12), `forward`

B is DTB, D is DIB, A is CSAB, L the latent map of DM, DE the decoder.

Shapes: images (B, 1, H, W) float32 luminance in [0, 1], H and W multiples of
`DMNetConfig.size_multiple`; noise (B, S, 2, H / stride, W / stride) standard normal.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmnet_core.model.config import DMNetConfig
from dmnet_core.model.csab import CSAB
from dmnet_core.model.decoder import Decoder, anchored
from dmnet_core.model.dib import DIB
from dmnet_core.model.dm import DM
from dmnet_core.model.dtb import DTB


class DMNet(nn.Module):
    """The whole network with its two forward paths."""

    def __init__(self, config: DMNetConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Conv2d(config.unshuffle**2, config.dim, 3, padding=1)
        dim, without = config.dim, config.without
        self.dtb = two_convolutions(dim, dim) if "dtb" in without else DTB(config)
        self.dib = two_convolutions(dim, dim) if "dib" in without else DIB(config)
        self.csab = nn.Identity() if "csab" in without else CSAB(dim)
        if "dm" in without:
            self.latent = two_convolutions(2 * dim, dim)
        else:
            self.to_dm = nn.Conv2d(2 * dim, 2, 3, padding=1)
            self.dm = DM(config)
        self.decoder = Decoder(config)

    def reconstruct(self, image: Tensor) -> Tensor:
        """Return I_x' of one modality, (B, 1, H, W), eq. (11)."""
        self._check_size(image)
        restored: Tensor = self.decoder(self.csab(self.dib(self._shallow(image))))
        return restored

    def predict_noise(self, ir: Tensor, vis: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return eps_theta with the two images as the clean input, eq. (17).

        Args:
            ir: (B, 1, H, W) in [0, 1].
            vis: the same shape and range.
            t: (B,) int64 noise step.
            noise: (B, 2, H / stride, W / stride) standard normal.
        """
        images = 2.0 * torch.cat([ir, vis], dim=1) - 1.0  # DDPM's units, [-1, 1]
        return self.dm.predict_noise(F.avg_pool2d(images, self.config.dm_stride), t, noise)

    def forward(self, ir: Tensor, vis: Tensor, noise: Tensor) -> Tensor:
        """Return F, (B, 1, H, W) in [0, 1], eq. (12)."""
        self._check_size(ir)
        shallow_ir, shallow_vis = self._shallow(ir), self._shallow(vis)
        shallow = torch.cat([shallow_ir, shallow_vis], dim=1)
        if "dm" in self.config.without:
            total = self.csab(self.latent(shallow))
        else:
            total = self.csab(self.dm(F.avg_pool2d(self.to_dm(shallow), self.dm.stride), noise))
        total = total + self.csab(self.dib(shallow_ir))
        total = total + self.csab(self.dib(shallow_vis))
        if self.config.anchored:
            maps = self.decoder.maps(total)
            with torch.autocast(ir.device.type, enabled=False):  # differences need float32
                return anchored(ir.float(), vis.float(), maps.float())
        fused: Tensor = self.decoder(total)
        return fused

    def _shallow(self, image: Tensor) -> Tensor:
        """Return B(I_x), (B, dim, H / unshuffle, W / unshuffle)."""
        shallow: Tensor = self.dtb(self.embed(F.pixel_unshuffle(image, self.config.unshuffle)))
        return shallow

    def noise_shape(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return (S, 2, height / stride, width / stride): the noise of one (height, width) pair."""
        stride = self.config.dm_stride
        return (len(self.config.feature_steps), 2, height // stride, width // stride)

    @property
    def predicts_noise(self) -> bool:
        """Whether the network has a DM, which is trained to predict noise."""
        return "dm" not in self.config.without

    def _check_size(self, image: Tensor) -> None:
        multiple = self.config.size_multiple
        if image.ndim != 4 or image.shape[1] != 1 or any(n % multiple for n in image.shape[2:]):
            raise ValueError(
                f"DMNet: an image has shape {tuple(image.shape)}, expected (B, 1, H, W) with H and "
                f"W multiples of {multiple}: dmnet_core.inference.fuse pads for you"
            )


def two_convolutions(channels: int, dim: int) -> nn.Sequential:
    """Return two 3 x 3 convolutions, the replacement of a part that an ablation leaves out.

    They map (B, channels, H, W) to (B, dim, H, W).
    """
    return nn.Sequential(
        nn.Conv2d(channels, dim, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(dim, dim, 3, padding=1),
    )
