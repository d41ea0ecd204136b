"""What a training says on the driver's terminal: how far it is, and a line for each stored epoch.

The first worker hands its share and each row of the history to the driver through a queue of Ray's, an
actor beside the driver. Ray Train's own callbacks run in a process of their own, whose output nobody
sees.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.text.progress import Progress

SHOWN_METRICS = ("SF", "MI", "VIF", "Qabf")


class EpochLines:
    """Prints what the first worker puts into its `queue`; a context manager."""

    def __init__(self, last_epoch: int) -> None:
        """Make the queue; epochs up to last_epoch, those of earlier runs, are not printed."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        self.last_epoch = last_epoch
        self.thread = threading.Thread(target=self._print_rows, daemon=True)

    def __enter__(self) -> EpochLines:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until every row that was sent is printed."""
        with suppress(RayError):
            self.queue.put(None)
        self.thread.join()

    def _print_rows(self) -> None:
        # Where Ray is lost, the job ends with that error; the rows are in the history too.
        with suppress(RayError):
            print_new_epochs(iter(self.queue.get, None), self.last_epoch)


def print_new_epochs(rows: Iterable[Mapping[str, Any]], last_epoch: int) -> None:
    """Show the share that is done, and a line for each row whose epoch is larger than all before it.

    A restarted worker sends the epoch that it goes on from once more.

    Args:
        rows: rows of the history, and between them such as have only `share`, the finished share of the
            training from 0 to 1, in the order in which they come.
        last_epoch: number of the last epoch that is not printed any more.
    """
    shown: Progress | None = None
    for row in rows:
        if "share" in row:
            done = 100.0 * row["share"]
            shown = shown or Progress(100.0, "percent of the training", begun=done)
            shown.add(max(0.0, done - shown.done))
        elif row["epoch"] > last_epoch:
            last_epoch = row["epoch"]
            (shown.print if shown else print)(epoch_line(row))
    if shown:
        shown.close()


def send_row(queue: Queue, row: Mapping[str, float]) -> None:
    """Hand a row of the history to the driver; training goes on where that fails."""
    with suppress(RayError):
        queue.put(dict(row))


def epoch_line(row: Mapping[str, Any]) -> str:
    """Return a row of the history as one line of text."""
    losses = [f"{name} {value:.4f}" for name, value in row.items() if name.startswith("L_")]
    metrics = [f"{name} {row[name]:.3g}" for name in SHOWN_METRICS if name in row]
    return (
        f"epoch {row['epoch']:.0f}  stage {'I' * int(row['stage'])}  step {row['step']:.0f}  "
        f"{row['minutes']:.1f} min  {row['crops_per_s']:.2f} crops/s  "
        f"{'  '.join(losses)}  {'  '.join(metrics)}"
    )
