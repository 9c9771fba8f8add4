"""Registered rules and checks: what `audit` and `doctor` look for, and the functions that do."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from enum import StrEnum
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
Function = TypeVar("Function", bound=Callable[..., object])


@dataclass(frozen=True)
class Check(Generic[Function]):
    """A function that reports findings of some rules.

    Attributes:
        function: the check.
        group: what it is about.
        reads: kinds of input without which it has nothing to report; empty: it always runs.
        rules: ids of the rules it reports.
    """

    function: Function
    group: StrEnum
    reads: tuple[str, ...]
    rules: tuple[str, ...]


class RuleRegistry(Generic[AnyRule, Function]):
    """The rules of one verb and the checks that report them.

    A rule is declared above the function that checks it. Rules that one function tells apart stand above it together;
    a rule that several functions report is declared at one of them, and the others name it in `reports`.
    """

    def __init__(self, verb: str, groups: type[StrEnum], error: type[MobilenetsError]) -> None:
        self.verb = verb
        self._groups = list(groups)
        self._error = error
        self._rules: dict[str, AnyRule] = {}
        self._checks: list[Check[Function]] = []
        self._declared: dict[Function, list[str]] = {}

    def declare(self, rule: AnyRule) -> Callable[[Function], Function]:
        """A decorator that says of a function that it reports this rule.

        Raises:
            ValueError: the id is taken, or one of the rule's fields is empty.
        """
        if rule.id in self._rules:
            raise ValueError(f"rule {rule.id!r} is registered twice")
        empty = [field.name for field in fields(rule) if getattr(rule, field.name) == ""]
        if empty:
            raise ValueError(f"rule {rule.id!r} has no {', '.join(empty)}")
        self._rules[rule.id] = rule

        def decorate(function: Function) -> Function:
            # Decorators apply from below; rules are listed as they are read.
            self._declared.setdefault(function, []).insert(0, rule.id)
            return function

        return decorate

    def check(
        self, group: StrEnum, *, reads: tuple[str, ...] = (), reports: tuple[str, ...] = ()
    ) -> Callable[[Function], Function]:
        """A decorator that registers a function as a check.

        Args:
            group: what it is about; groups run in their order, the checks of one in that of files' names and lines.
            reads: kinds of input without which it has nothing to report; empty: it always runs.
            reports: rules it reports that are declared at other checks.
        """

        def decorate(function: Function) -> Function:
            self._checks.append(Check(function, group, reads, (*self._declared.get(function, ()), *reports)))
            return function

        return decorate

    def checks(self) -> list[Check[Function]]:
        """All checks in the order in which they run."""
        return sorted(self._checks, key=lambda one: self._groups.index(one.group))

    def groups(self) -> Iterator[tuple[StrEnum, list[AnyRule]]]:
        """The rules of each group that has some, each rule once, at the check it is declared at."""
        for group in self._groups:
            checks = [one for one in self.checks() if one.group is group]
            names = [name for one in checks for name in self._declared.get(one.function, ())]
            if names:
                yield group, [self._rules[name] for name in names]

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
                    f"there is no rule {name!r} to ignore: {hint}'mobilenets {self.verb} --list-rules' lists all"
                )
        return frozenset(wanted)
