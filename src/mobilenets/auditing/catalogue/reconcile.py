"""Why a published figure is not the network's: other ways of counting are tried until one gives it, digit for digit.

Nothing here knows what any source did. Each reading is a count that is computed from the network; it explains a figure
when it rounds to the digits printed. Several may: then the one that gives most of the same source's figures for a
family of networks wins, since a source counts in one way, and of these the simplest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal

from mobilenets.auditing.catalogue.figures import PrintedFigure
from mobilenets.auditing.catalogue.readings import AGREES, Reading

UNEXPLAINED = "unexplained"
PAIR_DIGITS = 3
"""A figure of fewer digits fits too many pairs of readings by chance."""


@dataclass(frozen=True)
class Verdict:
    """What is said about one published figure.

    Attributes:
        printed: the figure with its unit.
        key: `agrees`, `unexplained`, or that of the reading that gives it.
        short: for tables: empty when it agrees.
        reason: a clause that explains it, or says how far off an unexplained one is.
        count: what the reading gives; None when unexplained.
        explains: of the source's figures for this family of networks, how many the reading gives.
        of: how many there are.
    """

    printed: str
    key: str
    short: str
    reason: str
    count: int | None
    explains: int
    of: int

    @property
    def agrees(self) -> bool:
        """The network has what was printed."""
        return self.key == AGREES

    def to_dict(self) -> dict[str, str | int | None]:
        """The fields, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Claim:
    """A published figure and all readings of its network, the plain count first.

    `hint` is the key of the reading that gives the same row's other figure: a network with a wider head has its
    parameters and its multiply-adds.
    """

    printed: PrintedFigure
    readings: tuple[Reading, ...]
    hint: str = ""


def reconcile(claims: Sequence[Claim]) -> tuple[Verdict, ...]:
    """A verdict for each claim, in order; all must be of one source, one family of networks and one quantity."""
    distinct = list({_identity(claim): claim for claim in claims}.values())
    given = {
        key: sum(
            any(reading.key == key and reading.gives(claim.printed) for reading in claim.readings) for claim in distinct
        )
        for key in {reading.key for claim in claims for reading in claim.readings}
    }
    return tuple(_verdict(claim, given, len(distinct)) for claim in claims)


def _identity(claim: Claim) -> tuple[str, int]:
    """The same figure of the same network counts once: parameters are printed again for every image size."""
    return str(claim.printed), claim.readings[0].count


def _verdict(claim: Claim, given: Mapping[str, int], of: int) -> Verdict:
    printed, plain = claim.printed, claim.readings[0]
    if plain.gives(printed):
        return Verdict(str(printed), AGREES, "", "agrees", plain.count, given[plain.key], of)
    fits = [
        reading
        for reading in claim.readings[1:]
        if reading.gives(printed) and ("+" not in reading.key or printed.digits >= PAIR_DIGITS)
    ]
    if not fits:
        return _unexplained(claim, of)
    # The first of equals is the simplest.
    best = max(fits, key=lambda reading: (reading.key == claim.hint, given[reading.key]))
    return Verdict(str(printed), best.key, best.short, best.reason, best.count, given[best.key], of)


def _unexplained(claim: Claim, of: int) -> Verdict:
    printed, plain = claim.printed, claim.readings[0]
    reason = f"{_deviation(printed, plain)} from the network's {plain.count:,}"
    nearest = min(claim.readings, key=lambda reading: _distance(printed, reading))
    if 2 * _distance(printed, nearest) < _distance(printed, plain):
        reason += f"; nearest is {nearest.count:,}, {nearest.reason}, {_deviation(printed, nearest)} from it"
    if _one_digit_differs(printed, plain.count):
        reason += "; a single digit differs, so it may be a misprint"
    short = f"unexplained, {_deviation(printed, plain)}"
    return Verdict(str(printed), UNEXPLAINED, short, reason, None, 0, of)


def _distance(printed: PrintedFigure, reading: Reading) -> float:
    return abs(float(printed.value) / reading.count - 1)


def _deviation(printed: PrintedFigure, reading: Reading) -> str:
    return f"{float(printed.value) / reading.count - 1:+.1%}".replace("%", " %")


def _one_digit_differs(printed: PrintedFigure, count: int) -> bool:
    """Whether the count at the printed precision has the same digits but one; a figure of two says nothing so."""
    mine = str((Decimal(count) / printed.step).quantize(Decimal(1)))
    theirs = str((printed.value / printed.step).quantize(Decimal(1)))
    if printed.digits < PAIR_DIGITS or len(mine) != len(theirs):
        return False
    return sum(one != other for one, other in zip(mine, theirs, strict=True)) == 1
