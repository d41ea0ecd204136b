"""Keeps a line that Ray prints for each actor of a pool, and that says nothing of the job, off stderr."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

RESTARTS = b"has constructor arguments in the object store and max_restarts > 0"
"""Part of that line. Ray Data hands each actor its step as an object of Ray's store, and holds the object
as long as the pool, so no restart can fail by it."""
STDERR = 2
"""Number of the file that Ray's C++ code writes its lines to, whatever sys.stderr is."""


@contextmanager
def without_restart_lines() -> Iterator[None]:
    """Leave out the lines that hold RESTARTS of what this process writes to its standard error within."""
    real = os.dup(STDERR)
    reading, writing = os.pipe()
    os.dup2(writing, STDERR)
    os.close(writing)
    thread = threading.Thread(target=_copy_lines, args=(reading, real), daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.dup2(real, STDERR)  # which closes the pipe, unless a process was started within
        thread.join(timeout=1.0)


def _copy_lines(reading: int, real: int) -> None:
    with os.fdopen(reading, "rb") as lines, os.fdopen(real, "wb", buffering=0) as kept:
        for line in lines:
            if RESTARTS not in line:
                with suppress(OSError):  # nobody reads it any more
                    kept.write(line)
