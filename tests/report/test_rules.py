"""The lists of rules, and the reference pages that are generated from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mobilenets.report.rules import PAGES, audit_groups, doctor_groups, rules_json, rules_page, rules_text

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("verb", "name"), list(zip(("audit", "doctor"), PAGES, strict=True)))
def test_the_committed_page_is_the_generated_one(verb: str, name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == rules_page(verb), "run: python -m mobilenets.report.rules docs"


@pytest.mark.parametrize("groups", [audit_groups(), doctor_groups()], ids=["audit", "doctor"])
def test_text_and_json_have_every_rule_once(groups) -> None:  # type: ignore[no-untyped-def]
    names = [rule.id for group in groups for rule in group.rules]
    assert len(set(names)) == len(names)
    records = json.loads(rules_json(groups))
    assert [record["id"] for record in records] == names
    assert all(all(record.values()) for record in records)
    lines = rules_text(groups).splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "] == names
    assert max(map(len, lines)) <= 118
