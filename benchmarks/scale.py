"""How the pipeline scales with actors: a simulation of its three steps, one driver and one storage.

    python benchmarks/scale.py --ir DIR --vis DIR --limit 30 --speedup 1 30
    python benchmarks/scale.py --read-s 0.02 --model-s 0.8 --write-s 0.03 --pair-mb 1.2

Times of the steps are measured here, one pair after the other on this machine, or given as means.
Everything beyond that is computed, not measured: windows pass read_window (reading slots), FuseWindows
(actors) and write_window (writing slots), with a bounded number waiting before each; then the driver,
which takes a fixed time for each. Reading and writing share their slots and the storage's bandwidth,
and a task that waits for the storage keeps its slot. A slot is one task at once, for which the pipeline
reserves READ_CPUS = 0.5 CPUs; writing goes before reading.
--speedup divides the measured time of the model: an assumption about another device, not a measurement.
"""

import argparse
import heapq
import math
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

DRIVER_S = 0.0011
"""CPU seconds for one window of the dearer of two processes that see every window, the driver and the
actor that counts attempts, as benchmarks/driver.py measures them. At 100,000 pairs it is the actor;
below 20,000 pairs the driver's own is up to 0.004, since blocks hold fewer rows."""
BUFFER = 8
"""Windows that may wait before each step, per actor. Ray Data keeps two blocks at an actor, of four rows
each by default; beyond that it bounds what waits by memory, which is not simulated."""
WARM_UP = 0.25
"""Share of the windows that pass before rates are taken."""
AMPLE = 4
"""Slots that count as ample, as a multiple of those that the actors need."""


@dataclass(frozen=True)
class Steady:
    """The pipeline in its steady state; shares are of the time that was counted."""

    pairs_per_s: float
    """Windows that the driver has taken, a second."""
    busy: dict[str, float]
    """Mean share of each resource in use: driver, storage, actors, reading and writing."""

    @property
    def limit(self) -> str:
        """The resource that is used most; waiting for storage occupies slots, so they come last."""
        return max(self.busy, key=lambda name: round(self.busy[name], 2))


def simulate(
    *, actors, io_slots, read_s, model_s, write_s, driver_s, pair_mb=0.0, mb_per_s=math.inf,
    windows=2000, seed=0,
):  # fmt: skip
    """Pass windows through the pipeline; return its steady state.

    Args:
        actors: windows in the network at once.
        io_slots: reading and writing tasks at once.
        read_s: samples of the seconds that a window is read, one of which is drawn for each.
        model_s: the same of the network.
        write_s: the same of writing.
        driver_s: seconds of the driver for each window.
        pair_mb: MB that a window moves, half of them read and half written.
        mb_per_s: of the storage as a whole.
        windows: how many the driver takes before the end.
        seed: of the draws.
    """
    steps = {"read": read_s, "fuse": model_s, "write": write_s, "take": [driver_s]}
    queues = _Queues(steps, actors, io_slots, pair_mb / 2 / mb_per_s, random.Random(seed))
    warm = int(windows * WARM_UP)
    begin = 0.0
    while queues.taken < windows:
        counted = queues.taken >= warm
        if queues.advance(counted) == "take" and queues.taken == warm:
            begin = queues.now
    seconds = queues.now - begin
    rate = (windows - warm) / seconds
    busy_s = queues.busy_s
    busy = {
        "driver": busy_s["take"] / seconds,
        "storage": rate * pair_mb / mb_per_s,
        "actors": busy_s["fuse"] / seconds / actors,
        "reading and writing": (busy_s["read"] + busy_s["write"]) / seconds / io_slots,
    }
    return Steady(rate, busy)


