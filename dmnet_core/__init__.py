"""DMNet in PyTorch: network, losses, metrics, noise, colour and range, inference on arrays."""
