"""The registry: every rule is complete, runs in order, has a test file, and is silent on the published networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mobilenets.auditing.rules import findings
from mobilenets.auditing.rules.context import Diagnostic, RuleContext
from mobilenets.auditing.rules.registry import ERROR, NOTE, RULES, Aspect, rule
from mobilenets.auditing.structure.variants import VARIANTS, catalogue
from mobilenets.errors import AuditError

if TYPE_CHECKING:
    from conftest import Bench

HERE = Path(__file__).parent


def nothing(context: RuleContext) -> list[Diagnostic]:
    return []


def test_an_id_is_registered_once() -> None:
    with pytest.raises(ValueError, match="rule 'expansion-kept' is registered twice"):
        rule("expansion-kept", ERROR, "again", source="a", effect="b", fix="c")(nothing)


def test_a_rule_says_everything() -> None:
    with pytest.raises(ValueError, match="rule 'half' has no source, fix"):
        rule("half", NOTE, "a rule", source="", effect="b", fix="")(nothing)
    assert "half" not in [one.id for one in RULES]


def test_every_rule_belongs_to_a_check_and_every_check_to_known_rules() -> None:
    checked = {name for check in RULES.checks() for name in check.rules}
    assert checked == {one.id for one in RULES}
    grouped = [one.id for _, rules in RULES.groups() for one in rules]
    assert sorted(grouped) == sorted(checked)


def test_checks_run_by_aspect() -> None:
    order = list(Aspect)
    places = [order.index(check.group) for check in RULES.checks()]
    assert places == sorted(places)


def test_every_file_with_rules_is_imported() -> None:
    folder = Path(findings.__file__).parent
    with_rules = {path.stem for path in folder.glob("*.py") if "\n@check(" in path.read_text(encoding="utf-8")}
    assert with_rules == {module.__name__.rpartition(".")[2] for module in findings.MODULES}


@pytest.mark.parametrize(
    "check", RULES.checks(), ids=lambda check: f"{check.function.__module__}.{check.function.__name__}"
)
def test_every_rule_is_reported_in_a_test_of_its_files_name(check) -> None:  # type: ignore[no-untyped-def]
    tests = HERE / f"test_{check.function.__module__.rpartition('.')[2]}.py"
    text = tests.read_text(encoding="utf-8")
    assert [name for name in check.rules if f'"{name}"' not in text] == []


@pytest.mark.parametrize("name", [name for name in catalogue() if name not in VARIANTS])
def test_no_rule_reports_anything_of_a_published_network(bench: Bench, name: str) -> None:
    verdict = bench.apply(bench.chain(name))
    assert verdict.findings == ()


def test_ignored_rules_are_read_from_text_and_from_names() -> None:
    assert RULES.ignored("classes, expansion-kept,") == {"classes", "expansion-kept"}
    assert RULES.ignored(["classes"]) == {"classes"}
    assert RULES.ignored(()) == frozenset()


def test_an_unknown_rule_is_one_line_with_the_nearest() -> None:
    with pytest.raises(AuditError, match="no rule 'expansion-keep' to ignore: did you mean expansion-kept") as raised:
        RULES.ignored("expansion-keep")
    assert "\n" not in str(raised.value)
