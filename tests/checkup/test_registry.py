"""Every check of the doctor is registered, complete, and found in a test on images with that fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobilenets.checkup import checks
from mobilenets.checkup.registry import RULES, rule
from mobilenets.errors import DataError

TESTS = Path(__file__).parents[1]


def test_an_id_is_registered_once() -> None:
    with pytest.raises(ValueError, match="rule 'duplicates' is registered twice"):
        rule("duplicates", "note", "again", source="a", effect="b", fix="c")


def test_every_file_with_checks_is_imported() -> None:
    folder = Path(checks.__file__).parent
    with_rules = {path.stem for path in folder.glob("*.py") if "\n@check(" in path.read_text(encoding="utf-8")}
    assert with_rules == {module.__name__.rpartition(".")[2] for module in checks.MODULES}


def test_every_rule_is_found_in_a_test() -> None:
    files = ("workflows/test_doctor.py", "data/test_bit_depth.py", "data/test_archives.py", "checkup/test_images.py")
    text = "".join((TESTS / name).read_text(encoding="utf-8") for name in files)
    assert [one.id for one in RULES if f'"{one.id}"' not in text] == []


def test_an_unknown_rule_is_one_line_with_the_nearest() -> None:
    with pytest.raises(DataError, match="no rule 'tiny-clas' to ignore: did you mean tiny-class"):
        RULES.ignored(["tiny-clas"])
