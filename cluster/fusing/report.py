"""What a run tells people: the plan, one progress line, the closing table, the preview picture."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cluster.archive.sources.frames import decode_image
from cluster.fusing.plan import Plan
from cluster.storage import fused_store
from cluster.storage import objects as storage
from cluster.text.plain_text import one_line, printable
from cluster.text.run_log import RunLog
from dmnet_core.inference import prepare_pair
from dmnet_core.metrics import METRICS
from dmnet_core.ranges import from_unit, to_unit

if TYPE_CHECKING:
    from cluster.fusing.results import Summary

SECONDS_PER_LINE = 30.0
SECONDS_PER_REDRAW = 0.5
NUM_PREVIEW = 4
CELL_WIDTH, CELL_GAP, LABEL_HEIGHT = 400, 6, 18


class MetricsSeen:
    """What people are shown of a metrics table that passes by: the means, and a few pairs."""

    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows
        self.places = np.unique(np.linspace(0, num_rows - 1, min(NUM_PREVIEW, num_rows)).astype(int))
        self.shown = pd.DataFrame()
        """The rows of a few pairs, far from each other."""
        self.sums = dict.fromkeys(METRICS, 0.0)
        self.counts = dict.fromkeys(METRICS, 0)

    def passing(self, frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        """Pass the table's `num_rows` rows on."""
        start = 0
        for frame in frames:
            for name in METRICS:
                values = frame[name].to_numpy(dtype=float)
                finite = values[np.isfinite(values)]
                self.sums[name] += float(finite.sum())
                self.counts[name] += len(finite)
            here = self.places[(self.places >= start) & (self.places < start + len(frame))]
            self.shown = pd.concat([self.shown, frame.iloc[here - start]])
            start += len(frame)
            yield frame

    def means(self) -> str:
        """Return the metrics' means over all pairs where they are finite, in one line."""
        return "  ".join(
            f"{name} {self.sums[name] / count:.3g}" for name, count in self.counts.items() if count
        )


class Progress:
    """One short line: redrawn in place on a terminal, else a new one every 30 seconds."""

    def __init__(self, total: int, log: RunLog) -> None:
        self.total = total
        self.log = log
        self.done = 0
        self.rejected = 0
        self.start = time.monotonic()
        self.first: float | None = None
        self.last_line = self.start
        self.live = sys.stdout.isatty() and not log.as_json

    def add(self, done: int, rejected: int) -> None:
        """Count windows that are finished, of which `rejected` were not fused."""
        self.done += done
        self.rejected += rejected
        now = time.monotonic()
        if now - self.last_line >= (SECONDS_PER_REDRAW if self.live else SECONDS_PER_LINE):
            self.last_line = now
            self._say(end="")

    def line(self) -> str:
        """Return the line as it is now."""
        rate = self.done / max(time.monotonic() - self.start, 1e-6)
        left = duration((self.total - self.done) / rate) if rate > 0 else "?"
        return (
            f"{self.done}/{self.total} pairs  {rate:.2f} pairs/s  {left} left  "
            f"{self.rejected} rejected"
        )

    def close(self) -> None:
        """End the line."""
        self._say(end="\n")

    def _say(self, end: str) -> None:
        if self.live:
            print(f"\r{self.line()}   ", end=end, flush=True)
            return
        counts = {"done": self.done, "total": self.total, "rejected": self.rejected}
        self.log.say("progress", self.line(), **counts)


def say_plan(
    log: RunLog, plan: Plan, num_unmatched: int, *, prune: bool = False, memory: str = ""
) -> None:
    """Say what a run would do; `memory` is what an actor will need, in words."""
    unknown = int((plan.todo[["ir_size", "vis_size"]] < 0).to_numpy().sum())
    rows = {
        "pairs in index": len(plan.pairs) + num_unmatched,
        "without partner": num_unmatched,
        "already done": plan.num_done,
        "pairs to fuse": len(plan.todo),
        "windows": len(plan.todo),
        "to read": size(plan.read_bytes) + (f" and {unknown} files of unknown size" if unknown else ""),
        "to write": f"about {size(plan.write_bytes)}",
    }
    if memory:
        rows["memory"] = memory
    if len(plan.gone):
        others = f", {plan.num_gone_otherwise} of other settings" if plan.num_gone_otherwise else ""
        if num_torn := int((plan.gone["status"] != "fused").sum()):
            others += f", {num_torn} of a run that died may have pixels and have no metrics"
        kept = "results removed" if prune else f"results kept{others}; --prune removes them"
        rows["left the index"] = f"{len(plan.gone)} ({kept})"
    log.say(
        "plan", table(rows), pairs=len(plan.pairs) + num_unmatched, without_partner=num_unmatched,
        done=plan.num_done, to_fuse=len(plan.todo), read_bytes=plan.read_bytes, gone=len(plan.gone),
    )  # fmt: skip


