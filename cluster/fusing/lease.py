"""The lease on an output: one run writes at a time, also where two nights overlap.

    OUT/lease/000007.json          who holds it, since when, and the holder's last heartbeat
    OUT/lease/2-of-4/000003.json   the same for a run over one of four partitions of the index

A run takes the lease by creating the object of the next number, which a store grants to one only.
The holder puts its object again every HEARTBEAT_S. One whose heartbeat stood still for EXPIRY_S has
died, and the next number may be taken; a holder that finds a higher number than its own has lost the
lease and must stop. One whose heartbeats don't get through looks before everything that it writes.

Runs over different partitions of one division go side by side; a run over everything, or over another
division, excludes them. Since no store grants two names at once, such a run takes its own lease first
and looks at the others' after, as they do: of two that start together at least one sees the other.
"""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
from datetime import UTC, datetime
from typing import Any

from cluster.storage import objects, urls
from cluster.text.plain_text import printable
from cluster.text.run_log import RunLog

HEARTBEAT_S = 10.0
EXPIRY_S = 60.0
POLL_S = 2.0
EVERYTHING = ""
"""The scope of a run over the whole index."""
Holder = dict[str, Any]


class LeaseHeld(ValueError):
    """Another run holds the output."""

    exit_code = 3
    """Exit code of a job that ends by this error, so that a script can tell it from wrong input."""


class LeaseLost(ValueError):
    """Another run has taken the output over, since this one's heartbeat stood still."""


