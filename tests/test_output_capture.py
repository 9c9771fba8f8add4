"""Output of libraries is captured for as long as any block wants it, and comes back afterwards."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from mobilenets.output_capture import capture_all_output, capture_python_output, capture_stderr, print_to_stderr


def speak(word: str) -> None:
    print(f"{word} stdout")
    print(f"{word} stderr", file=sys.stderr)
    os.write(1, f"{word} descriptor 1\n".encode())
    os.write(2, f"{word} descriptor 2\n".encode())
    sys.stdout.flush()
    sys.stderr.flush()


@pytest.mark.parametrize(
    ("capture", "out", "err"),
    [
        (capture_stderr, {"stdout", "descriptor 1"}, set()),
        (capture_python_output, {"descriptor 1"}, {"descriptor 2"}),
        (capture_all_output, set(), set()),
        (print_to_stderr, {"descriptor 1"}, {"stdout", "stderr", "descriptor 2"}),
    ],
)
def test_what_still_reaches_the_screen(
    capture: Callable[[], AbstractContextManager[None]], out: set[str], err: set[str], capfd: pytest.CaptureFixture[str]
) -> None:
    with capture():
        speak("inside")
    read = capfd.readouterr()
    assert {line.removeprefix("inside ") for line in read.out.splitlines()} == out
    assert {line.removeprefix("inside ") for line in read.err.splitlines()} == err
    speak("after")
    read = capfd.readouterr()
    assert len(read.out.splitlines()) == len(read.err.splitlines()) == 2


@pytest.mark.parametrize("capture", [capture_python_output, capture_all_output, print_to_stderr])
def test_warnings_and_logs_are_dropped_and_their_settings_come_back(
    capture: Callable[[], AbstractContextManager[None]], caplog: pytest.LogCaptureFixture
) -> None:
    before = warnings.filters[:], logging.root.manager.disable
    with capture():
        warnings.warn("of no use", stacklevel=1)
        logging.getLogger("library").error("nor this")
        with capture():
            pass
        warnings.simplefilter("error")
    assert caplog.records == []
    assert (warnings.filters[:], logging.root.manager.disable) == before


def test_captured_until_the_last_of_several_threads_is_done(capfd: pytest.CaptureFixture[str]) -> None:
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with capture_all_output():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with capture_all_output():
        thread.start()
        entered.wait(10)
    speak("while the other thread is inside")
    leave.set()
    thread.join()
    speak("after")
    read = capfd.readouterr()
    assert read.out.count("after") == 2
    assert "while" not in read.out + read.err


def test_an_error_inside_ends_the_capture(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="inside"), capture_all_output():
        raise ValueError("inside")
    speak("after")
    assert capfd.readouterr().err.count("after") == 2
