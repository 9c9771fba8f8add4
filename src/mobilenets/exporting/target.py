"""Where an exported file is to stand and what as, looked at before anything long is begun."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mobilenets.arguments import check_threads
from mobilenets.artifact.container import DOCUMENT, check_suffix
from mobilenets.errors import RunError
from mobilenets.exporting.translators import Translate, translator
from mobilenets.files import check_writable


@dataclass(frozen=True)
class Target:
    """Where to, and as what: the format, its precision, the place, and threads for the runtime."""

    to: str
    precision: str
    out: Path
    threads: int | None = None

    def check(self) -> Translate:
        """Refuse what can't be, before anything long is begun; returns the translator.

        Raises:
            MobilenetsError: there is no such format or precision, or an impossible number of threads.
            ArtifactError: the name of `out` is of another format.
            RunError: nothing can be written there, or something else than an artifact would be overwritten.
            MissingExtraError: the translator needs what is not installed.
        """
        check_threads(self.threads)
        translate = translator(self.to, self.precision)
        check_suffix(self.out, self.to)
        check_place(self.out, folder=self.to == "openvino")
        return translate


def check_place(out: Path, *, folder: bool) -> None:
    """Refuse a place without a name of its own, that can't be written, or where something else would be overwritten.

    Raises:
        RunError: the message says what is there.
    """
    if folder and out.name in ("", ".."):
        raise RunError(f"{out} is no name: OpenVINO's artifact is a folder of its own: give its name, e.g. model")
    check_writable(out, folder=folder)
    if out.is_dir() and any(out.iterdir()) and not (out / DOCUMENT).is_file():
        raise RunError(f"{out} holds other files, and OpenVINO's artifact is a folder of its own: choose a new one")
