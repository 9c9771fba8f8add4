"""The process's standard streams, made so that no verb can fail on them and no name can steer a terminal by them.

They may be closed (`>&-`, a service without a terminal), or have an encoding that lacks what the tool prints (a pipe
on Windows, `PYTHONIOENCODING`, `LC_ALL=C`). Every verb prints for people by `say`, `warn` and `console`, which escape
control characters: file and class names may hold any.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import TYPE_CHECKING, Final

from mobilenets.formatting import one_line, several_lines

if TYPE_CHECKING:
    from rich.console import Console

_ERRORS: Final = "mobilenets.plain"
_PLAIN: Final = {
    **dict.fromkeys("─–−", "-"),
    **dict.fromkeys("│├└╰╯", "|"),
    **dict.fromkeys("█▉▊▋▌▍▎▏", "#"),
    **{"×": "x", "★": "*", "✓": "x", "·": ".", "…": "...", "²": "2", "±": "+-", "↓": "v", "→": "->"},
}
"""What is printed of our own signs where the encoding lacks them."""


def prepare_streams() -> None:
    """Open the standard streams that are closed, and let all of them write any text.

    A closed one becomes the null device. It has to be something: the first file opened would get its number, and what
    a native library prints would end up in that file.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if _is_closed(number):
            _occupy(number, mode)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    codecs.register_error(_ERRORS, _plainly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook's or a test's own stand-in takes any text
            stream.reconfigure(errors=_ERRORS)


def say(text: str) -> None:
    """Print lines for people on standard output."""
    print(several_lines(text))


def warn(text: str) -> None:
    """Print one line for people on standard error."""
    print(one_line(text), file=sys.stderr)


def console(*, stderr: bool = False, width: int | None = None) -> Console:
    """Return rich's console for tables and progress, which reads no markup in text and escapes control characters."""
    from mobilenets.cli.progress import PlainConsole

    return PlainConsole(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)


def drop_output() -> None:
    """Send what is still to be written to the null device: its reader has gone or its disk is full.

    Python's own flush at exit must not complain either.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False


def _occupy(number: int, mode: str) -> None:
    nowhere = os.open(os.devnull, os.O_RDONLY if mode == "r" else os.O_WRONLY)
    if nowhere != number:  # the lowest free number is given out, which a closed stdin may take before stdout
        os.dup2(nowhere, number)
        os.close(nowhere)
    os.set_inheritable(number, True)


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """What is written in place of characters that the encoding lacks: a plain sign for ours, an escape for others."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_PLAIN.get(sign) or _escaped(sign) for sign in missing), error.end


def _escaped(sign: str) -> str:
    return sign.encode("ascii", "backslashreplace").decode("ascii")
