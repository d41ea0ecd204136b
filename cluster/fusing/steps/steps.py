"""The three steps of the fusing pipeline, as plain functions and a class on rows.

    read_window -> FuseWindows -> write_window

No Ray here: the pipeline hands these to Ray Data, a test calls them. A row goes in and a row comes
out, whatever happens to it: an error becomes the row's `reason` and `detail` at the step's edge.
Pixels travel as bytes beside their shape and type, which is what Ray moves fastest.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cluster.archive.sources.frames import BadImage, decode_image
from cluster.fusing.steps.attempts import MAX_ATTEMPTS, AttemptCounts, Attempts
from cluster.storage import fused_store
from cluster.storage import objects as storage
from dmnet_core.checkpoint import load_checkpoint
from dmnet_core.inference import (
    NoFinitePixels,
    PreparedPair,
    SizeMismatch,
    TooSmall,
    finish,
    fuse_prepared,
    prepare_pair,
)
from dmnet_core.metrics import METRICS, fusion_metrics

Row = dict[str, Any]
Batch = dict[str, Any]

RANGES = ("ir_low", "ir_high", "vis_low", "vis_high")
COUNTED_BYTES = 2**24
"""Pixels of one pair from which on its writing may take a process's memory: attempts are counted."""
INFERENCE_REASONS = {
    SizeMismatch: "size_mismatch",
    TooSmall: "too_small",
    NoFinitePixels: "no_finite_pixels",
}


def read_window(row: Row, *, max_pixels: int, attempts: Attempts | None = None) -> Row:
    """Step 1 of 3: add the pixels of one window to its row.

    A pair whose reading ended its process MAX_ATTEMPTS times is not begun again.

    In:  pair_id, ir_url, vis_url (str), and columns that are passed on.
    Out: the same row plus
         ir, vis                the pixels' bytes, empty where reason is set
         ir_shape, vis_shape    "H W" or "H W 3"
         ir_dtype, vis_dtype    uint8, uint16 or float32
         reason, detail         "" or why the pair is rejected
         read_bytes, read_s     size of both files, seconds
    """
    start = time.perf_counter()
    attempts = attempts or AttemptCounts()
    key = f"read {row['pair_id']}"
    images: dict[str, NDArray[np.generic]] = {}
    reason, detail, read_bytes = "", "", 0
    if attempts.begin([key])[0] >= MAX_ATTEMPTS:
        reason, detail = "crashed", _crashed("read")
    for side in () if reason else ("ir", "vis"):
        try:
            data = storage.read_bytes(row[f"{side}_url"])
            read_bytes += len(data)
            images[side] = decode_image(data, max_pixels=max_pixels)
        # The edge of the step: one bad pair must not end the run of a million.
        except Exception as error:
            reason, detail = explain(error)
            detail = f"{side}: {detail}"
            break
    attempts.end([key])
    out = {**row, "reason": reason, "detail": detail, "read_bytes": read_bytes}
    for side in ("ir", "vis"):
        image = None if reason else images[side]
        out |= _pack(side, image)
    return {**out, "read_s": time.perf_counter() - start}


