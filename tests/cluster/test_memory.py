"""What --dry-run foretells of an actor's memory, against what a process of its own takes."""

import subprocess
import sys

import pytest

from tests.conftest import REPO_ROOT


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["compact", "fast"])
def test_an_actor_takes_no_more_than_foretold_and_most_of_it(preset):
    script = str(REPO_ROOT / "benchmarks/memory.py")
    command = [sys.executable, script, "--preset", preset, "--sides", "768x1024"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    cells = done.stdout.splitlines()[-1].split("|")
    peak, foretold = float(cells[3]), float(cells[4])
    assert 0.6 * foretold < peak <= foretold
