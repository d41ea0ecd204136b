"""The lease: one holder at a time, on a folder and on S3, also when holders die or hang."""

import json
import os
import threading
import time

import pytest

from cluster.fusing import lease
from cluster.fusing.lease import Lease, LeaseHeld, LeaseLost
from cluster.storage import objects
from cluster.text.run_log import RunLog


@pytest.fixture(params=["local", "s3"])
def output(request, tmp_path):
    return str(tmp_path / "out") if request.param == "local" else request.getfixturevalue("s3") + "/out"


@pytest.fixture
def fast(monkeypatch):
    """Seconds that a test can wait for."""
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(lease, "EXPIRY_S", 2.0)
    monkeypatch.setattr(lease, "POLL_S", 0.05)


def log_of(run_id):
    return RunLog(run_id, as_json=False)


def taken(output, run_id, wait=False):
    held = Lease(output, log_of(run_id), wait=wait)
    held.acquire()
    return held


class OftenBeaten(threading.Event):
    """Ends each wait for the next heartbeat after a tenth of its time."""

    def wait(self, timeout=None):
        return super().wait(timeout and timeout / 10)


def leave(held, output, *, heartbeat, host="elsewhere"):
    """Make a lease look like one whose holder, on another machine, died at `heartbeat`."""
    held.stopped.set()
    held.thread.join()
    holder = held.holder | {"heartbeat": heartbeat, "host": host, "process": []}
    objects.put_bytes(held._url(held.scope, held.number), json.dumps(holder).encode())


def test_a_second_run_is_told_who_holds_the_output_and_a_third_gets_it_after(output):
    first = taken(output, "run-1")
    with pytest.raises(LeaseHeld, match=r"by run run-1 on '.*' since 20\d\d-.*--wait"):
        taken(output, "run-2")
    first.release()
    third = taken(output, "run-3")
    third.check()
    third.release()
    assert len(list(objects.find_files(f"{output}/lease"))) == 1  # no pile of old ones


def test_a_lease_whose_record_is_not_there_yet_is_looked_at_again(output, monkeypatch, capsys):
    first = taken(output, "run-1")
    record = first._url(first.scope, first.number)
    objects.put_bytes(record, b"")  # as a rival sees it between its creation and its content

    def written_meanwhile(_):
        objects.put_bytes(record, json.dumps(first.holder).encode())

    monkeypatch.setattr(lease.time, "sleep", written_meanwhile)
    with pytest.raises(LeaseHeld, match=r"by run run-1 on"):
        taken(output, "run-2")
    assert "waiting for run unknown" in capsys.readouterr().out
    monkeypatch.undo()
    first.release()


def test_of_many_at_once_one_gets_it(output):
    granted, refused = [], []

    def run(number):
        try:
            granted.append(taken(output, f"run-{number}"))
        except LeaseHeld:
            refused.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 1 and len(refused) == 7
    granted[0].release()


def test_waiting_ends_when_the_holder_lets_go(output, fast):
    first = taken(output, "run-1")
    threading.Timer(1.0, first.release).start()
    second = taken(output, "run-2", wait=True)
    assert first.stopped.is_set() and second.number == 2
    second.release()


def test_a_holder_that_died_elsewhere_is_taken_over_after_its_expiry_and_learns_of_it(output, fast):
    first = taken(output, "run-1")
    leave(first, output, heartbeat=time.time())
    with pytest.raises(LeaseHeld, match="by run run-1 on 'elsewhere'"):
        taken(output, "run-2")
    leave(first, output, heartbeat=time.time() - 3600)
    second = taken(output, "run-2")  # old, and it stayed so for two heartbeats
    first.stopped.clear()
    first._beat()
    with pytest.raises(LeaseLost, match="taken over by run run-2"):
        first.check()
    first.release()
    assert objects.exists(second._url("", 2))
    second.check()
    second.release()


def test_a_holder_whose_heartbeats_hang_looks_before_it_writes(output, fast):
    first = taken(output, "run-1")
    leave(first, output, heartbeat=time.time() - 3600)
    first.check()
    first.beaten_at = time.time() - 3600
    first.check()  # nobody else came
    second = taken(output, "run-2")
    with pytest.raises(LeaseLost, match="taken over by run run-2"):
        first.check()
    second.release()


def test_a_holder_whose_clock_is_behind_keeps_what_it_holds(tmp_path, fast, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_S", 1.0)
    first = Lease(str(tmp_path), log_of("run-1"))
    first.stopped = OftenBeaten()  # so that a slow machine's heartbeats come in time too
    real = time.time

    def behind():
        return real() - (3600 if threading.current_thread() is first.thread else 0)

    monkeypatch.setattr(lease.time, "time", behind)
    first.acquire()
    first.stopped.wait(0.5)  # its heartbeats look an hour old now, but they come
    set_right = threading.Timer(1.5, monkeypatch.setattr, (lease.time, "time", real))
    set_right.start()
    with pytest.raises(LeaseHeld, match="by run run-1"):
        taken(str(tmp_path), "run-2")
    set_right.join()
    assert not first.lost
    first.release()


def test_a_process_of_this_machine_that_is_gone_holds_nothing(tmp_path):
    output = str(tmp_path)
    child = os.fork()
    if not child:
        Lease(output, log_of("run-1")).acquire()
        os._exit(0)
    os.waitpid(child, 0)
    second = taken(output, "run-2")  # at once
    assert second.number == 2
    second.release()


def taken_part(output, run_id, k, n, wait=False):
    held = Lease(output, log_of(run_id), (k, n), wait=wait)
    held.acquire()
    return held


def test_partitions_of_one_division_are_held_side_by_side_and_each_by_one(output):
    first, second = taken_part(output, "run-1", 1, 2), taken_part(output, "run-2", 2, 2)
    with pytest.raises(LeaseHeld, match="by run run-2"):
        taken_part(output, "run-3", 2, 2)
    for other in (lambda: taken(output, "run-4"), lambda: taken_part(output, "run-5", 1, 3)):
        with pytest.raises(LeaseHeld, match="by run run-[12]"):
            other()
    first.release()
    with pytest.raises(LeaseHeld, match="by run run-2"):
        taken(output, "run-6")
    second.release()
    whole = taken(output, "run-7")
    with pytest.raises(LeaseHeld, match="by run run-7"):
        taken_part(output, "run-8", 1, 2)
    whole.release()
    taken_part(output, "run-9", 1, 3).release()


def test_whoever_starts_together_the_whole_and_a_part_are_never_both_held(tmp_path, fast):
    held, clashes = [], []

    def run(number):
        part = (1 + number % 2, 2) if number % 3 else None
        mine = Lease(str(tmp_path), log_of(f"run-{number}"), part, wait=True)
        mine.acquire()
        held.append(part)
        others = list(held)
        if None in others and len(others) > 1 or others.count(part) > 1:
            clashes.append(others)
        time.sleep(0.02)
        held.remove(part)
        mine.release()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert not clashes


def test_a_dead_partition_is_shut_out_by_a_run_over_everything(output, fast):
    part = taken_part(output, "run-1", 1, 2)
    leave(part, output, heartbeat=time.time() - 3600)
    whole = taken(output, "run-2")
    part.stopped.clear()
    part._beat()
    with pytest.raises(LeaseLost, match="taken over by run run-2"):
        part.check()
    whole.release()
    taken_part(output, "run-3", 1, 2).release()
