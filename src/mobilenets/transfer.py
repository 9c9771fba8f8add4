"""Reading from web servers, none of which is waited for without end; no PyTorch here.

A server may take a connection and stay silent, send a byte now and then for ever, break off, lead in circles, or lead
away from the web. Each ends in one `TransferError` that says so.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from functools import partial
from typing import IO, Any, Final

from mobilenets.errors import first_line

IDLE_SECONDS: Final = 30.0
"""The longest wait for the next byte."""
ANSWER_SECONDS: Final = 60.0
"""The longest wait for an answer to begin: all redirects and headers."""
LEAST_BYTES_A_SECOND: Final = 1024
"""A server slower than this, over `ANSWER_SECONDS` of waiting for it, is given up: so a file's size bounds its time."""
ATTEMPTS: Final = 3
PAUSE_SECONDS: Final = 1.0
"""Before the second attempt; twice as long before each further one."""

_MAX_REDIRECTS: Final = 5
_PASSING: Final = frozenset({408, 429, 500, 502, 503, 504})
"""Answers that another attempt may better."""
_CHUNK: Final = 2**20


class TransferError(OSError):
    """Nothing, or no more, comes from an address; `strerror` says why.

    Attributes:
        absent: whether the server answers that there is nothing (4xx).
        passing: whether another attempt may succeed.
    """

    def __init__(self, reason: str, *, absent: bool = False, passing: bool = False) -> None:
        super().__init__(0, reason)
        self.absent = absent
        self.passing = passing

    def __str__(self) -> str:
        return str(self.strerror)


def url_fault(url: str) -> str | None:
    """What keeps an address from being one of a web server; None where nothing does."""
    try:
        parts = urllib.parse.urlsplit(url)
        parts.port  # noqa: B018  # raises ValueError for a port that is not one
    except ValueError as error:
        return str(error)
    if parts.scheme not in ("http", "https"):
        return f"it begins with {parts.scheme}:, not http:// or https://" if parts.scheme else "it has no http://"
    if not parts.hostname:
        return "it names no server"
    if any(letter.isspace() or not letter.isprintable() for letter in url):
        return "it holds blanks or control characters"
    return None


class Download:
    """The body of an answer, a context manager and as much of a file as readers of streams need.

    Attributes:
        size: bytes it has in all, None where the server does not say.
        begins: which byte of the file it begins with: that asked for, or 0 where the server knows no parts.
        headers: of the answer.
    """

    def __init__(self, response: http.client.HTTPResponse, watch: _Watch) -> None:
        self._response = response
        self._watch = watch
        self._left = _whole_number(response.headers.get("Content-Length")) if not response.chunked else None
        self._waited = 0.0
        self._got = 0
        self.headers: Message = response.headers
        self.size = self._left
        self.begins = 0

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def read(self, size: int = _CHUNK) -> bytes:
        """Return at most `size` bytes, as soon as there are some; none at the end.

        Raises:
            TransferError: nothing came for too long, the server is too slow, or breaks off.
        """
        begun = time.monotonic()
        with _translated():
            # A part's length is read byte by byte, each of which may take its time.
            if self._response.chunked:
                with self._watch.limited(IDLE_SECONDS):
                    content = self._response.read1(size)
            else:
                content = self._response.read1(size)
        self._waited += time.monotonic() - begun
        self._got += len(content)
        if self._left is not None:
            self._left -= len(content)
            if not content and size and self._left > 0:
                raise TransferError(f"the transfer broke off, {self._left:,} bytes before its end", passing=True)
        if self._waited > ANSWER_SECONDS and self._got < LEAST_BYTES_A_SECOND * self._waited:
            raise TransferError(f"the server is too slow: {self._got:,} bytes in {self._waited:.0f} s")
        return content

    def close(self) -> None:
        """Break the connection off."""
        with suppress(OSError):
            self._response.close()


def open_url(url: str, *, offset: int = 0, method: str = "GET", follow: bool = True) -> Download:
    """Ask a web server, at most `ATTEMPTS` times.

    Args:
        url: `http://...` or `https://...`; letters an address can't have are escaped.
        offset: ask for what follows this byte; see `Download.begins` for what is given.
        method: `GET` or `HEAD`.
        follow: follow redirects; else the answer that redirects is returned.

    Raises:
        TransferError: there is nothing, or no answer within the limits above.
    """
    if fault := url_fault(url):
        raise TransferError(f"no address of a web server: {fault}")
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
        try:
            return _asked(url, offset, method, follow=follow)
        except TransferError as error:
            if not error.passing or attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("an attempt returns or raises")


