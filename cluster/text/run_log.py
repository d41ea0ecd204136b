"""How a run says what happens: text for people, or one JSON object a line for a log store."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any


class RunLog:
    """What one run prints on standard output."""

    def __init__(self, run_id: str, *, as_json: bool) -> None:
        """Print as JSON, or as text.

        Args:
            run_id: stands in every JSON line.
            as_json: whether for machines.
        """
        self.run_id = run_id
        self.as_json = as_json

    def say(self, event: str, text: str = "", **fields: Any) -> None:
        """Print one event.

        Args:
            event: its name, for machines.
            text: what people read of it; nothing where it is empty.
            fields: what machines read of it.
        """
        if self.as_json:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            head = {"time": now, "run_id": self.run_id, "event": event}
            print(json.dumps(head | fields), flush=True)
        elif text:
            print(text, flush=True)
