"""A disk of a few hundred kilobytes: a tmpfs in a mount namespace of its own.

Needs no privileges, only a kernel that lets users make namespaces.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

START = 'mount -t tmpfs -o size="$2" tmpfs "$1" && echo ready && exec sleep 7200'


class SmallDisk:
    """The disk, mounted on `folder` for what `run` starts; `outside` is its path for all others."""

    def __init__(self, folder: Path, size: str) -> None:
        self.folder = folder
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", START, "sh"]
        self.holder = subprocess.Popen(
            [*command, str(folder), size], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self.holder.stdout is not None and self.holder.stderr is not None
        if self.holder.stdout.readline() != "ready\n":
            self.holder.wait()
            raise OSError(f"no disk could be mounted: {self.holder.stderr.read().strip()}")

    def __enter__(self) -> SmallDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self.holder.kill()
        self.holder.communicate()

    @property
    def outside(self) -> str:
        """Path of the disk's root in this process."""
        return f"/proc/{self.holder.pid}/root{self.folder}"

    def run(self, *command: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a command that sees the disk."""
        enter = ["nsenter", "--user", "--mount", "--preserve-credentials"]
        return subprocess.run(
            [*enter, f"--target={self.holder.pid}", f"--wd={os.getcwd()}", *command],
            capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip

    def grow(self, size: str) -> None:
        """Give the disk another size."""
        grown = self.run("mount", "-o", f"remount,size={size}", str(self.folder))
        assert grown.returncode == 0, grown.stderr
