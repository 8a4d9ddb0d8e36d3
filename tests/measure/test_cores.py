"""A measured process stays on a few cores, and only while it is measured."""

import os
import threading

import pytest

from bench.measure import cores
from bench.measure.cores import pinned, quiet_cores, quietest

can_pin = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not pin processes")
PAIRS = {core: frozenset({core, core ^ 1}) for core in range(8)}  # 0-1, 2-3, 4-5, 6-7: hyperthreads of four cores


def test_physical_cores_come_before_second_hyperthreads():
    idle = dict.fromkeys(range(8), 0.0)
    assert quietest(set(range(8)), idle, PAIRS, 4) == [0, 2, 4, 6]
    assert quietest(set(range(8)), idle, PAIRS, 5) == [0, 1, 2, 4, 6]
    assert quietest({2, 3, 7}, idle, PAIRS, 2) == [2, 7]


def test_a_busy_neighbour_counts():
    busy = {**dict.fromkeys(range(8), 0.0), 0: 90.0, 3: 50.0, 4: 20.0}
    assert quietest(set(range(8)), busy, PAIRS, 1) == [6]
    assert quietest(set(range(8)), busy, PAIRS, 2) == [5, 6], "the idle thread of the core that does least besides"
    assert quietest({0, 1, 2, 3}, busy, PAIRS, 1) == [2]


@can_pin
def test_quiet_cores_are_cores_of_this_process():
    allowed = os.sched_getaffinity(0)
    found = quiet_cores(1)
    assert len(found) == 1
    assert set(found) <= allowed
    assert quiet_cores(len(allowed) + 5) == sorted(allowed)


@can_pin
def test_all_threads_are_pinned_and_freed_again():
    allowed = os.sched_getaffinity(0)
    seen, go = [], threading.Event()

    def work():
        go.wait(60)
        seen.append(os.sched_getaffinity(0))

    other = threading.Thread(target=work)
    other.start()
    with pinned(1) as found:
        assert found is not None
        assert os.sched_getaffinity(0) == set(found)
        assert len(found) == 1
        go.set()
        other.join()
        late = threading.Thread(target=work)
        late.start()
        late.join()
    assert seen == [set(found)] * 2, "threads that were there, and those to come"
    assert os.sched_getaffinity(0) == allowed
    with pytest.raises(ZeroDivisionError), pinned(1):
        raise ZeroDivisionError
    assert os.sched_getaffinity(0) == allowed
    with pinned(len(allowed)) as found:
        assert found == sorted(allowed)


def test_systems_that_cannot_pin_go_on_as_they_are(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    assert quiet_cores(1) == []
    with pinned(1) as found:
        assert found is None


@can_pin
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2 if hasattr(os, "sched_getaffinity") else True, reason="one core")
def test_a_sandbox_that_forbids_it_is_no_failure(monkeypatch):
    def refuse(process, mask):
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    with pinned(1) as found:
        assert found is None
    assert cores.allowed_cores() == os.sched_getaffinity(0)
