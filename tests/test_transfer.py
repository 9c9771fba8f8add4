"""No server is waited for without end; what it does wrong is said in a few words."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from mobilenets import transfer
from mobilenets.transfer import Download, TransferError, open_url

Talk = Callable[[socket.socket, str], None]
"""What a server does with a connection once it has the request."""


@contextmanager
def serving(talk: Talk) -> Iterator[str]:
    """The address of a server that talks so."""
    stopped = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer(one: socket.socket) -> None:
            with one, suppress(OSError):
                if request := one.recv(65536).decode():
                    talk(one, request)

        def accept() -> None:
            with suppress(OSError):
                while not stopped.is_set():
                    threads.append(threading.Thread(target=answer, args=(listening.accept()[0],)))
                    threads[-1].start()

        threads = [threading.Thread(target=accept)]
        threads[0].start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        stopped.set()
        with suppress(OSError):
            socket.create_connection(listening.getsockname()[:2], 1).close()
        for thread in threads:
            thread.join(10)


def whole(download: Download) -> bytes:
    with closing(download):
        return b"".join(iter(lambda: download.read(7), b""))


def failure(talk: Talk, path: str = "/x") -> str:
    with serving(talk) as address, pytest.raises(TransferError) as caught:
        whole(open_url(address + path))
    return str(caught.value)


def drip(one: socket.socket, head: bytes, piece: bytes) -> None:
    one.sendall(head)
    for _ in range(200):
        one.sendall(piece)
        time.sleep(0.05)


def test_bodies_are_read_with_and_without_their_length() -> None:
    for head, body in (
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n", b"0123456789" * 2),
        (b"HTTP/1.0 200 OK\r\n\r\n", b"0123456789" * 2),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"a\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"),
    ):
        with serving(lambda one, asked, said=head + body: one.sendall(said)) as address:  # type: ignore[misc]
            assert whole(open_url(f"{address}/ä?b=[1]&c=%20")) == b"0123456789" * 2


OK = b"HTTP/1.1 200 OK\r\n"
LONG = OK + b"Content-Length: 9999\r\n\r\n"
EMPTY = b"Content-Length: 0\r\n\r\n"
FAULTS: dict[str, tuple[Talk, str]] = {
    "silent": (lambda one, asked: time.sleep(0.5), "nothing came for 0.2 s"),
    "slow status": (lambda one, asked: drip(one, b"", b"H"), "nothing came for"),
    "slow headers": (lambda one, asked: drip(one, OK, b"X-A: b\r\n"), "nothing came for"),
    "slow body": (lambda one, asked: drip(one, LONG, b"x"), "the server is too slow"),
    "slow chunk": (lambda one, asked: drip(one, OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"), "nothing came for"),
    "silent body": (lambda one, asked: (one.sendall(LONG), time.sleep(0.5)), "nothing came for 0.2 s"),
    "cut": (lambda one, asked: one.sendall(LONG + b"abc"), "the transfer broke off, 9,996 bytes before its end"),
    "junk": (lambda one, asked: one.sendall(b"\x00\xff nonsense\r\n\r\n"), "the transfer broke off"),
    "missing": (lambda one, asked: one.sendall(b"HTTP/1.1 404 Not Found\r\n" + EMPTY), "404 Not Found"),
    "busy": (lambda one, asked: one.sendall(b"HTTP/1.1 503 Busy\r\n" + EMPTY), "503 Busy"),
    "circle": (lambda one, asked: one.sendall(b"HTTP/1.1 302 F\r\nLocation: /y\r\n" + EMPTY), "infinite loop"),
    "endless headers": (lambda one, asked: one.sendall(OK + b"X-A: b\r\n" * 100_000), "more than 100 headers"),
    "endless header": (lambda one, asked: one.sendall(OK + b"X-A: " + b"b" * 10**6), "header line"),
    "elsewhere": (
        lambda one, asked: one.sendall(b"HTTP/1.1 302 F\r\nLocation: file:///etc/passwd\r\n" + EMPTY),
        "not allowed",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTS)
def test_servers_that_never_finish(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(transfer, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0.01)
    talk, said = FAULTS[kind]
    message = failure(talk)
    assert "\n" not in message
    assert said in message


def test_a_passing_failure_is_tried_again_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0.01)
    asked: list[str] = []

    def talk(one: socket.socket, request: str) -> None:
        asked.append(request.splitlines()[0])
        busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
        one.sendall(busy if len(asked) < 3 else b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with serving(talk) as address:
        assert whole(open_url(f"{address}/a%20b")) == b"ok"
    assert asked == ["GET /a%20b HTTP/1.1"] * 3


def test_what_follows_an_offset_is_asked_for() -> None:
    def partly(one: socket.socket, request: str) -> None:
        assert "Range: bytes=3-" in request
        one.sendall(b"HTTP/1.1 206 P\r\nContent-Range: bytes 3-4/5\r\nContent-Length: 2\r\n\r\nde")

    with serving(partly) as address:
        download = open_url(f"{address}/x", offset=3)
        assert (download.begins, whole(download)) == (3, b"de")
    with serving(lambda one, asked: one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde")) as address:
        download = open_url(f"{address}/x", offset=3)
        assert (download.begins, whole(download)) == (0, b"abcde")
    other = b"HTTP/1.1 206 P\r\nContent-Range: bytes 0-1/5\r\nContent-Length: 2\r\n\r\nab"
    with serving(lambda one, asked: one.sendall(other)) as address, pytest.raises(TransferError, match="another part"):
        open_url(f"{address}/x", offset=3)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "it has no http://"),
        ("server/folder", "it has no http://"),
        ("file:///etc/passwd", "it begins with file:"),
        ("ftp://server/x", "it begins with ftp:"),
        ("pipe:touch PWNED", "it begins with pipe:"),
        ("http://", "it names no server"),
        ("http:///x", "it names no server"),
        ("http://server:port/x", "Port could not be cast"),
        ("http://[::1/x", "Invalid IPv6"),
        ("http://server/a b", "blanks or control characters"),
        ("http://server/a\nb", "blanks or control characters"),
    ],
)
def test_addresses_of_no_web_server(url: str, said: str) -> None:
    with pytest.raises(TransferError, match=said):
        open_url(url)


def test_no_server_there() -> None:
    with pytest.raises(TransferError, match="refused"):
        open_url("http://127.0.0.1:1/x")
