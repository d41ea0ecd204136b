"""Attempts counted for all processes of a run: AttemptCounts in an actor beside the driver.

A module of its own, without PyTorch: every reading and writing task unpickles a SharedAttempts and so
imports what this module imports.
"""

from __future__ import annotations

from typing import Any, cast

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.fusing.steps.attempts import AttemptCounts


class SharedAttempts:
    """The counts in an actor, which outlives the processes that it counts; implements Attempts."""

    def __init__(self) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.counts = (
            cast(Any, ray.remote(AttemptCounts))
            .options(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)
            .remote()
        )

    def begin(self, keys: list[str]) -> list[int]:
        """See cluster.fusing.steps.attempts.Attempts."""
        return cast(list[int], ray.get(self.counts.begin.remote(keys)))

    def end(self, keys: list[str]) -> None:
        """See cluster.fusing.steps.attempts.Attempts; returns at once, without waiting for the actor."""
        self.counts.end.remote(keys)
