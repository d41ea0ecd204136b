"""Counts of the attempts at each pair, so that a pair which kills its process is given up in the end.

Ray restarts a task without limit where its process ends (a decoder crash, no memory left). So attempts
are counted in a process of their own: a step reports when it begins a pair and when it has finished it,
and a pair that was begun but not finished has ended its process. No Ray here: `shared_attempts` makes
an actor of AttemptCounts.
"""

from __future__ import annotations

from typing import Protocol

MAX_ATTEMPTS = 3
"""Number of processes that a pair may end before it is rejected as `crashed`."""


class Attempts(Protocol):
    """The interface through which a step counts its attempts."""

    def begin(self, keys: list[str]) -> list[int]:
        """Mark keys as begun; return how often each was begun before without being finished.

        Where one of several keys was begun before, none is marked: the caller then begins them one by
        one, so that the key which ends its process is told from the others.
        """

    def end(self, keys: list[str]) -> None:
        """Forget keys whose work is finished, whether it succeeded or failed."""


class AttemptCounts:
    """Counts in this process; implements Attempts."""

    def __init__(self) -> None:
        self.open: dict[str, int] = {}

    def begin(self, keys: list[str]) -> list[int]:
        """See Attempts."""
        before = [self.open.get(key, 0) for key in keys]
        if len(keys) == 1 or not any(before):
            self.open |= {key: count + 1 for key, count in zip(keys, before, strict=True)}
        return before

    def end(self, keys: list[str]) -> None:
        """See Attempts."""
        for key in keys:
            self.open.pop(key, None)
