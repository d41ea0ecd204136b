"""Fusing by windows against fusing whole, for several ways to take a scene's statistics.

    python benchmarks/survey.py --pair ir.png vis.png 768 1024 --pair ...

Each pair is cut to its upper left rows and columns as given, and fused whole. The first table replays
the statistics of each survey over the whole image. The second one fuses it window by window. Differences
are in grey levels of 255.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dmnet_core import survey as survey_module
from dmnet_core.checkpoint import load_checkpoint
from dmnet_core.inference import fuse_prepared
from dmnet_core.prepare import PreparedPair, prepare_pair
from dmnet_core.scene import array_of, fuse_window, scene_windows
from dmnet_core.statistics import replaying
from dmnet_core.survey import MIN_HALO, Sample, plan_samples, shrink, survey
from dmnet_core.window import Window

NAME = ["a"]
SURVEYS = {  # samples along an axis, their side, MIN_HALO of `halo_of`, calibrated weights, extremes
    "3 x 3 of 128, no halo": (3, 128, 0, False, False),
    "6 x 6 of 128, no halo": (6, 128, 0, False, False),
    "4 x 4 of 64": (4, 64, 32, False, False),
    "4 x 4 of 64, weights": (4, 64, 32, True, False),
    "4 x 4 of 64, extremes": (4, 64, 32, False, True),
    "4 x 4 of 64, weights and extremes": (4, 64, 32, True, True),
    "8 x 8 of 64": (8, 64, 32, False, False),
    "8 x 8 of 64, weights and extremes": (8, 64, 32, True, True),
}


def read_pair(ir, vis, height, width):
    images = (np.asarray(Image.open(path)) for path in (ir, vis))
    return prepare_pair(*(image[: int(height), : int(width)] for image in images))


def take(model, pair, samples):
    images = [(array_of(pair.ir, s.window), array_of(pair.vis, s.window)) for s in samples]
    return survey(model, samples, images, pair_id=NAME[0])


def whole_sample(pair):
    return Sample(Window.of_image(*pair.ir.shape), 1.0)


def samples_of(model, pair, number, side, halo, weights, extremes):
    """Return the samples of one way to survey."""
    survey_module.most_pixels = lambda _: 0  # or a pair as small as these would be its own only sample
    survey_module.NUM_SAMPLES, survey_module.SAMPLE, survey_module.MIN_HALO = number, side, halo
    planned = plan_samples(model.config, shrink(pair.ir), shrink(pair.vis), *pair.ir.shape)
    survey_module.MIN_HALO = MIN_HALO
    return [
        sample if weights or not sample.weight else replace(sample, weight=1.0)
        for sample in planned
        if extremes or sample.weight
    ]


def replayed(model, pair, statistics):
    with replaying(model, statistics):
        return fuse_prepared(model, [pair], pair_ids=NAME)[0]


def by_windows(model, pair, statistics, window):
    fused = np.empty_like(pair.ir)
    for part in scene_windows(model.config, *pair.ir.shape, window):
        core = fuse_window(
            model, array_of(pair.ir, part), array_of(pair.vis, part), part, statistics, pair_id=NAME[0]
        )
        fused[part.rows.first : part.rows.last, part.columns.first : part.columns.last] = core
    return fused


def difference(one, other):
    levels = 255 * np.abs(one - other)
    return f"{levels.mean():.2f} | {levels.max():.1f}"


def steps_at(image, rows, columns):
    """Return the mean absolute step from the pixel before each of these rows and columns."""
    steps = [np.abs(image[n] - image[n - 1]) for n in rows]
    return np.concatenate(steps + [np.abs(image[:, n] - image[:, n - 1]) for n in columns]).mean()


def gradient_ratios(fused, whole, window):
    """Return the steps across window borders and at the outer border, each over those of the whole."""
    height, width = whole.shape
    inner = range(window, height, window), range(window, width, window)
    outer = (1, height - 1), (1, width - 1)
    return [steps_at(fused, *where) / steps_at(whole, *where) for where in (inner, outer)]


def main():
    """Print both tables of each pair."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pair", nargs=4, action="append", required=True,
                        metavar=("IR", "VIS", "HEIGHT", "WIDTH"))  # fmt: skip
    parser.add_argument("--windows", nargs="+", type=int, default=[256, 512])
    parser.add_argument("--surveys", nargs="+", default=list(SURVEYS), choices=list(SURVEYS))
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = load_checkpoint().model
    for paths in given.pair:
        pair = read_pair(*paths)
        measure(model, pair, f"{Path(paths[0]).stem} {pair.ir.shape}", given)


def measure(model, pair, name, given):
    whole = fuse_prepared(model, [pair], pair_ids=NAME)[0]
    print(f"\n{name}\n\n| survey | samples | mean | most |\n|---|---|---|---|", flush=True)
    height, width = pair.ir.shape
    own = take(model, pair, [whole_sample(pair)])
    half = PreparedPair(
        *(image[: height // 2 * 2, : width // 2 * 2].reshape(height // 2, 2, width // 2, 2).mean((1, 3))
          for image in (pair.ir, pair.vis)), None, (0, 1), (0, 1))  # fmt: skip
    overview = take(model, half, [whole_sample(half)])
    for label, statistics in (("whole image", own), ("overview of half size", overview)):
        print(f"| {label} | | {difference(replayed(model, pair, statistics), whole)} |", flush=True)
    for label in given.surveys:
        samples = samples_of(model, pair, *SURVEYS[label])
        taken = take(model, pair, samples)
        differs = difference(replayed(model, pair, taken), whole)
        print(f"| {label} | {len(samples)} | {differs} |", flush=True)
    print("\n| statistics | window | mean | most | borders | outer border |\n|---|---|---|---|---|---|")
    by_size = []
    for label, statistics in (("whole image", own), (given.surveys[-1], taken)):
        for window in given.windows:
            fused = by_windows(model, pair, statistics, window)
            inner, outer = gradient_ratios(fused, whole, window)
            differs = difference(fused, whole)
            print(f"| {label} | {window} | {differs} | {inner:.3f} | {outer:.3f} |", flush=True)
            by_size.append(fused)
    print(f"| {given.surveys[-1]} | {given.windows[0]} and {given.windows[-1]} | "
          f"{difference(by_size[-1], by_size[-len(given.windows)])} | | |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
