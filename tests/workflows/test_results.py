"""What `audit` and `doctor` return: short in a notebook, a table with pandas, JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mobilenets.auditing.result import Audit
from mobilenets.checkup.results import Checkup
from mobilenets.errors import AuditError, DataError, MissingExtraError
from mobilenets.models.registry import create_model
from mobilenets.progress import Silent
from mobilenets.workflows.audit import audit
from mobilenets.workflows.doctor import doctor


@pytest.fixture(scope="module")
def audited() -> Audit:
    network = create_model("mobilenet_v1", width_mult=0.25, num_classes=10, image_size=64)
    return audit(network, image_size=64)


@pytest.fixture(params=["audit", "doctor"])
def result(request: pytest.FixtureRequest, audited: Audit, checkup: Checkup) -> Audit | Checkup:
    return audited if request.param == "audit" else checkup


def test_a_result_is_one_short_line(result: Audit | Checkup) -> None:
    assert len(repr(result)) < 200
    assert "\n" not in repr(result)


def test_a_result_is_json(result: Audit | Checkup) -> None:
    record = json.loads(json.dumps(result.to_dict()))
    assert len(record["findings"]) == len(result.findings)
    assert record["ignored"] == []


def test_a_result_is_a_table_in_a_notebook_and_a_frame(result: Audit | Checkup) -> None:
    assert result._repr_html_().count("<tr>") == len(result.findings) + 1
    pandas = pytest.importorskip("pandas")
    frame = result.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["rule"]) == [row["rule"] for row in result._rows()]


def test_names_are_escaped(audited: Audit, tmp_path: Path) -> None:
    from dataclasses import replace

    assert "<script>" not in replace(audited, target="<script>")._repr_html_()
    assert len(repr(replace(audited, target="a/" * 500))) < 200


def test_a_frame_needs_pandas(result: Audit | Checkup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match="pip install pandas"):
        result.to_frame()


def test_ignored_findings_are_set_aside(seeded: Path, checkup: Checkup) -> None:
    network = create_model("mobilenet_v1", width_mult=0.25, num_classes=10, image_size=64)
    ignoring = audit(network, image_size=64, ignore=("classes",))
    assert [one.diagnostic.rule for one in ignoring.ignored] == ["classes"]
    assert "classes" not in [one.diagnostic.rule for one in ignoring.findings]
    with pytest.raises(AuditError, match="no rule 'clases' to ignore: did you mean classes"):
        audit(network, ignore="clases")
    fewer = doctor(seeded, ignore="unreadable")
    assert fewer.count("error") == checkup.count("error") - 1
    assert [issue.kind for issue in fewer.ignored] == ["unreadable"]
    assert fewer.excluded == checkup.excluded
    with pytest.raises(DataError, match="to ignore"):
        doctor(seeded, ignore=["unreadble"])


def test_an_audit_tells_its_steps() -> None:
    told: list[tuple[str, int, int]] = []

    class Recorded(Silent):
        def update(self, what: str, done: int, total: int) -> None:
            told.append((what, done, total))

    audit(create_model("mobilenet_v1", width_mult=0.25, image_size=64), image_size=64, progress=Recorded())
    assert told == [("auditing", step, 4) for step in (1, 2, 3, 4)]