def _asked(url: str, offset: int, method: str, *, follow: bool) -> Download:
    headers = {"User-Agent": "mobilenets"} | ({"Range": f"bytes={offset}-"} if offset else {})
    request = urllib.request.Request(
        urllib.parse.quote(url, safe="%/:=&?~#+!$,;'@()*[]"), method=method, headers=headers
    )
    watch = _Watch()
    redirects = _Redirects() if follow else _Stay()
    opener = urllib.request.build_opener(_Http(watch), _Https(watch), redirects)
    response: http.client.HTTPResponse | None = None
    try:
        with _translated(), watch.limited(ANSWER_SECONDS):
            response = _answer(opener, request, follow=follow)
    except TransferError:
        if response is not None:  # its time was up at the last moment
            response.close()
        raise
    download = Download(response, watch)
    if offset and response.status == 206:
        stated = response.headers.get("Content-Range", "")
        if not stated.startswith(f"bytes {offset}-"):
            download.close()
            raise TransferError(f"the server answers with another part than asked for ({stated[:60] or 'unnamed'})")
        download.begins = offset
    return download


def _answer(
    opener: urllib.request.OpenerDirector, request: urllib.request.Request, *, follow: bool
) -> http.client.HTTPResponse:
    """The answer, its headers read; without following, one that redirects too, which urllib takes for an error."""
    try:
        response: http.client.HTTPResponse = opener.open(request, timeout=IDLE_SECONDS)
    except urllib.error.HTTPError as error:
        if not follow and error.code < 400 and isinstance(error.fp, http.client.HTTPResponse):
            return error.fp
        error.close()  # it holds the server's answer open
        raise
    return response


class _Watch:
    """Knows the connection in use, and breaks it off when its time is up."""

    def __init__(self) -> None:
        self.connection: socket.socket | None = None

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        rung = threading.Event()

        def ring() -> None:
            rung.set()
            if self.connection is not None:
                with suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(seconds, ring)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            if rung.is_set():
                raise TimeoutError from error
            raise
        finally:
            timer.cancel()
        if rung.is_set():
            raise TimeoutError


class _HttpConnection(http.client.HTTPConnection):
    def __init__(self, watch: _Watch, host: str, **options: Any) -> None:
        super().__init__(host, **options)
        self._watch = watch

    def connect(self) -> None:
        super().connect()
        self._watch.connection = self.sock


class _HttpsConnection(_HttpConnection, http.client.HTTPSConnection):
    """The same over TLS, whose socket is the one watched."""


class _Http(urllib.request.HTTPHandler):
    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._watch = watch

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_HttpConnection, self._watch), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._watch = watch

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_HttpsConnection, self._watch), req)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, to web servers only and never from an encrypted connection to a plain one."""

    max_redirections = _MAX_REDIRECTS

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if fault := url_fault(newurl):
            raise TransferError(f"it leads to no web server: {fault}")
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise TransferError("it leads from https to http")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


@contextmanager
def _translated() -> Iterator[None]:
    """What urllib and the sockets raise, as a TransferError."""
    try:
        yield
    except TransferError:
        raise
    except urllib.error.HTTPError as error:
        reason = f"{error.code} {error.reason}".splitlines()[0]
        absent, passing = 400 <= error.code < 500, error.code in _PASSING
        raise TransferError(reason, absent=absent and not passing, passing=passing) from error
    except TimeoutError as error:
        raise TransferError(f"nothing came for {IDLE_SECONDS:g} s", passing=True) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise TransferError(f"nothing came for {IDLE_SECONDS:g} s", passing=True) from error
        if isinstance(error.reason, TransferError):
            raise error.reason from error
        raise TransferError(str(getattr(error.reason, "strerror", None) or error.reason)) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or first_line(error))
        raise TransferError(f"the transfer broke off: {reason}", passing=True) from error


def _whole_number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 19 else None
