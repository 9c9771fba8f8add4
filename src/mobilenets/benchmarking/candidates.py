"""Every way to run the given files here: file x installed runtime x arithmetic x threads, and the peers asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Self

from mobilenets.arguments import check_threads
from mobilenets.artifact.container import Artifact, read_artifact
from mobilenets.benchmarking.peers import RUNTIME_OF_SUFFIX
from mobilenets.errors import ArtifactError, BackendError, MissingExtraError
from mobilenets.install import install_line
from mobilenets.limits import parse_json
from mobilenets.machine import usable_cores
from mobilenets.runtime.backend import BACKENDS, RuntimeOption, choices, open_backend

# One thing to be measured: a file, the runtime that answers from it, the arithmetic and the threads.


Source = Literal["artifact", "file", "pytorch"]

RUNTIME_WORDS = {
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "litert": "LiteRT",
    "executorch": "ExecuTorch",
    "pytorch": "PyTorch eager",
}


@dataclass(frozen=True)
class BenchmarkCandidate:
    """What a worker process is told to open. Plain values only, since it travels as JSON.

    Attributes:
        label: names it in every table and message.
        source: `artifact` runs through `mobilenets.runtime`; `file` opens a model file with the runtime's own
            defaults; `pytorch` builds the network with random weights.
        path: the artifact or model file; empty for `pytorch`.
        backend: a key of `RUNTIME_WORDS`.
        precision: arithmetic; empty for the runtime's own choice.
        threads: threads, and cores, it may use.
        default_threads: leave the runtime's own number of threads alone (only of `file`, when it may use every core).
        peer: whether it is what the others are compared against.
        network: name and width for people.
        arguments: `create_model`'s arguments as JSON, of a `pytorch` network.
    """

    label: str
    source: Source
    path: str
    backend: str
    precision: str
    threads: int
    default_threads: bool = False
    peer: bool = False
    network: str = ""
    arguments: str = ""

    def to_json(self) -> str:
        """Return all fields as JSON; `from_json` is the way back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        return cls(**parse_json(text))

    @property
    def file_bytes(self) -> int | None:
        """Bytes of the file or folder on disk, with the weights OpenVINO keeps in a neighbour; None without a file."""
        if not self.path:
            return None
        path = Path(self.path)
        files = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
        if path.is_dir():
            files = list(path.iterdir())
        return sum(file.stat().st_size for file in files if file.is_file())


def label(name: str, backend: str, precision: str, threads: int) -> str:
    """Say file, runtime, arithmetic and threads: `v2.onnx, OpenVINO bf16, 2 threads`."""
    runtime = f"{RUNTIME_WORDS.get(backend, backend)} {precision}".strip()
    return ", ".join(part for part in (name, runtime, thread_words(threads)) if part)


def thread_words(threads: int) -> str:
    """Write a number of threads: `1 thread`."""
    return f"{threads} thread{'' if threads == 1 else 's'}"


def network_words(network: Mapping[str, Any]) -> str:
    """Name a network by what decides its speed: `mobilenet_v2 x0.5 224 px`."""
    width = f" x{network['width_mult']:g}" if "width_mult" in network else ""
    size = f" {network['image_size']} px" if "image_size" in network else ""
    return f"{network.get('name', '')}{width}{size}".strip()


def distinct_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """Name each path by its last parts, as many as are needed to tell all of them apart."""
    longest = max((len(path.parts) for path in paths), default=0)
    for count in range(1, longest + 1):
        names = tuple("/".join(path.parts[-count:]) for path in paths)
        if len(set(names)) == len(names):
            return names
    return tuple(map(str, paths))


PEERS = ("pytorch", "onnxruntime", "openvino")
DEFAULTS = "with its defaults"
"""How a label names a runtime that opens a model file with its own settings."""


@dataclass(frozen=True)
class Wanted:
    """What to restrict the candidates to; empty means everything there is here.

    Attributes:
        backends: names of `runtime.backend.BACKENDS`.
        precisions: `fp32`, `bf16`, `fp16`, `int8`.
        threads: numbers of threads; by default 1 and every usable core.
    """

    backends: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    threads: tuple[int, ...] = ()

    @property
    def thread_counts(self) -> tuple[int, ...]:
        """The numbers of threads, each once.

        Raises:
            BackendError: one is impossible.
        """
        for count in self.threads:
            check_threads(count)
        return tuple(dict.fromkeys(self.threads or (1, usable_cores())))


def find_candidates(
    artifacts: Sequence[Artifact], wanted: Wanted, against: Sequence[str] = ()
) -> tuple[BenchmarkCandidate, ...]:
    """List every way to run the artifacts that is wanted and installed; named apart from peers' files too.

    Raises:
        BackendError: a backend or precision that none of the artifacts runs in; the message lists those there are.
        MissingExtraError: a backend asked for that is not installed.
    """
    _require_backends(artifacts, wanted.backends)
    found = []
    names = _names(artifacts, against)
    offered: set[str] = set()
    for artifact in artifacts:
        name = names[artifact.path]
        able = [one for one in choices(artifact) if not wanted.backends or one.backend in wanted.backends]
        offered |= {one.precision for one in able}
        chosen = [one for one in able if not wanted.precisions or one.precision in wanted.precisions]
        found += [_candidate(artifact, name, choice, threads) for choice in chosen for threads in wanted.thread_counts]
    for precision in wanted.precisions:
        if precision not in offered:
            raise BackendError(f"none of these files runs in {precision} here; they run in {_listed(offered)}")
    if not found:
        paths = ", ".join(str(artifact.path) for artifact in artifacts)
        raise BackendError(f"{paths}: nothing installed here runs it; see 'mobilenets predict --help' for the extras")
    return tuple(found)


