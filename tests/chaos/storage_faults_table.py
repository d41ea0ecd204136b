"""Prints what the main job does on storage that fails: python -m tests.chaos.storage_faults_table.

Runs tests/chaos/test_storage_faults.py and makes a Markdown table of what its tests noted. Further
arguments go to pytest.
"""

import sys

import pytest

COLUMNS = (
    "fault", "share", "injected", "first run's exit", "runs until done", "lost", "doubled", "seconds",
)  # fmt: skip


class _Rows:
    """Collects the rows of the tests that passed, and the names of the others."""

    def __init__(self):
        self.rows = []
        self.others = []

    def pytest_runtest_logreport(self, report):
        if report.when == "call" and report.passed:
            self.rows += [value for name, value in report.user_properties if name == "row"]
        elif not report.passed:
            self.others.append(f"{report.nodeid}: {report.outcome}")


def main():
    """Run the tests, print the table; exit as pytest does."""
    collected = _Rows()
    code = pytest.main(["-q", "tests/chaos/test_storage_faults.py", *sys.argv[1:]], [collected])
    print(f"\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for row in collected.rows:
        print(f"| {' | '.join(map(str, row))} |")
    for other in collected.others:
        print(f"\nnot in the table: {other}")
    return code


if __name__ == "__main__":
    sys.exit(main())
