"""Rounds of chaos: the real job on real pairs, whose processes are killed at random moments.

    python -m tests.chaos.rounds --rounds 25 --seed 1      (make chaos)

Each round takes a place for archive and output (a folder, or S3 behind a relay of its own) and a Ray
(one that the job starts, or a cluster of two nodes), kills what its seed says, runs the same command
again until it is done, and compares the result with an undisturbed run's.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from cluster.storage import fused_store, objects, tables, urls
from dmnet_core.synthetic import render_scene
from tests.chaos.relay_process import RelayProcess
from tests.conftest import SHARED
from tests.e2e.archives import (
    ROOT,
    fuse_arguments,
    png,
    processes,
    processes_of,
    read_metrics,
    read_rejected,
)

NUM_PAIRS, NUM_SCENES = 8, 2
"""Pairs of the archive, and how many of them are larger than a window."""
WINDOW = 192
FRAME = (180, 240)
"""Height and width that the other pairs are cut to, which one window holds."""
MAX_RUNS = 8
KILLS = (2, 4)
"""Fewest and most kills of a round."""
PAUSE_S = (0.5, 6.0)
"""Between two kills."""
S3_AWAY_S = (0.5, 4.0)
JOB_LIMIT_S = 400.0
KINDS_OF_ALL = ("actor", "task", "driver")


@dataclass
class Round:
    """What a round did and how it ended."""

    seed: int
    place: str
    ray: str
    kills: Counter[str] = field(default_factory=Counter)
    num_runs: int = 0
    lost: int = 0
    doubled: int = 0
    repeated: int = 0
    """Windows fused again though the ledger held them."""
    differing: int = 0
    """Arrays that are not byte-equal to the undisturbed run's."""
    most_levels: int = 0
    """Largest difference of a pixel."""
    seconds: float = 0.0
    unclear: list[str] = field(default_factory=list)
    """Endings other than success or one clear line."""


