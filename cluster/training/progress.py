"""How far a training is, and what follows from it: the stage, the end, the learning rate.

Epochs, steps and time each measure the progress, as a share of what is wanted; the largest of the shares
counts. The two stages divide the training in the ratio of their epochs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cluster.training.config import TrainConfig

FINAL_SHARE = 0.02
"""Learning rate at the end of the cosine schedule, as a share of the peak learning rate."""


@dataclass
class Progress:
    """What was trained so far, in all runs of one training. Lists hold stage I, then stage II."""

    epochs: list[int] = field(default_factory=lambda: [0, 0])
    """Finished epochs by stage."""
    steps: list[int] = field(default_factory=lambda: [0, 0])
    """Finished optimizer steps by stage."""
    seconds: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """Time spent in steps by stage, in seconds."""
    cpu_seconds: float = 0.0
    """CPU time that the first worker spent in steps, in seconds."""
    history: list[dict[str, float]] = field(default_factory=list)
    """One row of losses, metrics and timings for each finished epoch."""

    @property
    def epoch(self) -> int:
        """Number of finished epochs of both stages."""
        return sum(self.epochs)

    @property
    def step(self) -> int:
        """Number of finished steps of both stages."""
        return sum(self.steps)

    def share(self, config: TrainConfig) -> float:
        """Return the finished share of the stages that the config asks for, in [0, 1].

        It is the largest of the shares by epochs, by steps and by time.
        """
        wanted = [stage for stage, epochs in enumerate(stage_epochs(config)) if epochs]

        def done(counts: list[Any]) -> float:
            return float(sum(counts[stage] for stage in wanted))

        shares = [done(self.epochs) / sum(config.epochs)]
        if config.max_steps:
            shares.append(done(self.steps) / config.max_steps)
        if config.max_minutes:
            shares.append(done(self.seconds) / 60 / config.max_minutes)
        return min(1.0, max(shares))


def stage_epochs(config: TrainConfig) -> tuple[int, int]:
    """Return the epochs of stage I and stage II.

    Without the two stages (ablation AE1 of the paper) all epochs belong to stage II.
    """
    return (0, sum(config.epochs)) if "two-stage" in config.without else config.epochs


def stage_at(config: TrainConfig, share: float) -> int:
    """Return the stage, 1 or 2, that is trained when a share in [0, 1] of the training is finished."""
    first, second = stage_epochs(config)
    return 1 if share < first / (first + second) else 2


def learning_rate(config: TrainConfig, step: int, share: float) -> float:
    """Return the learning rate of a step: linear warm-up, times a constant or half a cosine.

    Args:
        config: its peak learning rate, schedule and warm-up count.
        step: number of steps finished before this one.
        share: finished share of the training, in [0, 1].
    """
    warm = min(1.0, (step + 1) / config.warm_up) if config.warm_up else 1.0
    if config.schedule == "constant":
        return config.learning_rate * warm
    wave = 0.5 * (1.0 + float(np.cos(np.pi * share)))
    return config.learning_rate * (warm * (FINAL_SHARE + (1.0 - FINAL_SHARE) * wave))