class Lease:
    """The right to write an output, kept up by a heartbeat until it is released."""

    def __init__(
        self,
        output_url: str,
        log: RunLog,
        partition: tuple[int, int] | None = None,
        *,
        wait: bool = False,
    ) -> None:
        """Take nothing yet.

        Args:
            output_url: URL of the output.
            log: log of the run that will hold the lease.
            partition: (k, n) for a run over the k-th of n partitions, None for one over everything.
            wait: whether to wait for a run that holds the lease; else that is an error.
        """
        self.wait = wait
        self.waited = False
        """Whether other runs were waited for."""
        self.output_url = output_url
        self.folder_url = urls.join_url(output_url, "lease")
        self.log = log
        self.run_id = log.run_id
        self.scope = EVERYTHING if partition is None else "{}-of-{}".format(*partition)
        self.number = 0
        self.holder: Holder = {}
        self.lost = False
        self.beaten_at = 0.0
        """When the last heartbeat got through, by this machine's clock."""
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Lease:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lease.

        Raises:
            LeaseHeld: another run holds it.
            StorageError: the output can't be written.
        """
        watch = _Watch()
        while True:
            rivals = [self.scope, *self._excluded()]
            live = self._live_holder(rivals, watch)
            if live is None and self._take(*watch.latest[self.scope]):
                live = self._live_holder(rivals := self._excluded(), watch)
                if live is None:
                    self._shut_out({scope: watch.latest[scope] for scope in rivals})
                    break
                self._put(self.holder | {"released": True})
                self.number = 0
            if live is None:
                continue  # another run was granted the number: see who
            if not self.wait and not live.get("silent"):
                raise LeaseHeld(
                    f"output {urls.redact_url(self.output_url)!r} is being written by run "
                    f"{_name(live)}, expected no other run: wait for its end (--wait), or, if it "
                    f"has died, until {EXPIRY_S:.0f} s after its last heartbeat"
                )
            if not self.waited:
                text = f"waiting for run {_name(live)}"
                self.log.say("waiting", text, holder=live.get("run_id", ""))
                self.waited = True
            time.sleep(POLL_S * random.uniform(0.5, 1.5))  # two that gave way must not meet again
        for number in self._numbers().get(self.scope, []):
            if number < self.number:
                objects.delete(self._url(self.scope, number))
        self.beaten_at = time.time()
        self.thread.start()

    def check(self) -> None:
        """Raise LeaseLost where another run has taken over, StorageError where that can't be seen."""
        if abs(time.time() - self.beaten_at) > EXPIRY_S / 2:
            self.lost = self.lost or self._numbers().get(self.scope, [0])[-1] > self.number
        if self.lost:
            _, holder = self._latest(self.scope)
            raise LeaseLost(
                f"output {urls.redact_url(self.output_url)!r} was taken over by run "
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
        except urls.StorageError as error:
            self.log.say("lease_left", f"the lease is left to expire: {error}", error=str(error))

    def _beat(self) -> None:
        while not self.stopped.wait(HEARTBEAT_S):
            try:
                if self._numbers()[self.scope][-1] > self.number:
                    self.lost = True
                    return
                self._put(self.holder | {"heartbeat": time.time()})
                self.beaten_at = time.time()
            except (urls.StorageError, OSError, LookupError):
                continue  # the store is away for a moment; the next beat tells

    def _excluded(self) -> list[str]:
        """Return the scopes, seen in the store, that may not be held beside this one."""
        division = self.scope.partition("-of-")[2]
        return [
            scope for scope in self._numbers()
            if scope != self.scope
            and (EVERYTHING in (scope, self.scope) or scope.partition("-of-")[2] != division)
        ]  # fmt: skip

    def _live_holder(self, scopes: list[str], watch: _Watch) -> Holder | None:
        """Return a holder of one of the scopes that is, or may be, alive; None where there is none.

        It has the key `silent` where its heartbeat is old: it is about to be given up.
        """
        for scope in scopes:
            number, holder = watch.latest[scope] = self._latest(scope)
            if not number or holder.get("released") or _is_dead(holder):
                continue
            heartbeat = float(holder.get("heartbeat", 0.0))
            still_s = watch.still_s(scope, number, heartbeat)
            # Clocks differ: one that says "long ago" is believed once two heartbeats have failed to come.
            silent = time.time() - heartbeat > EXPIRY_S
            if still_s <= (2 * HEARTBEAT_S if silent else EXPIRY_S):
                return holder | {"silent": silent}
        return None

    def _take(self, before: int, last: Holder) -> bool:
        """Return whether the store granted the number after `before` to this run."""
        number = before + 1
        self.holder = {
            "run_id": self.run_id,
            "host": socket.gethostname(),
            "process": _process(os.getpid()),
            "since": time.time(),
            "heartbeat": time.time(),
            "released": False,
        }
        granted = objects.create_bytes(self._url(self.scope, number), json.dumps(self.holder).encode())
        if not granted:  # by an answer that was lost, and a retry that found its own object?
            latest, holder = self._latest(self.scope)
            granted = latest == number and holder.get("run_id") == self.run_id
        self.number = number if granted else 0
        if granted and before and not last.get("released"):
            self._say_taken_over(last)
        return granted

    def _shut_out(self, given_up: dict[str, tuple[int, Holder]]) -> None:
        """Tell holders of other scopes that were given up, should they wake, by the next number."""
        for scope, (number, last) in given_up.items():
            if number and not last.get("released"):
                self._say_taken_over(last)
                record = json.dumps(self.holder | {"released": True}).encode()
                objects.create_bytes(self._url(scope, number + 1), record)

    def _say_taken_over(self, last: Holder) -> None:
        text = f"taking over from run {_name(last)}, which has died"
        self.log.say("taken_over", text, holder=last.get("run_id", ""))

    def _put(self, holder: Holder) -> None:
        objects.put_bytes(self._url(self.scope, self.number), json.dumps(holder).encode())

    def _latest(self, scope: str) -> tuple[int, Holder]:
        numbers = self._numbers().get(scope)
        if not numbers:
            return 0, {}
        try:
            holder: Holder = json.loads(objects.read_bytes(self._url(scope, numbers[-1])))
        except (FileNotFoundError, ValueError):
            return numbers[-1], {}
        return numbers[-1], holder

    def _numbers(self) -> dict[str, list[int]]:
        """Return the numbers that were ever granted and not tidied up, rising, by scope."""
        found: dict[str, list[int]] = {}
        for file in objects.find_files(self.folder_url):
            scope, _, name = file.path.rpartition("/")
            number = name.partition(".")[0]
            if number.isdigit():
                found.setdefault(scope, []).append(int(number))
        return {scope: sorted(numbers) for scope, numbers in found.items()}

    def _url(self, scope: str, number: int) -> str:
        return urls.join_url(self.folder_url, *filter(None, [scope]), f"{number:06d}.json")


class _Watch:
    """What was seen of each scope's lease, and for how long, by this machine's clock, unchanged."""

    def __init__(self) -> None:
        self.latest: dict[str, tuple[int, Holder]] = {}
        self.seen: dict[str, tuple[tuple[int, float], float]] = {}

    def still_s(self, scope: str, number: int, heartbeat: float) -> float:
        """Return the seconds since the lease was first seen with this number and heartbeat."""
        now = time.monotonic()
        seen, since = self.seen.get(scope, (None, now))
        if seen != (number, heartbeat):
            since = now
            self.seen[scope] = ((number, heartbeat), now)
        return now - since


def _name(holder: Holder) -> str:
    """Return who holds a lease and since when, in words."""
    if "since" not in holder:  # its record was just being written, or tidied up
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