class FuseWindows:
    """Step 2 of 3: fuse batches of windows; holds the network, so one is made per actor."""

    def __init__(
        self,
        *,
        checkpoint_url: str | None,
        digest: str,
        device: str,
        num_threads: int,
        range_policy: str,
        output_dtype: str,
        precision: str,
        seed: int,
        attempts: Attempts | None = None,
    ) -> None:
        """Load the network; ValueError if its weights are not the ones that the plan was made for.

        Args:
            checkpoint_url: a .safetensors file, None for the shipped weights.
            digest: SHA-256 that the file must have.
            device: "cpu" or "cuda".
            num_threads: of the CPU, for PyTorch.
            range_policy: see dmnet_core.ranges.
            output_dtype: uint8, uint16 or float32.
            precision: fp32, bf16 or fp16.
            seed: of the noise.
            attempts: where begun pairs are counted; None counts in this process.
        """
        torch.set_num_threads(num_threads)
        source = None if checkpoint_url is None else storage.read_bytes(checkpoint_url)
        checkpoint = load_checkpoint(source, device)
        if checkpoint.digest != digest:
            raise ValueError(
                f"the checkpoint {storage.redact_url(checkpoint_url or 'shipped')!r} has the digest "
                f"{checkpoint.digest} on this worker, expected {digest}: every node of the cluster "
                "needs the file that the job was started with"
            )
        self.model = checkpoint.model
        self.device = device
        self.range_policy = range_policy
        self.output_dtype = output_dtype
        self.precision = precision
        self.seed = seed
        self.attempts = attempts or AttemptCounts()

    def __call__(self, batch: Mapping[str, Any]) -> Batch:
        """Fuse a batch of columns; return it without ir and vis and with what `fuse_rows` adds."""
        names = list(batch)
        rows = [
            dict(zip(names, values, strict=True))
            for values in zip(*(list(batch[name]) for name in names), strict=True)
        ]
        return _columns(self.fuse_rows(rows))

    def fuse_rows(self, rows: list[Row]) -> list[Row]:
        """Fuse rows of `read_window`, in their order.

        Where one of them was begun before and its process ended, each goes by itself.

        Out: the row without ir and vis, plus
             fused, fused_shape, fused_dtype   as in `read_window`
             height, width, bands              int, 0 where reason is set
             ir_low, ... vis_high              source values that became 0 and 1
             EN, SD, ...                       the metrics, NaN where reason is set
             fuse_s                            seconds, metrics included
        """
        keys = [f"fuse {row['pair_id']}" for row in rows]
        before = self.attempts.begin(keys)
        if len(rows) > 1 and any(before):
            return [fused for row in rows for fused in self.fuse_rows([row])]
        if before[0] >= MAX_ATTEMPTS:
            fused = [_rejected(rows[0], "crashed", _crashed("fused"))]
        else:
            fused = self._fuse_all(rows)
        self.attempts.end(keys)
        return fused

    def _fuse_all(self, rows: list[Row]) -> list[Row]:
        groups: dict[tuple[int, ...], list[tuple[int, PreparedPair, float]]] = {}
        done: dict[int, Row] = {}
        for place, row in enumerate(rows):
            start = time.perf_counter()
            if row["reason"]:
                done[place] = _rejected(row, row["reason"], row["detail"])
                continue
            try:
                pair = prepare_pair(_unpack(row, "ir"), _unpack(row, "vis"), self.range_policy)
            except Exception as error:
                done[place] = _rejected(row, *explain(error))
                continue
            # On a CPU a batch is slower than its images one by one: it falls out of the cache.
            key = pair.ir.shape if self.device != "cpu" else (place,)
            groups.setdefault(key, []).append((place, pair, time.perf_counter() - start))
        for group in groups.values():
            done |= self._fuse_group(rows, group)
        return [done[place] for place in range(len(rows))]

    def _fuse_group(
        self, rows: list[Row], group: list[tuple[int, PreparedPair, float]]
    ) -> dict[int, Row]:
        start = time.perf_counter()
        try:
            fused = fuse_prepared(
                self.model,
                [pair for _, pair, _ in group],
                pair_ids=[str(rows[place]["pair_id"]) for place, _, _ in group],
                seed=self.seed,
                precision=self.precision,
            )
            metrics = self._metrics([pair for _, pair, _ in group], fused)
        except torch.AcceleratorError:
            raise  # the device is lost: every later row would fail on it
        except Exception as error:
            if len(group) > 1:  # out of memory, say: one may fit where a batch does not
                return {k: v for one in group for k, v in self._fuse_group(rows, [one]).items()}
            return {group[0][0]: _rejected(rows[group[0][0]], *explain(error))}
        seconds = (time.perf_counter() - start) / len(group)
        out: dict[int, Row] = {}
        for index, (place, pair, prepare_s) in enumerate(group):
            image = finish(fused[index], pair.chroma, self.output_dtype)
            out[place] = _without_sources(rows[place]) | _pack("fused", image) | {
                "height": image.shape[0],
                "width": image.shape[1],
                "bands": 1 if image.ndim == 2 else image.shape[2],
                **dict(zip(RANGES, (*pair.ir_range, *pair.vis_range), strict=True)),
                **{name: float(metrics[name][index]) for name in METRICS},
                "fuse_s": seconds + prepare_s,
            }  # fmt: skip
        return out

    def _metrics(
        self, pairs: list[PreparedPair], fused: list[NDArray[np.float32]]
    ) -> dict[str, torch.Tensor]:
        """Score the fused images in whole grey levels, as a reader of the 8-bit result would."""

        def grey(images: list[NDArray[np.float32]]) -> torch.Tensor:
            return torch.from_numpy(np.stack(images))[:, None].to(self.device) * 255  # (B, 1, H, W)

        with torch.inference_mode():
            return fusion_metrics(
                grey([pair.ir for pair in pairs]),
                grey([pair.vis for pair in pairs]),
                grey(fused).round().clamp(0, 255),
            )


