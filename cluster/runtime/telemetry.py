"""What a run shows while it runs: Prometheus metrics, through Ray's own exporter.

The driver counts them from the rows that come back to it, so they agree with the ledger and no step
knows of them. Ray serves them, with `ray_` before each name, on every node's metrics port.
"""

from __future__ import annotations

import time
from typing import Any

from ray.util.metrics import Counter, Gauge

Row = dict[str, Any]
INTERVAL_S = 10.0
"""Time over which the gauges average how busy the actors were, in seconds."""
STEPS = ("read", "fuse", "write")


class RunMetrics:
    """The metrics of one run; made after Ray has started."""

    def __init__(self, run_id: str, num_actors: int) -> None:
        """Begin at nothing done.

        Args:
            run_id: a tag of every metric.
            num_actors: number of actors that hold the network.
        """
        tags = {"run_id": run_id}

        def counter(name: str, description: str, *keys: str) -> Counter:
            made = Counter(name, description=description, tag_keys=("run_id", *keys))
            made.set_default_tags(tags)
            return made

        def gauge(name: str, description: str) -> Gauge:
            made = Gauge(name, description=description, tag_keys=("run_id",))
            made.set_default_tags(tags)
            return made

        self.fused = counter("dmnet_windows_fused", "Windows that were fused and stored.")
        self.rejected = counter("dmnet_windows_rejected", "Windows rejected, by reason.", "reason")
        self.read_bytes = counter("dmnet_read_bytes", "Bytes of source files that were read.")
        self.written_bytes = counter("dmnet_written_bytes", "Bytes of fused arrays that were written.")
        self.step_seconds = counter(
            "dmnet_step_seconds", "Seconds that windows spent in a step, over all processes.", "step"
        )
        self.left = gauge("dmnet_windows_left", "Windows that the run's present stage has still to do.")
        self.idle_share = gauge(
            "dmnet_actor_idle_share", "Share of their time in which the actors were not fusing."
        )
        self.ledger_lag = gauge(
            "dmnet_ledger_lag_seconds", "Age of the oldest finished window that the ledger lacks."
        )
        self.fuses = True
        self.num_left = 0
        self.num_actors = num_actors
        self.busy_s = 0.0
        self.since = time.monotonic()

    def begin(self, num_windows: int, *, fuses: bool) -> None:
        """Begin a stage of the run.

        Args:
            num_windows: number of windows, or scenes, that it will do.
            fuses: whether it fuses them. The rows of a later stage bear the bytes of those before it too,
                and are no further fused windows.
        """
        self.fuses = fuses
        self.num_left = num_windows
        self.left.set(num_windows)

    def add(self, rows: list[Row], ledger_lag_s: float) -> None:
        """Count rows for the ledger.

        Args:
            rows: with status, reason, read_bytes, written_bytes, read_s, fuse_s and write_s.
            ledger_lag_s: seconds since the oldest row that is not yet put came.
        """
        for row in rows:
            if row["status"] == "fused" and self.fuses:
                self.fused.inc()
            elif row["status"] == "rejected":
                self.rejected.inc(tags={"reason": row["reason"]})
        # A counter takes no increment of nothing.
        for counter, name in ((self.read_bytes, "read_bytes"), (self.written_bytes, "written_bytes")):
            if num_bytes := sum(row[name] for row in rows if self.fuses):
                counter.inc(num_bytes)
        for step in STEPS:
            if seconds := sum(row[f"{step}_s"] for row in rows):
                self.step_seconds.inc(seconds, tags={"step": step})
        self.busy_s += sum(row["fuse_s"] for row in rows)
        self.num_left -= len(rows)
        self.left.set(self.num_left)
        self.ledger_lag.set(ledger_lag_s)
        elapsed = time.monotonic() - self.since
        if elapsed >= INTERVAL_S:
            self.idle_share.set(max(0.0, 1 - self.busy_s / (elapsed * self.num_actors)))
            self.busy_s, self.since = 0.0, time.monotonic()