def archive_files() -> dict[str, tuple[bytes, bytes]]:
    """Return the files of each pair by its id: real ones where they are, else generated ones."""
    folder = SHARED / "data" / "roadscene_test"
    if folder.is_dir():
        pairs = {}
        for ir in sorted((folder / "ir").iterdir())[:: max(1, 50 // NUM_PAIRS)][:NUM_PAIRS]:
            (vis,) = (folder / "vis").glob(f"{ir.stem}.*")
            pairs[f"road/{ir.stem}"] = tuple(np.asarray(Image.open(path)) for path in (ir, vis))
    else:
        pairs = {f"day/{n:03d}": render_scene("aerial", n, 260, 330) for n in range(NUM_PAIRS)}
    for name in list(pairs)[NUM_SCENES:]:
        pairs[name] = tuple(image[: FRAME[0], : FRAME[1]].copy() for image in pairs[name])
    return {name: (png(ir), png(vis)) for name, (ir, vis) in pairs.items()}


def write_files(url: str, files: dict[str, tuple[bytes, bytes]]) -> None:
    """Write an archive."""
    for pair_id, sides in files.items():
        for side, data in zip(("ir", "vis"), sides, strict=True):
            objects.put_bytes(urls.join_url(url, side, f"{pair_id}.png"), data)


def undisturbed(files: dict[str, tuple[bytes, bytes]], folder: Path) -> dict[str, np.ndarray]:
    """Return the fused pixels of each pair, of a run that nobody disturbs."""
    archive, output = str(folder / "archive"), str(folder / "out")
    write_files(archive, files)
    command = [sys.executable, str(ROOT / "jobs/fuse_archive.py"), *chaos_arguments(archive, output)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=JOB_LIMIT_S)
    return read_pixels(output, files)


def chaos_arguments(archive: str, output: str) -> list[str]:
    """Return the arguments of the job."""
    return [*fuse_arguments(archive, output), "--window", str(WINDOW)]


def read_pixels(output: str, pair_ids: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the stored pixels of each pair."""
    store = urls.join_url(output, "fused.zarr")
    places = {name: fused_store.escape_pair_id(name) for name in pair_ids}
    return {name: fused_store.read_fused(store, place) for name, place in places.items()}


class ChaosRound:
    """The state of one round: its job, its Ray, its relay, and what its seed says next."""

    def __init__(self, seed: int, folder: Path, s3_endpoint: str | None, bucket: str) -> None:
        self.random = random.Random(seed)
        place = self.random.choice(("folder", "S3")) if s3_endpoint else "folder"
        self.round = Round(seed, place, self.random.choice(("own", "cluster")))
        self.folder = folder
        self.base = f"{bucket}/chaos-{seed}" if place == "S3" else str(folder / "round")
        self.relay = RelayProcess(s3_endpoint) if place == "S3" and s3_endpoint else None
        self.cluster = _two_nodes() if self.round.ray == "cluster" else None
        self.job: subprocess.Popen[str] | None = None

    def run(self, files: dict[str, tuple[bytes, bytes]], expected: dict[str, np.ndarray]) -> Round:
        """Kill and run again until the job is done, and count what is amiss."""
        start = time.monotonic()
        try:
            write_files(urls.join_url(self.base, "archive"), files)
            kinds = [*KINDS_OF_ALL]
            kinds += ["s3"] if self.relay else []
            kinds += ["raylet"] if self.cluster else []
            for _ in range(self.random.randint(*KILLS)):
                self._start_if_ended()
                time.sleep(self.random.uniform(*PAUSE_S))
                kind = self.random.choice(kinds)
                if self._kill(kind):
                    self.round.kills[kind] += 1
            while not self._is_done():
                self._start_if_ended()
                time.sleep(0.2)
                if time.monotonic() - start > MAX_RUNS * JOB_LIMIT_S or self.round.num_runs > MAX_RUNS:
                    raise AssertionError(f"round {self.round.seed} did not end: {self.round}")
        finally:
            self._close()
        self.round.seconds = time.monotonic() - start
        self._count(files, expected)
        return self.round

    def _start_if_ended(self) -> None:
        if self.job is not None and self.job.poll() is None:
            return
        if self.job is not None and self.job.returncode == 0:
            return
        self._note_ending()
        output = urls.join_url(self.base, "out")
        arguments = chaos_arguments(urls.join_url(self.base, "archive"), output)
        command = [sys.executable, str(ROOT / "jobs/fuse_archive.py"), *arguments, "--max-rejected", "0"]
        environment = dict(os.environ)
        if self.relay:
            environment["AWS_ENDPOINT_URL"] = self.relay.url
        if self.cluster:
            environment["RAY_ADDRESS"] = self.cluster.address
        self.log = tempfile.TemporaryFile("w+")
        self.job = subprocess.Popen(
            command, env=environment, stdout=self.log, stderr=self.log, text=True,
            start_new_session=True,
        )  # fmt: skip
        self.round.num_runs += 1

    def _note_ending(self) -> None:
        """Keep what a run said that ended badly without being killed, unless it is one clear line."""
        if self.job is None or self.job.returncode == -signal.SIGKILL:
            return
        self.log.seek(0)
        said = self.log.read()
        if "Traceback" in said or "\nfuse_archive: " not in f"\n{said}":
            self.round.unclear.append(said[-2000:])

    def _is_done(self) -> bool:
        return self.job is not None and self.job.poll() == 0

    def _kill(self, kind: str) -> bool:
        """Kill one process of a kind with SIGKILL; return whether there was one."""
        assert self.job is not None
        if self.job.poll() is not None:
            return False
        if kind == "s3":
            assert self.relay is not None
            self.relay.kill()
            time.sleep(self.random.uniform(*S3_AWAY_S))
            self.relay.start()
            return True
        if kind == "raylet":
            assert self.cluster is not None
            self.cluster.remove_node(self.cluster.worker_nodes.copy().pop(), allow_graceful=False)
            self.cluster.add_node(num_cpus=3)
            return True
        if kind == "driver":
            self.job.kill()
            self.job.wait()
            return True
        wanted = re.compile(rb"FuseWindows" if kind == "actor" else rb"_(window|scene)\)")
        deadline = time.monotonic() + 15
        while self.job.poll() is None and time.monotonic() < deadline:
            found = [pid for pid, name in self._ray_workers() if wanted.search(name)]
            if found:
                os.kill(self.random.choice(sorted(found)), signal.SIGKILL)
                return True
            time.sleep(0.02)
        return False

    def _ray_workers(self) -> list[tuple[int, bytes]]:
        """Return the worker processes of the round's Ray, each with what it does."""
        assert self.job is not None
        if self.cluster:
            port = self.cluster.address.rpartition(":")[2].encode()
            raylets = [pid for pid, line in processes("raylet/raylet").items() if port in line]
        else:
            raylets = processes_of(self.job, "raylet/raylet")
        return [(pid, line) for pid, line in processes("ray::").items() if _parent(pid) in raylets]

    def _close(self) -> None:
        if self.job is not None and self.job.poll() is None:
            os.killpg(self.job.pid, signal.SIGKILL)
            self.job.wait()
        if self.cluster:
            self.cluster.shutdown()
        if self.relay:
            self.relay.kill()

    def _count(self, files: dict[str, tuple[bytes, bytes]], expected: dict[str, np.ndarray]) -> None:
        output, found = urls.join_url(self.base, "out"), self.round
        written = list(read_metrics(output)["pair_id"])
        found.lost = len(set(files) - set(written)) + len(read_rejected(output))
        found.doubled = len(written) - len(set(written))
        ledger = tables.read_table(urls.join_url(output, "ledger"))
        assert ledger is not None
        fused = ledger[ledger["status"] == "fused"]
        found.repeated = int(fused.duplicated(["pair_id", "window"]).sum())
        for name, pixels in read_pixels(output, files).items():
            difference = np.abs(pixels.astype(int) - expected[name].astype(int))
            found.differing += bool(difference.any())
            found.most_levels = max(found.most_levels, int(difference.max()))
            # invariant: one level on few pixels, for another order of floating-point sums
            if difference.max() > 1 or (difference > 0).mean() > 1e-3:
                found.lost += 1


def _two_nodes():  # type: ignore[no-untyped-def]
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3})
    cluster.add_node(num_cpus=3)
    return cluster


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def table(rounds: list[Round]) -> str:
    """Return the rounds as a Markdown table, with their sum."""
    kinds = ("actor", "task", "driver", "raylet", "s3")
    lines = [
        "| round | archive on | Ray | killed: " + " | ".join(kinds)
        + " | runs | lost | doubled | fused again | arrays that differ | seconds |",
        "|" + "---|" * (3 + len(kinds) + 6),
    ]  # fmt: skip
    for one in rounds:
        cells = [one.seed, one.place, one.ray, *(one.kills[kind] for kind in kinds), one.num_runs]
        cells += [one.lost, one.doubled, one.repeated, one.differing, f"{one.seconds:.0f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    total = [sum(one.kills[kind] for one in rounds) for kind in kinds]
    sums = [sum(getattr(one, name) for one in rounds)
            for name in ("num_runs", "lost", "doubled", "repeated", "differing")]  # fmt: skip
    cells = ["**sum**", "", "", *total, *sums, f"{sum(one.seconds for one in rounds):.0f}"]
    return "\n".join([*lines, "| " + " | ".join(map(str, cells)) + " |"])


def main() -> int:
    """Run rounds on folders and, where a server is named, on S3; print their table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    from tests.conftest import moto_server

    rounds: list[Round] = []
    with tempfile.TemporaryDirectory() as folder, moto_server(Path(folder) / "moto.log") as environment:
        os.environ.update(environment)
        bucket = _new_bucket()
        files = archive_files()
        expected = undisturbed(files, Path(folder))
        for seed in range(given.seed, given.seed + given.rounds):
            endpoint = environment["AWS_ENDPOINT_URL"]
            with tempfile.TemporaryDirectory() as place:
                rounds.append(ChaosRound(seed, Path(place), endpoint, bucket).run(files, expected))
            print(rounds[-1], file=sys.stderr, flush=True)
    print(table(rounds))
    wrong = [one for one in rounds if one.lost or one.doubled or one.repeated or one.unclear]
    return 1 if wrong else 0


def _new_bucket() -> str:
    import s3fs

    name = f"dmnet-chaos-{os.getpid()}"
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}"


if __name__ == "__main__":
    sys.exit(main())