class _Queues:
    """What waits before each step and what runs in it, as time goes on."""

    FOLLOWING = {"read": "fuse", "fuse": "write", "write": "take"}

    def __init__(self, steps, actors, io_slots, transfer_s, chance):
        self.steps, self.actors, self.io_slots = steps, actors, io_slots
        self.transfer_s, self.chance = transfer_s, chance
        self.waiting = {"fuse": 0, "write": 0, "take": 0}
        self.running = dict.fromkeys(steps, 0)
        self.busy_s = dict.fromkeys(steps, 0.0)
        self.events = []
        self.now = self.link_free = 0.0
        self.started = self.taken = 0

    def advance(self, counted):
        """Start what can start, go on to the next end of a step, and return that step."""
        self._start_all()
        before = self.now
        self.now, _, step = heapq.heappop(self.events)
        if counted:
            for name, count in self.running.items():
                self.busy_s[name] += count * (self.now - before)
        self.running[step] -= 1
        if step == "take":
            self.taken += 1
        else:
            self.waiting[self.FOLLOWING[step]] += 1
        return step

    def _start_all(self):
        running, actors = self.running, self.actors
        if self.waiting["take"] and not running["take"]:
            self._start("take")
        while self.waiting["write"] and self._slots_free() and self._room("write", self.io_slots):
            self._start("write")
        while self.waiting["fuse"] and running["fuse"] < actors and self._room("fuse", actors):
            self._start("fuse")
        while self._slots_free() and self._room("read", self.io_slots):
            self._start("read")

    def _slots_free(self):
        return self.running["read"] + self.running["write"] < self.io_slots

    def _room(self, step, slots):
        waiting = self.waiting[self.FOLLOWING[step]]
        return waiting + self.running[step] < BUFFER * self.actors + slots

    def _start(self, step):
        if step in self.waiting:
            self.waiting[step] -= 1
        self.running[step] += 1
        end = self.now + self.chance.choice(self.steps[step])
        if step in ("read", "write"):  # transfers pass the link in turn, each at the whole bandwidth
            self.link_free = max(self.link_free, self.now) + self.transfer_s
            end = max(end, self.link_free)
        self.started += 1
        heapq.heappush(self.events, (end, self.started, step))


