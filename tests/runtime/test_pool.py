import ctypes
import os
import threading
import time

import pytest

from mobilenets.machine import usable_cores
from mobilenets.output_capture import capture_stderr
from mobilenets.runtime import loaded_file as pools
from mobilenets.runtime.loaded_file import ResourcePool, pool_size


def test_an_item_is_one_threads_at_a_time_and_there_are_no_more_than_allowed():
    made, held = [], []
    lock = threading.Lock()
    most = 0

    def make():
        made.append(object())
        return made[-1]

    pool = ResourcePool(make, 3)

    def work():
        nonlocal most
        for _ in range(100):
            with pool.borrow() as item:
                with lock:
                    assert item not in held
                    held.append(item)
                    most = max(most, len(held))
                time.sleep(0)
                with lock:
                    held.remove(item)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most <= 3
    assert 1 <= len(made) <= 3
    assert held == []


def test_one_after_the_other_needs_one_item():
    made = []
    pool = ResourcePool(lambda: made.append(0) or object(), 4)
    for _ in range(5):
        with pool.borrow():
            pass
    assert len(made) == 1


def test_an_item_whose_use_failed_is_replaced():
    pool = ResourcePool(object, 1)
    with pytest.raises(KeyboardInterrupt), pool.borrow() as first:
        raise KeyboardInterrupt
    with pool.borrow() as second:
        assert second is not first


def test_a_place_is_not_lost_where_none_can_be_made():
    def fail():
        raise RuntimeError("no memory")

    pool = ResourcePool(fail, 1)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="no memory"), pool.borrow():
            pass
    pool.add("made elsewhere")
    with pool.borrow() as item:
        assert item == "made elsewhere"


@pytest.mark.slow  # without coverage, in whose tracing most of the exceptions would come
def test_ctrl_c_at_any_line_loses_no_place(monkeypatch):
    """An exception thrown into threads from outside comes between any two of their instructions, as Ctrl-C does."""
    monkeypatch.setattr(pools, "_CHECK_SECONDS", 0.02)
    pool = ResourcePool(object, 2)
    stop = threading.Event()
    broken_off = 0

    def work():
        nonlocal broken_off
        while not stop.is_set():
            try:
                while not stop.is_set():
                    with pool.borrow():
                        pass
            except KeyboardInterrupt:
                broken_off += 1

    def guarded():
        while not stop.is_set():
            try:
                work()
            except KeyboardInterrupt:  # within the handling of one before
                continue

    threads = [threading.Thread(target=guarded) for _ in range(3)]
    for thread in threads:
        thread.start()
    # A thread that is hit outside of its handlers ends, which may leave none: then there was enough of it.
    deadline = time.monotonic() + 30
    while broken_off < 100 and time.monotonic() < deadline and any(thread.is_alive() for thread in threads):
        for thread in threads:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt)
            )
        time.sleep(0.001)
    stop.set()
    for thread in threads:
        thread.join()
    assert broken_off > 0
    with pool.borrow() as one, pool.borrow() as other:
        assert one is not other


def test_as_many_at_once_as_the_cores_are_for_but_two_at_least(monkeypatch):
    assert pool_size(usable_cores()) == 2
    monkeypatch.setattr(pools, "usable_cores", lambda: 16)
    assert [pool_size(threads) for threads in (1, 4, 8, 16, 99)] == [16, 4, 2, 2, 2]


def test_threads_that_capture_at_once_leave_nothing_captured(capfd):
    def work():
        for _ in range(50):
            with capture_stderr():
                os.write(2, b"noise")

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"words")
    assert capfd.readouterr().err == "words"
