"""A scene of any size through jobs/fuse_archive.py: time a megapixel, and the memory of each process.

    python benchmarks/scene.py make --side 20000 scene/       # 1.2 GB
    python benchmarks/scene.py run scene/

`make` writes a georeferenced pair: an RGB GeoTIFF of some side x side pixels, no multiple of anything,
and an infrared one of 16 bits at a third of its resolution, both tiled and without overviews, and with a
part without data. It also writes frames of 1280 x 1024 pixels of the same kind of ground.

`run` fuses the frames and then the scene, and prints for both the seconds a megapixel, and for the scene
the most memory that each kind of process held (proportional set size: memory shared with others counts
in shares).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

ROOT = Path(__file__).resolve().parents[1]
BLOCK = 512
SIZES = {"vis": 1, "ir": 3}
"""Pixels of the visible image along a side of a pixel, by side."""
FRAME = (1024, 1280)


def ground(y: np.ndarray, x: np.ndarray, side: str) -> np.ndarray:
    """Return what lies at positions in visible pixels: fields, roads and grain."""
    rng = np.random.default_rng(5)
    height = np.zeros(np.broadcast(y, x).shape)
    for octave in range(7):
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        period = 4000 / 2.3**octave
        along = (np.cos(angle) * x + np.sin(angle) * y) / period
        across = (np.cos(angle) * y - np.sin(angle) * x) / period
        height += np.sin(2 * np.pi * along + 2 * np.sin(2 * np.pi * across) + phase) / 1.4**octave
    fields = ((y // 310).astype(np.int64) * 7919 + (x // 470).astype(np.int64) * 104729) % 97 / 97
    road = (np.abs((y + 0.3 * x) % 1700 - 850) < 6) | (np.abs((x - 0.2 * y) % 2300 - 1150) < 5)
    grain = (((y.astype(np.int64) * 73856093) ^ (x.astype(np.int64) * 19349663)) % 251) / 251 - 0.5
    if side == "ir":
        warm = 0.35 + 0.12 * height - 0.2 * fields + 0.35 * road + 0.02 * grain
        return np.clip(20_000 + 5_000 * warm, 1, 65_535).astype(np.uint16)
    grey = 0.45 + 0.1 * height + 0.25 * fields - 0.2 * road + 0.08 * grain
    colours = [np.clip(255 * (grey + tint), 0, 255) for tint in (0.0, 0.04, -0.06)]
    return np.stack(colours).astype(np.uint8)


def write_image(path: Path, side: str, height: int, width: int, origin: int, hole: bool) -> None:
    """Write one side of a pair block by block."""
    step = SIZES[side]
    rows, columns = -(-height // step), -(-width // step)
    path.parent.mkdir(parents=True, exist_ok=True)
    count, dtype = (3, "uint8") if side == "vis" else (1, "uint16")
    place = from_origin(600_000 + origin, 4_500_000 - origin, step, step)
    with rasterio.open(
        path, "w", driver="GTiff", height=rows, width=columns, count=count, dtype=dtype, tiled=True,
        blockxsize=BLOCK, blockysize=BLOCK, crs="EPSG:32614", transform=place, bigtiff="if_safer",
        **({"nodata": 0} if side == "ir" else {"photometric": "rgb"}),
    ) as file:  # fmt: skip
        for top in range(0, rows, BLOCK):
            for left in range(0, columns, BLOCK):
                h, w = min(BLOCK, rows - top), min(BLOCK, columns - left)
                y = (top + np.arange(h)[:, None] + 0.5) * step + origin
                x = (left + np.arange(w)[None] + 0.5) * step + origin
                pixels = ground(np.floor(y), np.floor(x), side)
                if side == "ir" and hole:  # a corner that the sensor has not seen
                    pixels[(y + x) < 0.2 * height] = 0
                file.write(pixels if count == 3 else pixels[None], window=Window(left, top, w, h))


def make(folder: Path, side: int, num_frames: int) -> None:
    """Write the scene and the frames."""
    for name in ("vis", "ir"):
        write_image(folder / "scene" / name / "scene.tif", name, side + 11, side - 3, 0, hole=True)
        for number in range(num_frames):
            path = folder / "frames" / name / f"{number}.tif"
            write_image(path, name, *FRAME, 1500 * number, hole=False)


def memory_by_kind(session: int) -> dict[str, int]:
    """Return the proportional set size, in bytes, of the largest process of each kind of a session."""
    found: dict[str, int] = defaultdict(int)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) != session:
                continue
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            text = (folder / "smaps_rollup").read_text()
        except OSError:
            continue  # it ended
        kind = re.sub(r"[^A-Za-z_:>().-].*", "", title.rpartition("/")[2].strip() or title)[:40]
        pss = int(re.search(r"^Pss:\s+(\d+) kB", text, re.M)[1]) * 1024
        found[kind] = max(found[kind], pss)
    return found


def fuse(folder: Path, *options: str) -> tuple[float, dict[str, int]]:
    """Run the job over ir/ and vis/ of a folder; return its seconds, and the most memory by kind."""
    output = folder / "out"
    shutil.rmtree(output, ignore_errors=True)
    command = [
        sys.executable, str(ROOT / "jobs/fuse_archive.py"), "--ir", str(folder / "ir"), "--vis",
        str(folder / "vis"), "--output", str(output), *options,
    ]  # fmt: skip
    start = time.monotonic()
    job = subprocess.Popen(command, start_new_session=True)
    most: dict[str, int] = defaultdict(int)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(1.0):
            for kind, size in memory_by_kind(job.pid).items():
                most[kind] = max(most[kind], size)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = job.wait()
    ended.set()
    watcher.join()
    if code:
        sys.exit(f"the job ended with exit code {code}")
    return time.monotonic() - start, most


def run(folder: Path, *options: str) -> None:
    """Fuse the frames and the scene, and print the figures."""
    with rasterio.open(folder / "scene/vis/scene.tif") as file:
        scene = file.height * file.width / 1e6
    frames = len(list((folder / "frames/vis").iterdir())) * FRAME[0] * FRAME[1] / 1e6
    frames_s, _ = fuse(folder / "frames", *options)
    scene_s, memory = fuse(folder / "scene", *options)
    print(f"frames: {frames:.1f} megapixels, {frames_s / frames:.2f} s each, with the start of Ray")
    print(f"scene:  {scene:.1f} megapixels, {scene_s / scene:.2f} s each, with the start of Ray")
    for kind, size in sorted(memory.items(), key=lambda item: -item[1]):
        print(f"  {size / 1e6:8.0f} MB  {kind}")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("make", help="write the scene and the frames")
    maker.add_argument("folder", type=Path)
    maker.add_argument("--side", type=int, default=20_000, help="side of the scene, in pixels")
    maker.add_argument("--frames", type=int, default=4, help="number of frames of 1280 x 1024")
    runner = commands.add_parser("run", help="fuse them; further options go to fuse_archive")
    runner.add_argument("folder", type=Path)
    given, options = parser.parse_known_args()
    if given.command == "make":
        make(given.folder, given.side, given.frames)
    else:
        run(given.folder, *options)


if __name__ == "__main__":
    main()
