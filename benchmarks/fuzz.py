"""Every reader of files from outside against thousands of damaged ones: `python benchmarks/fuzz.py [READER ...]`.

Of each reader's sound files, mutants are made by seeded damage (`fuzz_mutations.py`): flipped, cut, repeated and
spliced bytes, and edits that know the format. Each is read in a child process with a bound on memory and time. It must
be accepted, or refused with one of our errors; anything else is a fault: another exception, a crash of the process, or
a mutant that takes too long. Readers are rows of the table in `fuzz_readers.py`; adding one takes a function that
writes sound files and one that reads a path.

The result keeps the rows of readers not named, so that some can be run again alone. A fault is written to
`--faults DIR` as the mutant that caused it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fuzz_mutations import Mutation, mutate
from mobilenets.errors import MobilenetsError

MUTANTS = 2000
SECONDS = 10.0
"""Of one mutant; a sound file takes milliseconds."""
LOADING_SECONDS = 300.0
MEMORY_MIB = 2048
"""Of address space beside what the process has once it has read the sound files."""
RESULTS = Path(__file__).parent / "results" / "fuzz.json"


@dataclass(frozen=True)
class Reader:
    """One way files come in.

    Attributes:
        name: of the row.
        seeds: writes sound files into a folder and returns their paths.
        read: reads such a path as the product does; what it returns is thrown away.
        own: mutations that know the format.
        name_as: the mutant's file name, where it has to have one (its folder is the seed's, so that what lies beside
            the seed lies beside the mutant); by default `mutant` with the seed's suffix, in a folder of its own.
    """

    name: str
    seeds: Callable[[Path], Sequence[Path]]
    read: Callable[[Path], object]
    own: tuple[Mutation, ...] = ()
    name_as: str | None = None


@dataclass
class Outcome:
    """What became of a reader's mutants."""

    mutants: int = 0
    refused: int = 0
    accepted: int = 0
    crashed: int = 0
    hung: int = 0
    most_mib: float = 0.0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As the result has it."""
        return {**vars(self), "most_mib": round(self.most_mib), "seconds": round(self.seconds)}


class _HungError(BaseException):
    """Raised by the clock in a reader that takes too long; no reader catches it."""


def fuzz(reader: Reader, mutants: int, *, seed: int = 0, faults: Path | None = None) -> Outcome:
    """Read that many mutants in child processes; a child that dies is replaced, and its mutant counted.

    Args:
        reader: the row.
        mutants: how many.
        seed: of the damage; mutant number n is the same for the same seed.
        faults: folder that keeps mutants that crashed or hung their reader.
    """
    outcome, begun = Outcome(), time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        seeds = list(reader.seeds(folder))
        contents = [path.read_bytes() for path in seeds]
        for path in seeds:
            _must_be_sound(reader, path)
        start = 0
        while start < mutants:
            start = _in_child(reader, folder, seeds, contents, range(start, mutants), seed, outcome, faults)
    outcome.seconds = time.monotonic() - begun
    return outcome


def _must_be_sound(reader: Reader, path: Path) -> None:
    """A reader that refuses what is sound would refuse every mutant for the wrong reason. In a child: threads."""
    child = multiprocessing.get_context("fork").Process(target=_read_quietly, args=(reader, path))
    child.start()
    child.join()
    if child.exitcode != 0:
        raise SystemExit(f"{reader.name} can't read its own sound file {path.name}")


def _read_quietly(reader: Reader, path: Path) -> None:
    warnings.simplefilter("ignore")
    reader.read(path)


def _in_child(
    reader: Reader,
    folder: Path,
    seeds: Sequence[Path],
    contents: Sequence[bytes],
    numbers: range,
    seed: int,
    outcome: Outcome,
    faults: Path | None,
) -> int:
    """Read mutants until all are or the child dies; the number of the next one."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_work, args=(reader, seeds, contents, numbers, seed, theirs))
    child.start()
    theirs.close()
    done = numbers.start
    if _answer(ours, LOADING_SECONDS) is None:
        raise SystemExit(f"{reader.name} can't be started: its libraries do not load")
    while done < numbers.stop:
        # The child's own clock comes first; ours is for what no signal reaches.
        answer = _answer(ours, 3 * SECONDS)
        lost = answer is None
        if answer is None:
            hung = child.is_alive()
            child.kill()
            child.join()
            words = "hung beyond its clock" if hung else f"process died with {child.exitcode}"
            answer = ("hung" if hung else "crashed", words, 0.0)
        kind, words, mib = answer
        outcome.mutants += 1
        setattr(outcome, kind, getattr(outcome, kind) + 1)
        outcome.most_mib = max(outcome.most_mib, mib)
        if kind in ("crashed", "hung"):
            outcome.faults.append(f"{done}: {words}")
            if faults is not None:
                faults.mkdir(parents=True, exist_ok=True)
                (faults / f"{reader.name}-{done}").write_bytes(_mutant(reader, contents, done, seed)[1])
        done += 1
        if lost:
            break
    child.join()
    return done


