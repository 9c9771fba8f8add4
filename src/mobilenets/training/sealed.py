"""Test images under seal: decoded early, so that an unreadable one is known early, but handed out for scoring only."""

from __future__ import annotations

from pathlib import Path

from mobilenets.data.loader import PreparedImages
from mobilenets.errors import BadImage, RunError
from mobilenets.evaluation.ledger import record_reading
from mobilenets.models.saved import DESCRIPTION, WEIGHTS


class SealedImages:
    """Images that nothing may be chosen by. All that can be known of them before scoring is how many there are.

    Args:
        images: the test images.
        digest: of the data set they are of.
    """

    def __init__(self, images: PreparedImages, digest: str) -> None:
        self._images = images
        self._digest = digest
        self._until: str | None = None

    def __len__(self) -> int:
        return len(self._images)

    @property
    def skipped(self) -> tuple[BadImage, ...]:
        """The images that could not be read and were left out on request."""
        return self._images.skipped

    def keep_until(self, what: str | None) -> None:
        """Refuse to be opened until something has happened, e.g. `a network is chosen`; None ends that."""
        self._until = what

    def open(self, run: Path, command: str, *, repeats: bool = False) -> PreparedImages:
        """Hand the images out to score the network in a run folder, and write that down there.

        Args:
            run: its folder.
            command: the verb that scores it.
            repeats: whether an earlier reading was stopped before it left scores.

        Raises:
            RunError: training has not ended, something has yet to happen first, or the reading can't be recorded.
        """
        if self._until is not None:
            raise RunError(f"the test images are sealed until {self._until}: nothing may be chosen by them")
        missing = [name for name in (WEIGHTS, DESCRIPTION) if not (run / name).exists()]
        if missing:
            raise RunError(
                f"the test images are sealed until training has ended: {run} has no {missing[0]}; "
                "continue it with `resume=True`"
            )
        record_reading(run, command, len(self), self._digest, repeats=repeats)
        return self._images

    def seen(self) -> PreparedImages:
        """The images of runs that have been scored, to show which they got wrong; this is no new reading.

        Raises:
            RunError: something has yet to happen first.
        """
        if self._until is not None:
            raise RunError(f"the test images are sealed until {self._until}: nothing may be chosen by them")
        return self._images
