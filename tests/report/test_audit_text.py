from __future__ import annotations

from dataclasses import replace

import pytest

from mobilenets.auditing.result import Audit
from mobilenets.auditing.rules.findings import account, apply_rules
from mobilenets.auditing.structure.cost import chain_cost
from mobilenets.auditing.structure.layers import Chain, ChainLayer
from mobilenets.auditing.structure.nearest import compare
from mobilenets.auditing.structure.published import reference
from mobilenets.report.audit import audit_text, one_line


def audited(found: Chain, **arguments: object) -> Audit:
    comparison = compare(found, **arguments)  # type: ignore[arg-type]
    findings, parameters, macs = account(comparison, apply_rules(comparison))
    return Audit("net.py:Net", "torch.export", comparison, findings, parameters, macs, ("read with hooks",))


@pytest.fixture(scope="module")
def article() -> Audit:
    """V2 with the 1x1 expansion kept in its first block, a shift in strides besides and 32-pixel probabilities."""
    chain = reference("mobilenet_v2").chain
    stem, filter_, *others = (replace(layer, path=f"net.{index}") for index, layer in enumerate(chain.layers))
    kept = ChainLayer(32, norms=stem.norms, activation="relu6", path="net.kept")
    found = replace(chain, layers=(stem, kept, filter_, *others), dropout=0.5)
    costs = chain_cost(found)
    return audited(replace(found, parameters=costs.parameters, macs=costs.macs))


def test_what_it_is_stands_first(article: Audit) -> None:
    lines = audit_text(article).splitlines()
    assert lines[0] == "net.py:Net (torch.export)"
    assert lines[1].startswith("mobilenet_v2, width 1, 1,000 classes, 224 pixels, ImageNet strides (confidence ")


def test_totals_errors_and_notes(article: Audit) -> None:
    text = audit_text(article)
    for part in (
        "3,505,960",
        "3,504,872",
        "+1,088",
        "313.62 M",
        "+12.85 M",
        "1 error\n",
        "error: expansion-kept",
        "where     net.kept",
        "1 note\n",
        "dropout: rate 0.5 (published: rate 0.2)",
        "seen: read with hooks",
    ):
        assert part in text


def test_the_1088_parameters_are_one_line(article: Audit) -> None:
    line = "+1,088 parameters = 32x32 weights + 64 of batch norm: the 1x1 expansion kept at t=1, 32 -> 32 channels"
    assert one_line(article.errors[0]) == line
    assert line in audit_text(article).splitlines()


def test_the_closing_table_adds_up(article: Audit) -> None:
    lines = audit_text(article).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("what adds up"))
    rows = []
    for line in lines[start + 1 :]:
        *_, parameters, macs = line.split()
        rows.append((int(parameters.replace(",", "")), int(macs.replace(",", ""))))
        if line.startswith("found"):
            break
    for column in (0, 1):
        assert sum(row[column] for row in rows[:-1]) == rows[-1][column]


def test_no_line_is_wider_than_a_terminal_of_120(article: Audit) -> None:
    assert max(map(len, audit_text(article).splitlines())) <= 120


def test_many_places_are_counted_not_listed() -> None:
    chain = reference("mobilenet_v2").chain
    layers = tuple(
        replace(layer, path=f"f.{index}", activation="relu" if layer.activation == "relu6" else layer.activation)
        for index, layer in enumerate(chain.layers)
    )
    text = audit_text(audited(replace(chain, layers=layers), expect="mobilenet_v2", width_mult=1.0))
    assert "where     f.0, f.1, f.3 and 32 more" in text
    assert "costs     nothing: parameters and multiply-adds stay the same" in text
    assert "(the one expected)" in text
    assert "what adds up" not in text


def test_a_clean_bill_says_so() -> None:
    text = audit_text(audited(reference("mobilenet_v3_small").chain))
    assert "no errors" in text
    assert "error:" not in text


def test_the_record_holds_everything_and_adds_up(article: Audit) -> None:
    record = article.to_dict()
    assert record["reference"]["name"] == "mobilenet_v2"
    assert record["difference"] == {"parameters": 1_088, "macs": 32 * 32 * 112**2}
    for column in ("parameters", "macs"):
        explained = sum(finding[column] for finding in record["findings"]) + record["unexplained"][column]
        assert explained == record["difference"][column]
    kept = next(finding for finding in record["findings"] if finding["rule"] == "expansion-kept")
    assert kept["where"] == ["net.kept"]
    assert kept["severity"] == "error"
    assert kept["differences"][0]["found"]["grouping"] == "dense"
    assert record["errors"] == 1


def test_places_that_need_commas_are_parted_and_bare_numbers_explained(article: Audit) -> None:
    def where(*places: str) -> str:
        finding = article.errors[0]
        moved = replace(finding, diagnostic=replace(finding.diagnostic, where=places))
        return next(line for line in audit_text(replace(article, findings=(moved,))).splitlines() if "where" in line)

    assert where("block 7, spatial", "block 7, project").endswith("  block 7, spatial; block 7, project")
    assert where("33", "45").endswith("  layers 33, 45 of the nn.Sequential")
    assert where("f.0", "f.3").endswith("  f.0, f.3")
    assert where().endswith("  the whole network")


def test_small_changes_keep_their_figures() -> None:
    text = audit_text(audited(reference("mobilenet_v2", num_classes=1001).chain))
    assert "+1,281 parameters = +1,280 weights + 1 biases; +1,280 multiply-adds" in " ".join(text.split())
    assert "+0.00 M" not in text


def test_another_network_is_one_error() -> None:
    plain = tuple(ChainLayer(64, kernel=3, activation="relu", bias=True) for _ in range(20))
    text = audit_text(audited(replace(reference("mobilenet_v1").chain, layers=(*plain, ChainLayer(1000, pooled=True)))))
    assert "not a MobileNet V1 to V4: the nearest is mobilenet_v1, width 2, with 2 of 46 layers of the same" in text
    assert "name the network it should be with --expect" in text
    for meaningless in ("what adds up", "error", "costs", "sure:"):
        assert meaningless not in text


def test_features_alone_are_said_to_be_that() -> None:
    chain = reference("mobilenet_v2").chain
    features = audited(replace(chain, layers=chain.layers[:-1]))
    assert ", features only, " in audit_text(features)
    assert features.to_dict()["num_classes"] is None
    assert [finding.diagnostic.rule for finding in features.findings] == ["no-classifier"]
    assert not features.errors
