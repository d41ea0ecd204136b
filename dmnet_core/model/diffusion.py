"""Forward noising of the diffusion module (DM).

Paper: DMNet, IEEE Internet of Things Journal, 2025, eq. (3) to (6).
Basis: DDPM (Ho et al., 2020, arXiv:2006.11239), eq. (4).
Ours: beta rises linearly from 1e-4 to 2e-2 over T = 1000 steps (DDPM's values).

Shapes: B batch, H and W height and width.
    z_0    (B, 2, H, W)  clean two-channel image, float32
    t      (B,)          step, int64, 0 <= t < T
    noise  (B, 2, H, W)  standard normal
    z_t    (B, 2, H, W)  sqrt(alpha_bar_t) * z_0 + sqrt(1 - alpha_bar_t) * noise
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ForwardNoising(nn.Module):
    """Noise a clean image to step t in one go, DMNet eq. (5)."""

    alpha_bar: Tensor  # (T,)

    def __init__(self, num_steps: int) -> None:
        super().__init__()
        # On the CPU even within torch.device("meta"), where this alone would load PyTorch's compiler.
        beta = torch.linspace(1e-4, 2e-2, num_steps, dtype=torch.float64, device="cpu")
        alpha_bar = torch.cumprod(1.0 - beta, dim=0).float()
        self.register_buffer("alpha_bar", alpha_bar, persistent=False)

    def forward(self, z_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return z_t; see the module docstring for shapes."""
        alpha_bar_t = self.alpha_bar[t].view(-1, 1, 1, 1)  # (B, 1, 1, 1)
        return alpha_bar_t.sqrt() * z_0 + (1.0 - alpha_bar_t).sqrt() * noise
