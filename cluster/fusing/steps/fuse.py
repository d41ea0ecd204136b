"""Step 2 of 3: windows through the network, and their metrics. No Ray here."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cluster.archive.reasons import explain
from cluster.fusing.steps.attempts import MAX_ATTEMPTS, AttemptCounts, Attempts
from cluster.fusing.steps.read import Opening
from cluster.fusing.steps.rows import (
    RANGES,
    SCENE,
    WINDOW,
    Row,
    crashed,
    pack_image,
    unpack_image,
    unpack_mask,
)
from cluster.fusing.steps.survey import load_survey, prepare_row, survey_scene
from cluster.storage import objects, urls
from cluster.storage.scene_store import survey_url
from dmnet_core.checkpoint import load_checkpoint
from dmnet_core.inference import finish, fuse_and_score
from dmnet_core.metrics import METRICS
from dmnet_core.prepare import PreparedPair, Reading, prepare_pair
from dmnet_core.scene import fuse_part

Batch = dict[str, Any]


class FuseWindows:
    """Step 2 of 3: fuse batches of windows. It holds the network, and each actor makes one."""

    def __init__(
        self,
        *,
        checkpoint_url: str | None,
        digest: str,
        device: str,
        num_threads: int,
        opening: Opening,
        statistics_url: str,
        reading: Reading,
        output_dtype: str,
        precision: str,
        seed: int,
        preset: str = "compact",
        attempts: Attempts | None = None,
    ) -> None:
        """Load the network; ValueError if its weights are not the ones that the plan was made for.

        Args:
            checkpoint_url: a .safetensors file, None for the weights that come with the package.
            digest: SHA-256 that the file must have, in hexadecimal.
            device: "cpu" or "cuda".
            num_threads: CPU threads that PyTorch uses.
            opening: how a pair is opened and cut into windows.
            statistics_url: folder of the surveys of scenes.
            reading: how source values are mapped to [0, 1], and whose colour is kept.
            output_dtype: type of the stored pixels: uint8, uint16 or float32.
            precision: precision of the network: fp32, bf16 or fp16.
            seed: seed of the noise.
            preset: which of the weights that come with the package: compact or fast.
            attempts: counter of the attempts at each pair; None counts in this process only.
        """
        torch.set_num_threads(num_threads)
        source = None if checkpoint_url is None else objects.read_bytes(checkpoint_url)
        checkpoint = load_checkpoint(source, device, preset=preset)
        if checkpoint.digest != digest:
            raise ValueError(
                f"the checkpoint {urls.redact_url(checkpoint_url or preset)!r} has the digest "
                f"{checkpoint.digest} on this worker, expected {digest}: every node of the cluster "
                "needs the file that the job was started with"
            )
        self.model = checkpoint.model
        self.device = device
        self.opening = opening
        self.statistics_url = statistics_url
        self.reading = reading
        self.output_dtype = output_dtype
        self.precision = precision
        self.seed = seed
        self.attempts = attempts or AttemptCounts()

    def __call__(self, batch: Mapping[str, Any]) -> Batch:
        """Fuse a batch given as columns; return the rows of `fuse_rows` as columns."""
        names = list(batch)
        rows = [
            dict(zip(names, values, strict=True))
            for values in zip(*(list(batch[name]) for name in names), strict=True)
        ]
        return _columns(self.fuse_rows(rows))

    def fuse_rows(self, rows: list[Row]) -> list[Row]:
        """Fuse rows of `read_window`, or survey scenes; the order is kept.

        Where one of the rows has ended its process before, the rows are fused one by one.

        Out: the row without the columns of ir and vis, plus
             fused, fused_shape, fused_dtype   the pixels, as in `read_window`; none of a scene
             survey                            of a scene, the bytes of its survey; else empty
             valid, valid_shape, valid_dtype   where both sources have data; empty for everywhere
             height, width, bands              int, of the scene or of the pixels; 0 where reason is set
             dtype                             type of the pixels, empty where reason is set
             valid_share                       share of such pixels, NaN where reason is set
             ir_low, ... vis_high              source values that were mapped to 0 and to 1
             EN, SD, ...                       the metrics, NaN where reason is set and of scenes
             fuse_s                            seconds, metrics included
        """
        keys = [f"fuse {row['pair_id']} {row['window']}" for row in rows]
        before = self.attempts.begin(keys)
        if len(rows) > 1 and any(before):
            return [fused for row in rows for fused in self.fuse_rows([row])]
        if before[0] >= MAX_ATTEMPTS:
            fused = [_rejected(rows[0], "crashed", crashed("fused"))]
        else:
            fused = self._fuse_all(rows)
        self.attempts.end(keys)
        return fused

    def _fuse_all(self, rows: list[Row]) -> list[Row]:
        groups: dict[tuple[int, ...], list[tuple[int, PreparedPair, float]]] = {}
        done: dict[int, Row] = {}
        for position, row in enumerate(rows):
            start = time.perf_counter()
            if row["reason"]:
                done[position] = _rejected(row, row["reason"], row["detail"])
                continue
            if row["task"] in (SCENE, WINDOW):
                done[position] = self._of_scene(row)
                continue
            try:
                pair = self._prepare(row)
            except Exception as error:
                done[position] = _rejected(row, *explain(error))
                continue
            # On a CPU a batch is slower than its images one by one, since it does not fit the cache.
            key = pair.ir.shape if self.device != "cpu" else (position,)
            groups.setdefault(key, []).append((position, pair, time.perf_counter() - start))
        for group in groups.values():
            done |= self._fuse_group(rows, group)
        return [done[position] for position in range(len(rows))]

    def _of_scene(self, row: Row) -> Row:
        """Return the row of a scene that was surveyed, or of a window of one that was fused."""
        start = time.perf_counter()
        try:
            done = self._survey(row) if row["task"] == SCENE else self._fuse_part(row)
        except torch.AcceleratorError:
            raise  # the device is lost: every later row would fail on it
        except Exception as error:
            return _rejected(row, *explain(error))
        return _without_sources(row) | done | {"fuse_s": time.perf_counter() - start}

    def _survey(self, row: Row) -> Row:
        found = survey_scene(
            self.model, row, self.opening, self.reading, seed=self.seed, precision=self.precision
        )
        limits = (*found.reading.ir.limits, *found.reading.vis.limits)
        return _unscored(None, None) | {
            "survey": found.to_bytes(),
            "height": found.height,
            "width": found.width,
            "bands": 1 if found.reading.colour == "none" else 3,
            "dtype": self.output_dtype,
            "valid_share": float("nan"),
            **dict(zip(RANGES, limits, strict=True)),
        }

    def _fuse_part(self, row: Row) -> Row:
        url = survey_url(self.statistics_url, row["zarr_path"])
        found = load_survey(url, row["survey_digest"])
        pair, window = prepare_row(row, found, self.opening.halo)
        pixels, valid = fuse_part(
            self.model, pair, window, found.statistics, output_dtype=self.output_dtype,
            pair_id=str(row["pair_id"]), seed=self.seed, precision=self.precision,
        )  # fmt: skip
        return _unscored(pixels, valid) | {
            "height": pixels.shape[0],
            "width": pixels.shape[1],
            "valid_share": float(valid.mean()),
        }

    def _prepare(self, row: Row) -> PreparedPair:
        return prepare_pair(
            unpack_image(row, "ir"),
            unpack_image(row, "vis"),
            self.reading,
            ir_valid=unpack_mask(row, "ir_valid"),
            vis_valid=unpack_mask(row, "vis_valid"),
        )

    def _fuse_group(
        self, rows: list[Row], group: list[tuple[int, PreparedPair, float]]
    ) -> dict[int, Row]:
        start = time.perf_counter()
        try:
            fused, metrics = fuse_and_score(
                self.model,
                [pair for _, pair, _ in group],
                pair_ids=[str(rows[position]["pair_id"]) for position, _, _ in group],
                seed=self.seed,
                precision=self.precision,
            )
        except torch.AcceleratorError:
            raise  # the device is lost: every later row would fail on it
        except Exception as error:
            if len(group) > 1:  # memory may suffice for one pair at a time
                return {k: v for one in group for k, v in self._fuse_group(rows, [one]).items()}
            return {group[0][0]: _rejected(rows[group[0][0]], *explain(error))}
        seconds = (time.perf_counter() - start) / len(group)
        out: dict[int, Row] = {}
        for index, (position, pair, prepare_s) in enumerate(group):
            image = finish(fused[index], pair, self.output_dtype)
            stored = pack_image("fused", image) | pack_image("valid", pair.valid)
            out[position] = _without_sources(rows[position]) | stored | {
                "valid_share": pair.valid_share,
                "survey": b"",
                "dtype": self.output_dtype,
                "height": image.shape[0],
                "width": image.shape[1],
                "bands": 1 if image.ndim == 2 else image.shape[2],
                **dict(zip(RANGES, (*pair.ir_range, *pair.vis_range), strict=True)),
                **{name: float(metrics[name][index]) for name in METRICS},
                "fuse_s": seconds + prepare_s,
            }  # fmt: skip
        return out


def _without_sources(row: Row) -> Row:
    images = ("ir", "vis", "ir_valid", "vis_valid")
    dropped = {f"{image}{part}" for image in images for part in ("", "_shape", "_dtype")}
    return {name: value for name, value in row.items() if name not in dropped}


def _rejected(row: Row, reason: str, detail: str) -> Row:
    numbers = dict.fromkeys(("valid_share", *RANGES, *METRICS), float("nan"))
    empty = {"height": 0, "width": 0, "bands": 0, "dtype": "", "fuse_s": 0.0}
    return (
        _without_sources(row) | _unscored(None, None) | empty | numbers
        | {"reason": reason, "detail": detail}
    )  # fmt: skip


def _unscored(pixels: NDArray[np.generic] | None, valid: NDArray[np.bool_] | None) -> Row:
    """Return the columns of pixels without metrics, and without a survey."""
    nothing: Row = {"survey": b"", **dict.fromkeys(METRICS, float("nan"))}
    return pack_image("fused", pixels) | pack_image("valid", valid) | nothing


def _columns(rows: list[Row]) -> Batch:
    """Turn rows into columns; text and bytes become objects, since NumPy's types drop trailing zeros."""
    columns: Batch = {}
    for name, value in rows[0].items():
        values = [row[name] for row in rows]
        if isinstance(value, str | bytes):
            columns[name] = np.empty(len(values), dtype=object)
            columns[name][:] = values
        else:
            columns[name] = np.array(values)
    return columns