def measure(given):
    """Return samples of seconds of the three steps on real pairs, and MB read and written a pair."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from cluster.archive.pair_index import load_index
    from cluster.fusing.config import FuseConfig
    from cluster.fusing.steps.fuse import FuseWindows
    from cluster.fusing.steps.read import Opening, read_window
    from cluster.fusing.steps.write import write_window
    from cluster.storage.fused_store import escape_pair_id
    from dmnet_core.checkpoint import load_checkpoint
    from dmnet_core.prepare import Reading

    opening = Opening(max_pixels=FuseConfig.max_pixels, window=FuseConfig.window, halo=0)
    fuse = FuseWindows(
        checkpoint_url=None, digest=load_checkpoint().digest, device="cpu", num_threads=given.threads,
        opening=opening, statistics_url="", reading=Reading(), output_dtype="uint8", precision="fp32",
        seed=0,
    )  # fmt: skip
    index = load_index(None, given.ir, given.vis)[0].head(given.limit)
    samples, num_bytes = [], 0
    with tempfile.TemporaryDirectory() as folder:
        first = index.iloc[:1]  # twice: what is slow the first time belongs to no pair
        for number, row in enumerate([*first.to_dict("records"), *index.to_dict("records")]):
            times = [time.perf_counter()]
            row |= {"window": 0, "zarr_path": escape_pair_id(row["pair_id"])}
            row = read_window(row, opening=opening)
            times.append(time.perf_counter())
            [row] = fuse.fuse_rows([row])
            times.append(time.perf_counter())
            row = write_window(
                row, store_url=folder, statistics_url="", fingerprint="", opening=opening
            )
            times.append(time.perf_counter())
            assert row["status"] == "fused", row
            if number:
                samples.append([end - start for start, end in zip(times, times[1:], strict=False)])
                num_bytes += row["read_bytes"] + row["written_bytes"]
    return *map(list, zip(*samples, strict=True)), num_bytes / len(samples) / 1e6


def print_table(given, times, speedup, mb_per_s):
    """Print how many pairs a second there are, with slots ample and with as many as given."""
    read_s, model_s, write_s = times
    model_s = [seconds / speedup for seconds in model_s]
    mean_s = statistics.fmean(model_s)
    slots_per_actor = (statistics.fmean(read_s) + statistics.fmean(write_s)) / mean_s
    note = "" if speedup == 1 else ": an ASSUMPTION, not measured"
    print(f"\nmodel time divided by {speedup:g}{note}")
    print("actors  io slots  pairs/s  of linear  actors busy  io busy  driver busy  storage busy  limit")
    for actors in given.actors:
        ample = math.ceil(AMPLE * slots_per_actor * actors) + 2
        for io_slots in (ample, max(1, round(given.io_slots_per_actor * actors))):
            steady = simulate(
                actors=actors, io_slots=io_slots, read_s=read_s, model_s=model_s, write_s=write_s,
                driver_s=given.driver_s, pair_mb=given.pair_mb, mb_per_s=mb_per_s,
                windows=max(5000, 500 * actors), seed=given.seed,
            )  # fmt: skip
            busy = {name: f"{share:.0%}" for name, share in steady.busy.items()}
            print(
                f"{actors:6}  {io_slots:8}  {steady.pairs_per_s:7.2f}  "
                f"{steady.pairs_per_s * mean_s / actors:9.0%}  {busy['actors']:>11}  "
                f"{busy['reading and writing']:>7}  {busy['driver']:>11}  {busy['storage']:>12}  "
                f"{steady.limit}",
                flush=True,
            )
    print(f"the driver limits from {mean_s / given.driver_s:.1f} actors on; "
          f"one actor needs {slots_per_actor:.3g} io slots")  # fmt: skip
    if given.pair_mb and mb_per_s < math.inf:
        print(f"the storage limits from {mean_s * mb_per_s / given.pair_mb:.1f} actors on")


def positive(text):
    number = float(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def main():
    """Measure or take the times, then print one table for each speedup."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ir", help="folder to measure on, with --vis")
    parser.add_argument("--vis")
    parser.add_argument("--limit", type=int, default=30, help="pairs to measure on (30)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of the network (2)")
    for step in ("read", "model", "write"):
        parser.add_argument(f"--{step}-s", type=positive, help="mean seconds, instead of measuring")
    parser.add_argument("--driver-s", type=positive, default=DRIVER_S, help=f"a window ({DRIVER_S})")
    parser.add_argument("--pair-mb", type=positive, help="MB read and written a pair")
    parser.add_argument("--bandwidth-gbit", type=positive, default=math.inf, help="of the storage")
    parser.add_argument("--speedup", type=positive, nargs="+", default=[1.0], help="of the model")
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--io-slots-per-actor", type=positive, default=1.0, help="(1)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    stated = (given.read_s, given.model_s, given.write_s)
    if (given.ir and given.vis) and not any(stated):
        *times, measured_mb = measure(given)
        given.pair_mb = measured_mb if given.pair_mb is None else given.pair_mb
    elif all(stated) and not (given.ir or given.vis):
        times, given.pair_mb = [[seconds] for seconds in stated], given.pair_mb or 0.0
    else:
        parser.error("give --ir and --vis, or --read-s, --model-s and --write-s")
    for name, seconds in zip(("read", "model", "write"), times, strict=True):
        spread = f" +- {statistics.stdev(seconds):.4f}" if len(seconds) > 1 else ", as given"
        print(f"{name:6} {statistics.fmean(seconds):.4f}{spread} s/pair")
    print(f"driver {given.driver_s:.4f} s/pair; {given.pair_mb:.2f} MB/pair; seed {given.seed}")
    for speedup in given.speedup:
        print_table(given, times, speedup, given.bandwidth_gbit * 1000 / 8)


if __name__ == "__main__":
    main()
