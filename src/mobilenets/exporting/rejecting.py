"""A file that does not answer as its network does: kept apart, with the first layer that differs named."""

from __future__ import annotations

from mobilenets.artifact.container import write_artifact
from mobilenets.errors import BackendError, ExportError
from mobilenets.exporting.describe import Subject, describe, golden_pairs
from mobilenets.exporting.first_difference import first_difference
from mobilenets.exporting.parity import TOLERANCES, describe_failure
from mobilenets.exporting.proof import Proof
from mobilenets.exporting.target import Target
from mobilenets.exporting.translators import translator
from mobilenets.exporting.watcher import Watcher

REJECTED = ".rejected"


def reject(subject: Subject, target: Target, proof: Proof, watcher: Watcher) -> str:
    """Keep a file that failed beside the place it was meant for, and say what is wrong with it."""
    questions = proof.questions
    place = target.out.with_name(f"{target.out.stem}{REJECTED}{target.out.suffix}")
    images = questions.batch(questions.golden)
    # With the network's own answers, so that whoever opens the file is told that it does not give them.
    golden = golden_pairs(images, proof.expected[questions.golden], target.precision)
    description = describe(subject, target.to, target.precision, proof.exported, golden)
    write_artifact(place, proof.exported.payload, description)
    watcher.message("the file's answers differ: looking for the first layer that does")
    failure = describe_failure(proof.parity)
    try:
        found = first_difference(
            subject.model,
            subject.preprocessing,
            images,
            kind=target.to,
            translate=translator(target.to),
            precision=target.precision,
            tolerance=TOLERANCES[target.precision],
        )
    except (ExportError, BackendError) as error:
        where = f"which layer is the first can't be told ({error})"
    else:
        where = (
            "no layer does when it is exported in part"
            if found is None
            else f"the first layer to differ is {found.layer}, by {found.parity.max_difference:.2g}"
        )
    kept = f"{target.out} is as it was" if target.out.exists() else f"nothing is written to {target.out}"
    return f"{failure}; {where}. Don't use {place}; {kept}"