def table(rows: dict[str, Any]) -> str:
    """Return names and values in two columns."""
    width = max(map(len, rows))
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows.items())


def say_summary(
    log: RunLog, summary: Summary, urls: dict[str, str], seen: MetricsSeen, seconds: float
) -> None:
    """Say how a run ended and where its results are."""
    rows: dict[str, Any] = {
        "pairs": f"{summary.num_pairs} = {summary.num_fused} fused + {summary.num_rejected} rejected"
    }
    rows |= {f"  {printable(reason)}": count for reason, count in summary.reasons.items()}
    if seen.num_rows:
        rows["means"] = seen.means()
    rows["time"] = duration(seconds)
    rows |= {name: printable(storage.redact_url(url)) for name, url in urls.items()}
    log.say(
        "finished", table(rows), pairs=summary.num_pairs, fused=summary.num_fused,
        rejected=summary.num_rejected, reasons=summary.reasons, problem=summary.problem,
        seconds=round(seconds, 3),
    )  # fmt: skip


def duration(seconds: float) -> str:
    """Return seconds as 42s, 3m20s or 5h07m."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def size(num_bytes: float) -> str:
    """Return bytes as 812 B, 3.1 MB, ..."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def make_preview(
    pairs: pd.DataFrame, store_url: str, *, range_policy: str, max_pixels: int
) -> bytes | None:
    """Return a PNG of IR | VIS | fused of pairs, None where there is none.

    Args:
        pairs: rows of the metrics table.
        store_url: where the fused arrays are.
        range_policy: how sources become grey levels.
        max_pixels: as in `decode_image`.
    """
    strips = []
    for _, row in pairs.iterrows():
        try:
            ir, vis = (
                decode_image(storage.read_bytes(row[f"{side}_url"]), max_pixels=max_pixels)
                for side in ("ir", "vis")
            )
            fused = fused_store.read_fused(store_url, row["zarr_path"], max_pixels=max_pixels)
            pair = prepare_pair(ir, vis, range_policy)
        except (OSError, ValueError) as error:
            print(f"  preview leaves out {row['pair_id']!r}: {one_line(error)}", file=sys.stderr)
            continue  # a file went away or changed after it was fused: the picture does without it
        shown_vis = vis if vis.dtype == np.uint8 else from_unit(pair.vis, "uint8")
        images = [from_unit(pair.ir, "uint8"), shown_vis, _to_8_bit(fused)]
        strips.append(draw_strip(images, str(row["pair_id"])))
    return draw_sheet(strips) if strips else None


def draw_sheet(strips: list[Image.Image]) -> bytes:
    """Return the PNG of strips, one below the other."""
    sheet = Image.new("RGB", (strips[0].width, sum(strip.height for strip in strips)), "white")
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _to_8_bit(fused: NDArray[np.generic]) -> NDArray[np.generic]:
    if fused.dtype == np.uint8:
        return fused
    high = 1.0 if fused.dtype == np.float32 else float(np.iinfo(fused.dtype.name).max)
    return from_unit(to_unit(fused, 0.0, high), "uint8")


def draw_strip(images: list[NDArray[np.generic]], pair_id: str) -> Image.Image:
    """Return 8-bit IR, VIS and fused side by side, with the pair's name above."""
    height = max(1, round(images[0].shape[0] * CELL_WIDTH / images[0].shape[1]))
    width = 3 * CELL_WIDTH + 2 * CELL_GAP
    strip = Image.new("RGB", (width, height + LABEL_HEIGHT + CELL_GAP), "white")
    draw = ImageDraw.Draw(strip)
    shown = printable(pair_id.encode("ascii", "replace").decode())[:48]
    labels = (f"IR  {shown}", "VIS", "fused")
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        left = index * (CELL_WIDTH + CELL_GAP)
        cell = Image.fromarray(image).convert("RGB").resize((CELL_WIDTH, height))
        strip.paste(cell, (left, LABEL_HEIGHT))
        draw.text((left + 2, 3), label, fill="black")
    return strip