def find_peers(
    against: Sequence[str], artifacts: Sequence[Artifact], thread_counts: Sequence[int]
) -> tuple[BenchmarkCandidate, ...]:
    """List what the artifacts are compared against.

    Args:
        against: `pytorch` (the same networks in PyTorch eager), `onnxruntime` or `openvino` (the artifacts' model
            files opened with that runtime's defaults), an artifact, or any `.onnx`, `.xml` or `.tflite`.
        artifacts: what is measured.
        thread_counts: each peer is measured with each.

    Raises:
        BackendError: a peer that is neither, or a runtime that reads none of the artifacts.
        MissingExtraError: the peer's runtime is not installed.
    """
    makers: list[Callable[[int], BenchmarkCandidate]] = []
    names = _names(artifacts, against)
    for peer in dict.fromkeys(name if name in PEERS else Path(name) for name in against):
        if isinstance(peer, Path):
            makers.append(_peer_file(peer, names[peer]))
        elif peer == "pytorch":
            makers += _pytorch_peers(artifacts)
        else:
            makers += _default_peers(peer, artifacts, names)
    return tuple(make(threads) for make in makers for threads in thread_counts)


def distinctly_labelled(candidates: Iterable[BenchmarkCandidate]) -> tuple[BenchmarkCandidate, ...]:
    """Number those whose label another has already: rows, ratios and processes are found by it."""
    found: dict[str, BenchmarkCandidate] = {}
    for one in candidates:
        name, number = one.label, 1
        while name in found:
            number += 1
            name = f"{one.label} ({number})"
        found[name] = replace(one, label=name)
    return tuple(found.values())


def _names(artifacts: Sequence[Artifact], against: Sequence[str]) -> dict[Path, str]:
    """A name of its own for every file, the artifacts' and the peers'."""
    peers = (Path(name) for name in against if name not in PEERS)
    paths = list(dict.fromkeys([*(artifact.path for artifact in artifacts), *peers]))
    return dict(zip(paths, distinct_names(paths), strict=True))


def _candidate(
    artifact: Artifact, name: str, choice: RuntimeOption, threads: int, *, peer: bool = False
) -> BenchmarkCandidate:
    return BenchmarkCandidate(
        label=label(name, choice.backend, choice.precision, threads) + (" (peer)" if peer else ""),
        source="artifact",
        path=str(artifact.path),
        backend=choice.backend,
        precision=choice.precision,
        threads=threads,
        peer=peer,
        network=network_words(artifact.description.network),
    )


def _pytorch_peers(artifacts: Sequence[Artifact]) -> list[Callable[[int], BenchmarkCandidate]]:
    if find_spec("torch") is None:
        raise MissingExtraError(f"`against=pytorch` needs torch: {install_line('train')}")
    networks = {json.dumps(dict(one.description.network), sort_keys=True): one for one in artifacts}

    def maker(arguments: str, artifact: Artifact) -> Callable[[int], BenchmarkCandidate]:
        network = network_words(artifact.description.network)
        return lambda threads: BenchmarkCandidate(
            label=label(network if len(networks) > 1 else "", "pytorch", "", threads),
            source="pytorch",
            path="",
            backend="pytorch",
            precision="fp32",
            threads=threads,
            peer=True,
            network=network,
            arguments=arguments,
        )

    return [maker(arguments, artifact) for arguments, artifact in networks.items()]


def _default_peers(
    backend: str, artifacts: Sequence[Artifact], names: Mapping[Path, str]
) -> list[Callable[[int], BenchmarkCandidate]]:
    kinds = {"onnxruntime": ("onnx",), "openvino": ("onnx", "openvino")}[backend]
    able = [artifact for artifact in artifacts if artifact.description.kind in kinds]
    if not able:
        raise BackendError(
            f"`against={backend}` needs an artifact it reads ({' or '.join(kinds)}) among those measured"
        )
    return [
        _with_defaults(artifact.model_path, names[artifact.path], backend, network_words(artifact.description.network))
        for artifact in able
    ]


def _peer_file(path: Path, name: str) -> Callable[[int], BenchmarkCandidate]:
    try:
        artifact = read_artifact(path)
    except ArtifactError as error:
        backend = RUNTIME_OF_SUFFIX.get(path.suffix.lower())
        if not path.is_file() or backend is None:
            raise BackendError(
                f"`against` {path}: a peer is {', '.join(PEERS)}, an artifact, or a file of the kinds "
                f"{', '.join(RUNTIME_OF_SUFFIX)} ({error})"
            ) from error
        return _with_defaults(path, name, backend, "")
    able = choices(artifact)
    if not able:
        open_backend(artifact)  # says which extra is missing
        raise BackendError(f"`against` {path}: nothing installed here runs it")
    return lambda threads: _candidate(artifact, name, able[0], threads, peer=True)


def _with_defaults(path: Path, name: str, backend: str, network: str) -> Callable[[int], BenchmarkCandidate]:
    return lambda threads: BenchmarkCandidate(
        label=label(name, backend, DEFAULTS, threads),
        source="file",
        path=str(path),
        backend=backend,
        precision="",
        threads=threads,
        default_threads=threads == usable_cores(),
        peer=True,
        network=network,
    )


def _require_backends(artifacts: Sequence[Artifact], backends: Sequence[str]) -> None:
    for backend in backends:
        if backend not in BACKENDS:
            raise BackendError(f"no backend {backend}; there are {', '.join(BACKENDS)}")
        if not any(backend == choice.backend for artifact in artifacts for choice in choices(artifact)):
            open_backend(artifacts[0], backend=backend)  # says what is missing: an extra, or a file of its kind
            raise BackendError(f"{RUNTIME_WORDS[backend]} runs none of these files")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
