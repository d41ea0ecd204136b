"""The lease on an output: one run writes at a time, also where two nights overlap.

    OUT/lease/000007.json   who holds it, since when, and the holder's last heartbeat

A run takes the lease by creating the object of the next number, which a store grants to one only.
The holder puts its object again every HEARTBEAT_S. One whose heartbeat stood still for EXPIRY_S has
died, and the next number may be taken; a holder that finds a higher number than its own has lost the
lease and must stop.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from datetime import UTC, datetime
from typing import Any

from cluster import storage
from cluster.plain_text import printable

HEARTBEAT_S = 10.0
EXPIRY_S = 60.0
POLL_S = 2.0
Holder = dict[str, Any]


class LeaseHeld(ValueError):
    """Another run holds the output."""


class LeaseLost(ValueError):
    """Another run has taken the output over, since this one's heartbeat stood still."""


class Lease:
    """The right to write an output, kept up by a heartbeat until it is released."""

    def __init__(self, output_url: str, run_id: str) -> None:
        self.output_url = output_url
        self.folder_url = storage.join_url(output_url, "lease")
        self.run_id = run_id
        self.number = 0
        self.holder: Holder = {}
        self.lost = False
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)

    def acquire(self, *, wait: bool) -> None:
        """Take the lease.

        Args:
            wait: whether to wait for a run that holds it; else that is an error.

        Raises:
            LeaseHeld: another run holds it.
            StorageError: the output can't be written.
        """
        seen, seen_at, told = (-1, 0.0), 0.0, False
        while True:
            number, holder = self._latest()
            heartbeat = float(holder.get("heartbeat", 0.0))
            if seen != (number, heartbeat):
                seen, seen_at = (number, heartbeat), time.monotonic()
            still_s = time.monotonic() - seen_at
            # Clocks differ: one that says "long ago" is believed once two heartbeats have failed to come.
            old = time.time() - heartbeat > EXPIRY_S
            free = not number or holder.get("released") or _is_dead(holder)
            if free or still_s > (2 * HEARTBEAT_S if old else EXPIRY_S):
                if self._take(number + 1):
                    if number and not holder.get("released"):
                        print(f"taking over from run {_name(holder)}, which has died", flush=True)
                    break
                continue
            if not old and not wait:
                raise LeaseHeld(
                    f"output {storage.redact_url(self.output_url)!r} is being written by run "
                    f"{_name(holder)}, expected no other run: wait for its end (--wait), or, if it "
                    f"has died, until {EXPIRY_S:.0f} s after its last heartbeat"
                )
            if not told:
                print(f"waiting for run {_name(holder)}", flush=True)
                told = True
            time.sleep(POLL_S)
        for number in self._numbers():
            if number < self.number:
                storage.delete(self._url(number))
        self.thread.start()

    def check(self) -> None:
        """Raise LeaseLost where another run has taken over."""
        if self.lost:
            _, holder = self._latest()
            raise LeaseLost(
                f"output {storage.redact_url(self.output_url)!r} was taken over by run "
                f"{_name(holder)}, since this run gave no sign for over {EXPIRY_S:.0f} s: "
                "nothing is lost, let that run end"
            )

    def release(self) -> None:
        """Give the lease back, so that the next run need not wait; nothing where none is held."""
        if not self.number:
            return
        self.stopped.set()
        self.thread.join()
        if self.lost:
            return
        try:
            self._put(self.holder | {"released": True})
        except storage.StorageError as error:
            print(f"the lease is left to expire: {error}", flush=True)

    def _beat(self) -> None:
        while not self.stopped.wait(HEARTBEAT_S):
            try:
                if max(self._numbers(), default=0) > self.number:
                    self.lost = True
                    return
                self._put(self.holder | {"heartbeat": time.time()})
            except (storage.StorageError, OSError):
                continue  # the store is away for a moment; the next beat tells

    def _take(self, number: int) -> bool:
        """Return whether the store granted the number to this run."""
        self.holder = {
            "run_id": self.run_id,
            "host": socket.gethostname(),
            "process": _process(os.getpid()),
            "since": time.time(),
            "heartbeat": time.time(),
            "released": False,
        }
        granted = storage.create_bytes(self._url(number), json.dumps(self.holder).encode())
        if not granted:  # by an answer that was lost, and a retry that found its own object?
            latest, holder = self._latest()
            granted = latest == number and holder.get("run_id") == self.run_id
        self.number = number if granted else 0
        return granted

    def _put(self, holder: Holder) -> None:
        storage.put_bytes(self._url(self.number), json.dumps(holder).encode())

    def _latest(self) -> tuple[int, Holder]:
        number = max(self._numbers(), default=0)
        if not number:
            return 0, {}
        try:
            holder: Holder = json.loads(storage.read_bytes(self._url(number)))
        except (FileNotFoundError, ValueError):
            return number, {}
        return number, holder

    def _numbers(self) -> list[int]:
        names = [file.path.partition(".")[0] for file in storage.list_parts(self.folder_url)]
        return [int(name) for name in names if name.isdigit()]

    def _url(self, number: int) -> str:
        return storage.join_url(self.folder_url, f"{number:06d}.json")


def _name(holder: Holder) -> str:
    """Return who holds a lease and since when, in words."""
    if not holder:
        return "unknown"
    since, beat = (
        datetime.fromtimestamp(holder[name], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        for name in ("since", "heartbeat")
    )
    run_id, host = printable(str(holder["run_id"])), printable(str(holder["host"]))
    return f"{run_id} on {host!r} since {since} (last heartbeat {beat})"


def _is_dead(holder: Holder) -> bool:
    """Return whether the holder was a process of this machine that is gone."""
    process = holder.get("process")
    here = _process(os.getpid())
    if not process or not here or process[:2] != here[:2]:
        return False  # another machine, or one that does not say
    return bool(_process(process[2]) != process)


def _process(pid: int) -> list[Any]:
    """Return what names a process among all machines: boot, pid namespace, pid, start; [] if unknown."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        namespace = os.stat("/proc/self/ns/pid").st_ino
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return []
    state, started = fields[0], fields[19]
    return [boot, namespace, pid, started] if state not in "ZX" else []
