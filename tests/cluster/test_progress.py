"""What a job says of how far it is: lines in a log, a bar on a terminal."""

import json
import os
import pty
import subprocess
import sys
import termios

from cluster.text import progress as progress_module
from cluster.text.progress import Progress
from cluster.text.run_log import RunLog

BAR = """
from cluster.text.progress import Progress
with Progress(4, "pairs") as progress:
    for number in range(4):
        progress.add(pixels=500_000, rejected=number == 2)
    progress.print("a line of text")
"""


def test_a_log_gets_plain_lines_and_nothing_of_what_is_quick(capsys, monkeypatch):
    with Progress(10, "images"):
        pass
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(progress_module, "SECONDS_PER_LINE", 0.0)
    with Progress(10, "pairs") as progress:
        progress.add(3, pixels=3_000_000)
        progress.add(1, pixels=500_000, rejected=1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("3/10 pairs  3.0 megapixels  ")
    assert lines[1].startswith("4/10 pairs  3.5 megapixels  1 rejected  ")
    assert all(line.endswith(" left") and "/s  " in line for line in lines)


def test_what_was_done_before_counts_in_no_rate(capsys, monkeypatch):
    monkeypatch.setattr(progress_module, "SECONDS_PER_LINE", 0.0)
    with Progress(10, "pairs", begun=9) as progress:
        progress.add(0)
    assert "9/10 pairs  0.00/s  ? left" in capsys.readouterr().out


def test_a_log_for_machines_gets_the_numbers(capsys):
    with Progress(8, "windows", RunLog("run", as_json=True)) as progress:
        progress.add(8, pixels=2_000_000, rejected=2)
    said = json.loads(capsys.readouterr().out)
    assert said["event"] == "progress" and said["what"] == "windows"
    assert (said["done"], said["total"], said["rejected"], said["megapixels"]) == (8, 8, 2, 2.0)


def test_a_terminal_gets_one_bar_with_rate_and_time_left():
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    subprocess.run([sys.executable, "-c", BAR], stdout=theirs, check=True, timeout=120)
    os.close(theirs)
    parts = []
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux's end of a terminal
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    text = b"".join(parts).decode()
    assert "a line of text\r\n" in text
    last = text.rstrip().rpartition("\r")[2]
    assert last.startswith("pairs: 100%") and "4/4" in last and "/s" in last
    assert "2.0 megapixels, 1 rejected" in last
