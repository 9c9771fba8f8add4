"""The command `mobilenets`: finds the verb, reads its options, runs it, and turns errors into one line.

Exit codes: 0 good, 1 a fault was found (a loss that diverged, a file whose answers differ), 2 bad input, 130 stopped by
Ctrl-C, 143 by SIGTERM, 129 by SIGHUP. Only the verb asked for is imported, so help comes at once.
"""

from __future__ import annotations

import difflib
import importlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from mobilenets.cli.streams import drop_output, prepare_streams, warn
from mobilenets.errors import BadImagesError, MissingExtraError, MobilenetsError, in_command

# By default these signals end a process at once, and whatever a `with` block was to remove stays on the disk. Training
# handles SIGTERM itself, since it has a state to save first.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: what cleans up after Ctrl-C cleans up after this too.

    Attributes:
        signal: the signal's number.
        exit_code: what shells give a process which that signal ended, e.g. 143 for SIGTERM.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number
        self.exit_code = 128 + number


@contextmanager
def orderly_termination() -> Iterator[None]:
    """Raise `Terminated` in the block when SIGTERM or SIGHUP comes; another one does not disturb the cleaning up.

    A signal that is ignored, as `nohup` has SIGHUP, or that the program handles stays so. Outside the main thread,
    where Python can't handle signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [number for number in _SIGNALS if signal.getsignal(number) is signal.SIG_DFL]

    def end(number: int, frame: FrameType | None) -> None:
        for one in ours:
            signal.signal(one, signal.SIG_IGN)
        raise Terminated(number)

    try:
        for number in ours:
            signal.signal(number, end)
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


VERBS = {
    "compare": "train networks on your images, measure them, recommend one",
    "train": "train one network into a run folder",
    "doctor": "what is wrong with your images, before training on them",
    "evaluate": "score a trained network or an exported file on images",
    "summary": "layers, parameters, multiply-adds and memory of a network, module, file or run",
    "export": "write a trained network as one verified file: ONNX, OpenVINO, LiteRT, ExecuTorch",
    "quantize": "8-bit files that keep the accuracy, or a refusal",
    "deploy": "all of it: the fastest file for this machine whose accuracy holds",
    "predict": "classify images with an exported file, without PyTorch",
    "shard": "many images into WebDataset shards, which training streams",
    "benchmark": "latency, throughput and memory of exported files on this machine",
    "audit": "where any MobileNet, a module or a file, differs from the published one",
    "models": "every published variant: what sources print, what is true, and why they differ",
}

HELP = f"""usage: mobilenets VERB [OPTIONS]

Small image classifiers of the MobileNet family, built exactly as published.

verbs:
{chr(10).join(f"  {verb:<10} {what}" for verb, what in VERBS.items())}

options:
  -h, --help  this text; 'mobilenets help VERB' for a verb's options
  --version   the version

example:
  mobilenets compare --data digits --models mobilenet_v2,mobilenet_v3_small --recipe quick --out first-report
"""

EXTRAS = {
    "ai_edge_litert": "litert",
    "ai_edge_quantizer": "export",
    "braceexpand": "cluster",
    "executorch": "executorch",
    "filelock": "cluster",
    "nncf": "export",
    "onnx": "export",
    "onnxscript": "export",
    "openvino": "openvino",
    "ray": "cluster",
    "tflite": "train",
    "webdataset": "cluster",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    prepare_streams()
    try:
        with orderly_termination():
            return _run(argv)
    except MobilenetsError as error:
        if error.told:
            return error.exit_code
        warn(f"mobilenets: {in_command(str(error))}")
        for image in error.rest if isinstance(error, BadImagesError) else ():
            warn(f"  {image}")
        return error.exit_code
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # the reader of our output, such as `head`, has left
            drop_output()
            return 0
        # What was not foreseen of disks and permissions: the system's own words are clear enough.
        warn(f"mobilenets: {error.filename or 'system'}: {error.strerror or error}")
        if error.filename is None:  # what may be standard output itself, on a full disk
            drop_output()
        return 2
    except MemoryError:
        warn("mobilenets: out of memory; try a smaller batch_size, --image-size or --width-mult")
        return 1
    except Terminated as stopped:
        warn("mobilenets: stopped")
        return stopped.exit_code
    except KeyboardInterrupt:
        warn("mobilenets: stopped")
        return 130


def _run(argv: list[str]) -> int:
    if len(argv) > 1 and argv[0] == "help" and not argv[1].startswith("-"):
        argv = [argv[1], "--help"]
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if argv[0] == "--version":
        from mobilenets import __version__

        print(__version__)
        return 0
    verb = argv[0]
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"verbs are {', '.join(VERBS)}"
        raise MobilenetsError(f"no verb {verb}; {hint}")
    try:
        module = importlib.import_module(f"mobilenets.cli.{verb}")
        code = int(module.main(argv[1:]))
        sys.stdout.flush()  # here, where a reader that has gone is understood
        return code
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "mobilenets"):
            raise
        from mobilenets.install import install_line

        extra = EXTRAS.get(package, "train")
        raise MissingExtraError(f"{verb} needs {package}: {install_line(extra)}") from error
