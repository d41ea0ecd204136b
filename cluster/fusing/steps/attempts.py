"""How often a pair was begun in a process that ended before the pair did: what stops a poison pair.

A pair that kills its process (a decoder crash, memory that runs out) is started again by Ray without
end. So its attempts are counted where they survive, in a process of their own; the steps ask before
they begin a pair and say when it is done. No Ray here: the pipeline makes an actor of this class.
"""

from __future__ import annotations

from typing import Protocol

MAX_ATTEMPTS = 3
"""Processes that a pair may end before it is rejected as `crashed`."""


class Attempts(Protocol):
    """What a step knows of the counts."""

    def begin(self, keys: list[str]) -> list[int]:
        """Mark keys as begun; return how often each was begun before and never ended.

        Several keys are marked only where none was begun before: else take them one by one, so that
        the one which ends its process is told from its neighbours.
        """

    def end(self, keys: list[str]) -> None:
        """Forget keys: they are done, well or badly."""


class AttemptCounts:
    """The counts themselves; satisfies Attempts."""

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
