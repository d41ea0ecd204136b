"""What the network costs: python benchmarks/network.py --preset paper.

Seconds a pair and peak GPU memory in fp32 and bf16, and training steps a second (stage II, crops of
128), on the GPU where there is one. On a CPU, fp32 alone, and a line on what could not be measured.
Beside the seconds stands the network's arithmetic as a share of what this machine does in a product of
two large matrices, measured in the same run.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dmnet_core.allocator import keep_memory  # noqa: E402
from dmnet_core.inference import fuse_prepared  # noqa: E402
from dmnet_core.losses import LossWeights, NoiseDraw, StageLoss  # noqa: E402
from dmnet_core.model import DMNet, DMNetConfig  # noqa: E402
from dmnet_core.prepare import prepare_pair  # noqa: E402
from dmnet_core.synthetic import render_scene  # noqa: E402


def timed(call, device, repeats):
    """Return the median seconds of several calls after one that warms up."""
    call()
    times = []
    for _ in range(repeats):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def matrix_rate(device, precision):
    """Return the floating-point operations a second of a product of 2048 x 2048 matrices."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    one, other = torch.rand(2, 2048, 2048, device=device, dtype=dtype)
    return 2 * 2048**3 / timed(lambda: one @ other, device, 5)


def arithmetic(model, pair):
    """Return the floating-point operations of fusing a pair."""
    with FlopCounterMode(display=False) as counter:
        fuse_prepared(model, [pair], pair_ids=["0"])
    return counter.get_total_flops()


def time_inference(model, pair, device, precision, repeats):
    """Print seconds a pair and peak memory."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = timed(
        lambda: fuse_prepared(model, [pair], pair_ids=["0"], precision=precision), device, repeats
    )
    memory = f"{torch.cuda.max_memory_allocated() / 1e9:.2f} GB peak" if device == "cuda" else "CPU"
    share = arithmetic(model, pair) / seconds / matrix_rate(device, precision)
    rate = f"{share:.0%} of the matrix rate"
    print(f"fuse {precision}    {seconds:.3f} s a pair   {rate}   {memory}", flush=True)


def time_training(model, batch, device, precision, repeats):
    """Print training steps a second."""
    model.train()
    loss = StageLoss(model, LossWeights(), bf16=precision == "bf16")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    generator = torch.Generator().manual_seed(0)
    ir, vis = torch.rand(2, batch, 1, 128, 128, generator=generator).to(device)

    def step():
        draw = NoiseDraw.draw(model, ir, generator)
        total = loss(2, ir, vis, draw)["total"]
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()

    seconds = timed(step, device, repeats)
    print(f"train {precision}   {1 / seconds:.3f} steps a second of {batch} crops", flush=True)


def main():
    """Print the costs of one preset."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=("fast", "compact", "paper"), default="compact")
    parser.add_argument("--size", default="480x640", metavar="HxW")
    parser.add_argument("--batch-size", type=int, default=8, help="crops of a training step (8)")
    parser.add_argument("--repeats", type=int, default=5, help="the median is shown (5)")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    height, width = map(int, arguments.size.split("x"))
    pair = prepare_pair(*render_scene("aerial", 0, height, width))
    keep_memory()
    config = DMNetConfig.of_preset(arguments.preset)
    torch.manual_seed(0)
    model = DMNet(config).to(device).eval()
    model.to(memory_format=torch.channels_last)
    name = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{arguments.preset}, {height} x {width}, {name}")
    precisions = ("fp32", "bf16") if device == "cuda" else ("fp32",)
    for precision in precisions:
        time_inference(model, pair, device, precision, arguments.repeats)
    for precision in precisions:
        time_training(model, arguments.batch_size, device, precision, arguments.repeats)
    if device == "cpu":
        print("not measured, for want of a GPU: bf16, peak GPU memory, and the times on one")


if __name__ == "__main__":
    main()