def write_window(
    row: Row, *, store_url: str, fingerprint: str, attempts: Attempts | None = None
) -> Row:
    """Step 3 of 3: store the fused pixels of one window and return its ledger row.

    A pair that is rejected has no pixels from then on: those of an earlier source are removed. One of
    COUNTED_BYTES whose writing ended its process MAX_ATTEMPTS times is not begun again.

    In:  a row of FuseWindows with zarr_path.
    Out: the row without pixels, plus status fused|rejected, written_bytes, write_s, seconds (of all
         three steps), fingerprint.
    The only step that writes; a whole object at once, so it may run twice.
    """
    start = time.perf_counter()
    reason, detail, written = row["reason"], row["detail"], 0
    counts = attempts if attempts and len(row["fused"]) >= COUNTED_BYTES else AttemptCounts()
    key = f"write {row['pair_id']}"
    if not reason and counts.begin([key])[0] >= MAX_ATTEMPTS:
        reason, detail = "crashed", _crashed("written")
    if not reason:
        attributes = {
            "pair_id": str(row["pair_id"]),
            "ir_url": storage.redact_url(row["ir_url"]),
            "vis_url": storage.redact_url(row["vis_url"]),
            "ir_range": [float(row["ir_low"]), float(row["ir_high"])],
            "vis_range": [float(row["vis_low"]), float(row["vis_high"])],
            "fingerprint": fingerprint,
        }
        try:
            pixels = _unpack(row, "fused")
            written = fused_store.write_fused(store_url, row["zarr_path"], pixels, attributes)
        except Exception as error:
            reason, detail = "failed", f"write: {explain(error)[1]}"
    if reason:
        try:
            fused_store.delete_fused(store_url, row["zarr_path"])
        except Exception as error:
            detail = f"{detail}; old pixels stay: {explain(error)[1]}"
    counts.end([key])
    write_s = time.perf_counter() - start
    dropped = {"fused", "fused_shape", "fused_dtype"}
    return {
        **{name: value for name, value in row.items() if name not in dropped},
        "dtype": row["fused_dtype"],
        "status": "rejected" if reason else "fused",
        "reason": reason,
        "detail": detail,
        "written_bytes": written,
        "write_s": write_s,
        "seconds": row["read_s"] + row["fuse_s"] + write_s,
        "fingerprint": fingerprint,
    }


def explain(error: Exception) -> tuple[str, str]:
    """Return the reason code and the detail of an error, one line each."""
    if isinstance(error, BadImage):
        return error.reason, error.detail
    if isinstance(error, FileNotFoundError):
        return "missing_file", "not found, expected the file of the pair index: index again"
    said = " ".join(str(error).split())[:500]
    for kind, reason in INFERENCE_REASONS.items():
        if isinstance(error, kind):
            return reason, said
    return "failed", f"{type(error).__name__}: {said}"


def _crashed(doing: str) -> str:
    return (
        f"its process ended {MAX_ATTEMPTS} times while it was {doing}, expected it to go through: look "
        "at the files, or give the workers more memory; --reprocess tries it again"
    )


def _pack(name: str, image: NDArray[np.generic] | None) -> Row:
    if image is None:
        return {name: b"", f"{name}_shape": "", f"{name}_dtype": ""}
    shape = " ".join(map(str, image.shape))
    return {name: image.tobytes(), f"{name}_shape": shape, f"{name}_dtype": str(image.dtype)}


def _unpack(row: Row, name: str) -> NDArray[np.generic]:
    shape = tuple(int(side) for side in row[f"{name}_shape"].split())
    return np.frombuffer(row[name], dtype=row[f"{name}_dtype"]).reshape(shape)


def _without_sources(row: Row) -> Row:
    dropped = {f"{side}{part}" for side in ("ir", "vis") for part in ("", "_shape", "_dtype")}
    return {name: value for name, value in row.items() if name not in dropped}


def _rejected(row: Row, reason: str, detail: str) -> Row:
    numbers = dict.fromkeys((*RANGES, *METRICS), float("nan"))
    empty = {"height": 0, "width": 0, "bands": 0, "fuse_s": 0.0}
    return (
        _without_sources(row) | _pack("fused", None) | empty | numbers
        | {"reason": reason, "detail": detail}
    )  # fmt: skip


def _columns(rows: list[Row]) -> Batch:
    """Turn rows into columns; text and bytes as objects, since NumPy's own cut trailing zeros."""
    columns: Batch = {}
    for name, value in rows[0].items():
        values = [row[name] for row in rows]
        if isinstance(value, str | bytes):
            columns[name] = np.empty(len(values), dtype=object)
            columns[name][:] = values
        else:
            columns[name] = np.array(values)
    return columns
