"""The folder that answers to very many images are written to, part by part, so that a killed job can go on.

| file             | holds                                                                              |
| ---------------- | ---------------------------------------------------------------------------------- |
| `manifest.json`  | what is asked of which images: the same job has the same                           |
| `part-N.jsonl`   | the answers of part N (or `.csv`), whole as soon as it is there                    |
| `finished.jsonl` | a line a finished part: digest of its files, how many were answered, its bad files |
| `bad.jsonl`      | all bad files with the reasons, once all is done                                   |

No PyTorch here.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mobilenets.errors import RunError, other_format
from mobilenets.files import only_writer, write_atomically, write_bytes_atomically, write_text_atomically
from mobilenets.limits import MAX_JSON_BYTES, parse_json, read_json

BAD: Final = "bad.jsonl"
_MANIFEST: Final = "manifest.json"
_FINISHED: Final = "finished.jsonl"


@dataclass(frozen=True)
class FinishedPart:
    """A part whose answers are on disk.

    Attributes:
        part: its number.
        digest: that of its files' names.
        answered: how many files were answered.
        bytes: size of its answers.
        bad: name and reason of the files that can't be read, in order.
    """

    part: int
    digest: str
    answered: int
    bytes: int
    bad: Sequence[Sequence[str]]

    @property
    def files(self) -> int:
        """How many files it has."""
        return self.answered + len(self.bad)


@dataclass
class AnswerFolder:
    """Such a folder, held by this process alone; made by `open_answer_folder`.

    Attributes:
        path: the folder.
        suffix: of the files with answers, `csv` or `jsonl`.
        finished: number of each finished part, and the digest of its files.
        answered: images answered so far.
        bad: files that can't be read so far.
    """

    path: Path
    suffix: str
    finished: dict[int, str] = field(default_factory=dict)
    answered: int = 0
    bad: int = 0

    def part_path(self, number: int) -> Path:
        """Where a part's answers are."""
        return self.path / f"part-{number:05d}.{self.suffix}"

    def add(self, part: FinishedPart, answers: bytes) -> None:
        """Write a part's answers, then note that it is finished: killed between the two, it is answered again.

        Raises:
            RunError: it can't be written.
        """
        write_bytes_atomically(self.part_path(part.part), answers)
        try:
            with (self.path / _FINISHED).open("a", encoding="utf-8") as journal:
                journal.write(_line(vars(part)))
                journal.flush()
                os.fsync(journal.fileno())
        except OSError as error:
            raise RunError(f"{self.path / _FINISHED}: can't be written ({error.strerror or error})") from error
        self._count(part)

    def conclude(self) -> None:
        """Put the notes into the order of the parts, and all bad files into one list.

        Raises:
            RunError: it can't be written.
        """
        write_atomically(self.path / BAD, self._write_bad)
        write_atomically(self.path / _FINISHED, self._write_sorted)

    def restore(self) -> None:
        """Read which parts are finished; notes of parts whose answers are gone or torn are left out.

        Raises:
            RunError: the notes can't be read.
        """
        journal = self.path / _FINISHED
        if not journal.exists():
            return
        _cut_torn_line(journal)
        for _, part in _notes(journal):
            path = self.part_path(part.part)
            if part.part not in self.finished and path.is_file() and path.stat().st_size == part.bytes:
                self._count(part)

    def _count(self, part: FinishedPart) -> None:
        self.finished[part.part] = part.digest
        self.answered += part.answered
        self.bad += len(part.bad)

    def _in_order(self) -> Iterator[FinishedPart]:
        """The finished parts by number; of the notes only their places are in memory."""
        journal = self.path / _FINISHED
        if not journal.exists():
            return
        places = {part.part: place for place, part in _notes(journal)}  # a part noted twice: the later holds
        with journal.open("rb") as file:
            for number in sorted(places):
                file.seek(places[number])
                yield _finished_part(file.readline(MAX_JSON_BYTES))

    def _write_bad(self, path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="\n") as file:
            for part in self._in_order():
                file.writelines(_line({"file": name, "reason": reason}) for name, reason in part.bad)

    def _write_sorted(self, path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(_line(vars(part)) for part in self._in_order())


@contextmanager
def open_answer_folder(path: Path, manifest: Mapping[str, Any], suffix: str) -> Iterator[AnswerFolder]:
    """Take a folder for one job: begin, or go on where the same job was broken off.

    Args:
        path: the folder; made where it is missing.
        manifest: all that decides the answers, as JSON can hold it.
        suffix: `csv` or `jsonl`.

    Raises:
        RunError: another process has it, another job is in it (the message names the difference), something else is in
            it, or it can't be written.
    """
    with only_writer(path):
        _check_manifest(path, manifest)
        folder = AnswerFolder(path, suffix)
        folder.restore()
        yield folder


def _check_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    file = path / _MANIFEST
    if not file.exists():
        strange = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
        if strange:
            raise RunError(f"{path} holds something else ({strange[0]}); choose a new or empty folder")
        write_text_atomically(file, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
        return
    try:
        before = read_json(file)
        if before.get("format") != manifest.get("format"):
            found, known = before.get("format"), manifest.get("format", 0)
            raise RunError(f"{file} {other_format(found, known, 'start again in another folder')}")
        differences = [
            f"{name} was {_short(before.get(name))}, now {_short(value)}"
            for name, value in manifest.items()
            if before.get(name) != value
        ]
    except (OSError, ValueError, AttributeError) as error:
        raise RunError(f"{file} is damaged; start again in another folder") from error
    if differences:
        raise RunError(f"{path} is of another job: {'; '.join(differences)}. Choose another folder")


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _line(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False) + "\n"


def _notes(journal: Path) -> Iterator[tuple[int, FinishedPart]]:
    """Each note with its place in the file."""
    place = 0
    with journal.open("rb") as file:
        while line := file.readline(MAX_JSON_BYTES):
            try:
                yield place, _finished_part(line)
            except ValueError as error:
                raise RunError(f"{journal} is damaged; start again in another folder") from error
            place += len(line)


def _finished_part(line: bytes) -> FinishedPart:
    """A note as `AnswerFolder.add` writes it; raises ValueError for any other, as nothing is to go by a damaged one."""
    value = parse_json(line)
    fields = value if isinstance(value, dict) else {}
    numbers = [fields.get(name) for name in ("part", "answered", "bytes")]
    bad = fields.get("bad")
    whole = (
        set(fields) == set(FinishedPart.__dataclass_fields__)
        and all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers)
        and isinstance(fields["digest"], str)
        and isinstance(bad, list)
        and all(isinstance(pair, list) and len(pair) == 2 and set(map(type, pair)) == {str} for pair in bad)
    )
    if not whole:
        raise ValueError("no note of a finished part")
    return FinishedPart(**fields)


def _cut_torn_line(journal: Path) -> None:
    """Take away what a killed process, or a full disk, left of a last line."""
    with journal.open("rb+") as file:
        end = file.seek(0, io.SEEK_END)
        whole = end
        while whole > 0:
            file.seek(whole - 1)
            if file.read(1) == b"\n":
                break
            whole -= 1
        if whole != end:
            file.truncate(whole)
