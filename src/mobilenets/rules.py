"""Registered rules: what `audit` and `doctor` look for, each with an id, a severity, its source, effect and fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Generic, TypeVar

from mobilenets.errors import MobilenetsError

CLOSE_NAMES = 3


@dataclass(frozen=True)
class Rule:
    """One thing that is looked for.

    Attributes:
        id: short stable name, e.g. `expansion-kept`; `--ignore` takes it.
        severity: of its findings, where nothing else is said: `error`, `warning` or `note`.
        summary: what it looks for.
        source: paper and table, or the code or document that sets the convention.
        effect: why it matters.
        fix: what to do.
    """

    id: str
    severity: str
    summary: str
    source: str
    effect: str
    fix: str


AnyRule = TypeVar("AnyRule", bound=Rule)


class RuleRegistry(Generic[AnyRule]):
    """The rules of one verb, in the order of their registration."""

    def __init__(self, verb: str, error: type[MobilenetsError]) -> None:
        self.verb = verb
        self._error = error
        self._rules: dict[str, AnyRule] = {}

    def register(self, rule: AnyRule) -> None:
        """Add a rule.

        Raises:
            ValueError: its id is taken, or one of its fields is empty.
        """
        if rule.id in self._rules:
            raise ValueError(f"rule {rule.id!r} is registered twice")
        empty = [field.name for field in fields(rule) if getattr(rule, field.name) == ""]
        if empty:
            raise ValueError(f"rule {rule.id!r} has no {', '.join(empty)}")
        self._rules[rule.id] = rule

    def __getitem__(self, name: str) -> AnyRule:
        return self._rules[name]

    def __iter__(self) -> Iterator[AnyRule]:
        return iter(self._rules.values())

    def __len__(self) -> int:
        return len(self._rules)

    def ignored(self, names: str | Iterable[str]) -> frozenset[str]:
        """The ids that findings are ignored by; text is one or several with commas between.

        Raises:
            MobilenetsError: one is no rule's id; the message lists the nearest.
        """
        given = names.split(",") if isinstance(names, str) else list(names)
        wanted = [name.strip() for name in given if name.strip()]
        for name in wanted:
            if name not in self._rules:
                near = difflib.get_close_matches(name, self._rules, n=CLOSE_NAMES)
                hint = f"did you mean {' or '.join(near)}? " if near else ""
                raise self._error(
                    f"there is no rule {name!r} to ignore: {hint}mobilenets {self.verb} --list-rules lists them"
                )
        return frozenset(wanted)
