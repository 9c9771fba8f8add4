"""`test_reads.jsonl`: what a run folder remembers of who scored its network on test images, a line a reading.

Test images say how good a network is only as long as nothing was chosen by them. So each reading is written down before
the images are handed out, by every command, and nothing here takes a line away again.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from mobilenets.errors import RunError
from mobilenets.evaluation.results import LedgerEntry
from mobilenets.limits import check_json, read_text
from mobilenets.run_folder import DESCRIPTION

LEDGER = "test_reads.jsonl"
_READING = TypeAdapter(LedgerEntry)


def record_reading(
    run: Path, command: str, images: int, digest: str, *, repeats: bool = False
) -> tuple[LedgerEntry, ...]:
    """Write down that test images are about to be read, and return the earlier readings of the same data.

    Args:
        run: the run folder of the network that is scored.
        command: the verb that scores it.
        images: how many.
        digest: of the data set they are of.
        repeats: whether an earlier reading was stopped before it left scores.

    Raises:
        RunError: the ledger can't be read or written: an unrecorded reading is none.
    """
    before = readings(run)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps(asdict(LedgerEntry(now, command, images, digest, repeats))) + "\n"
    path = run / LEDGER
    try:
        torn = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
        with path.open("a", encoding="utf-8") as file:
            file.write(("\n" if torn else "") + line)
    except OSError as error:
        raise RunError(
            f"{path} can't be written ({error.strerror or error}), so that this reading of the test images would go "
            "unrecorded; make the folder writable, or score a copy of it"
        ) from error
    return tuple(reading for reading in before if reading.digest == digest)


def record_for(run: object, command: str, images: int, digest: str) -> None:
    """Record a reading where the network is that of a run folder; one in memory or of a weight file has no ledger.

    Raises:
        RunError: as `record_reading`.
    """
    folder = ledger_folder(run)
    if folder is not None:
        record_reading(folder, command, images, digest)


def ledger_folder(run: object) -> Path | None:
    """The run folder whose ledger records readings; None for a network in memory or of a weight file."""
    if isinstance(run, str | Path) and (Path(run) / DESCRIPTION).is_file():
        return Path(run)
    return None


def readings(run: Path) -> tuple[LedgerEntry, ...]:
    """All readings recorded in a run folder, the first first; none where nothing was.

    Raises:
        RunError: the ledger can't be read, or a line of it is damaged. A torn last line (a process killed while
            writing) is left out: its images were not handed out yet.
    """
    path = run / LEDGER
    try:
        lines = read_text(path).split("\n")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}, which says when test images were read, can't be read: {error}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            if line:
                found.append(_READING.validate_json(check_json(line)))
        except ValueError as error:  # also pydantic's ValidationError
            if number < len(lines) and not _torn(line):
                raise RunError(f"{path}, line {number} is damaged: fix it, or remove the line") from error
    return tuple(found)


def _torn(line: str) -> bool:
    """Whether a line is only the beginning of one."""
    return line.startswith("{") and not line.endswith("}")
