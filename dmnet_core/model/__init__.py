"""The DMNet network: embed, DTB, DIB, DM, CSAB, decoder (DMNet, IEEE IoT-J 2025)."""

from dmnet_core.model.config import DMNetConfig
from dmnet_core.model.dmnet import DMNet

__all__ = ["DMNet", "DMNetConfig"]