def _answer(pipe: Connection, seconds: float) -> tuple[str, str, float] | None:
    with suppress(EOFError):
        if pipe.poll(seconds):
            return pipe.recv()  # type: ignore[no-any-return]  # what `_work` sends
    return None


def _mutant(reader: Reader, contents: Sequence[bytes], number: int, seed: int) -> tuple[int, bytes]:
    """Which seed a mutant is of, and its content."""
    random_ = random.Random(f"{reader.name} {seed} {number}")
    place = random_.randrange(len(contents))
    return place, mutate(random_, contents[place], contents, reader.own)


def _work(
    reader: Reader, seeds: Sequence[Path], contents: Sequence[bytes], numbers: range, seed: int, pipe: Connection
) -> None:
    """The child: reads mutants and reports each."""
    warnings.simplefilter("ignore")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)  # decoders write of what they find
    signal.signal(signal.SIGALRM, _ring)
    for path, content in zip(seeds, contents, strict=True):
        path.write_bytes(content)  # an earlier child may have put a mutant in its place
    reader.read(seeds[0])  # loads what it needs before memory is counted
    _bound_memory()
    pipe.send(("accepted", "ready", 0.0))
    for number in numbers:
        place, content = _mutant(reader, contents, number, seed)
        path = seeds[place].with_name(reader.name_as or f"mutant{seeds[place].suffix}")
        path.write_bytes(content)
        before = _resident(reset=True)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        kind, words = _try(reader, path)
        signal.setitimer(signal.ITIMER_REAL, 0)
        pipe.send((kind, words, max(0.0, _resident() - before)))


def _try(reader: Reader, path: Path) -> tuple[str, str]:
    try:
        reader.read(path)
    except MobilenetsError as error:
        lines = str(error).splitlines()
        return ("refused", "") if len(lines) == 1 else ("crashed", f"a message of {len(lines)} lines: {lines[:2]}")
    except _HungError:
        return "hung", f"more than {SECONDS:g} s"
    except BaseException as error:  # noqa: BLE001  # whatever it is, it is a fault
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "?"
        return "crashed", f"{type(error).__name__} at {where}: {str(error)[:120]}"
    return "accepted", ""


def _ring(number: int, frame: object) -> None:
    raise _HungError


def _bound_memory() -> None:
    used = int(_status("VmSize")) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_MIB * 2**20, resource.RLIM_INFINITY))


def _resident(*, reset: bool = False) -> float:
    """MiB of memory: the most since the last reset; now, where that is asked for."""
    if reset:
        with suppress(OSError):  # not allowed everywhere: then the peak is that of all mutants
            Path("/proc/self/clear_refs").write_text("5")
        return int(_status("VmRSS")) / 1024
    return int(_status("VmHWM")) / 1024


def _status(name: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    """Fuzz all readers, or those named, and write the result."""
    from fuzz_readers import READERS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", help="rows of the table; all by default")
    parser.add_argument("--mutants", type=int, default=MUTANTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=Path, help="keep mutants that crash or hang a reader here")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    before = json.loads(options.out.read_text()) if options.out.exists() else {"readers": {}}
    rows = before["readers"]
    for reader in READERS:
        if options.readers and reader.name not in options.readers:
            continue
        outcome = fuzz(reader, options.mutants, seed=options.seed, faults=options.faults)
        rows[reader.name] = {key: value for key, value in outcome.to_dict().items() if key != "faults"}
        print(f"{reader.name}: {rows[reader.name]}", flush=True)
        for words, count in Counter(fault.partition(": ")[2] for fault in outcome.faults).most_common():
            print(f"  {count} x {words}", flush=True)
        totals = {
            key: sum(row[key] for row in rows.values()) for key in ("mutants", "refused", "accepted", "crashed", "hung")
        }
        result = {
            "seed": options.seed,
            "seconds_allowed": SECONDS,
            "memory_allowed_mib": MEMORY_MIB,
            "total": {**totals, "most_mib": max(row["most_mib"] for row in rows.values())},
            "readers": dict(sorted(rows.items())),
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
