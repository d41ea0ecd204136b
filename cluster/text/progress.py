"""How far a job is: a bar on a terminal, and a plain line every 30 seconds in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]

from cluster.text import units
from cluster.text.run_log import RunLog

SECONDS_PER_LINE = 30.0


class Progress:
    """How many of a known number of things are done, at what rate, and when the last one will be.

    A context manager; leaving it ends the bar. In a log nothing is said of what takes less than
    30 seconds, but for a run that has a log and counts megapixels: its last line says what it has done.
    """

    def __init__(
        self, total: float, what: str, log: RunLog | None = None, *, begun: float = 0
    ) -> None:
        """Begin to count.

        Args:
            total: number of things; a float where parts of one count.
            what: their name, in the plural.
            log: log of the run; None prints text.
            begun: how many were done before, which no rate counts.
        """
        self.total, self.what = total, what
        self.is_run = log is not None
        self.log = log or RunLog("", as_json=False)
        self.begun = begun
        self.done, self.said = float(begun), -1.0
        self.rejected = 0
        self.pixels = 0
        self.start = self.last_line = time.monotonic()
        live = sys.stdout.isatty() and not self.log.as_json
        self.bar: Any = None
        if live:
            parts = isinstance(total, float)  # shown by three digits
            self.bar = tqdm(
                total=total, initial=begun, desc=what, unit="", unit_scale=parts, file=sys.stdout,
                dynamic_ncols=True,
            )  # fmt: skip

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def add(self, number: float = 1, *, pixels: int = 0, rejected: int = 0) -> None:
        """Count things that are done.

        Args:
            number: how many.
            pixels: how many pixels they have.
            rejected: how many of them were rejected.
        """
        self.done += number
        self.pixels += pixels
        self.rejected += rejected
        if self.bar is not None:
            self.bar.set_postfix_str(", ".join(self._counted()), refresh=False)
            self.bar.update(number)
        elif time.monotonic() - self.last_line >= SECONDS_PER_LINE:
            self._say()

    def line(self) -> str:
        """Return the line of a log as it is now."""
        rate = (self.done - self.begun) / max(time.monotonic() - self.start, 1e-6)
        left = units.duration((self.total - self.done) / rate) if rate > 0 else "?"
        counted = "".join(f"  {text}" for text in self._counted())
        return f"{self.done:.0f}/{self.total:.0f} {self.what}{counted}  {rate:.2f}/s  {left} left"

    def print(self, text: str) -> None:
        """Print a line of text, above the bar where there is one."""
        if self.bar is not None:
            self.bar.write(text, file=sys.stdout)
        else:
            print(text, flush=True)

    def close(self) -> None:
        """End the bar, or say the last line."""
        if self.bar is not None:
            self.bar.close()
        elif self.said != self.done and (self.is_run and self.pixels or self.last_line > self.start):
            self._say()

    def _counted(self) -> list[str]:
        texts = [f"{self.pixels / 1e6:.1f} megapixels"] if self.pixels else []
        return [*texts, f"{self.rejected} rejected"] if self.rejected else texts

    def _say(self) -> None:
        self.last_line, self.said = time.monotonic(), self.done
        self.log.say(
            "progress", self.line(), what=self.what, done=round(self.done), total=round(self.total),
            rejected=self.rejected, megapixels=round(self.pixels / 1e6, 1),
        )  # fmt: skip
