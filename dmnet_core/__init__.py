"""DMNet in PyTorch: network, losses, metrics, noise, colour and range, inference on arrays."""

__version__ = "0.1.0"
