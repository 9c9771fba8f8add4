from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mobilenets.cli.audit import AuditOptions, audit, main
from mobilenets.errors import AuditError, MobilenetsError

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from conftest import Run

# A user's file: V2 of another library, its first block with the expansion it should not have.
NETWORK = """
from torch import nn
from torchvision.models import mobilenet_v2

print("loading my network")


def my_net(num_classes=1000):
    network = mobilenet_v2(num_classes=num_classes)
    kept = nn.Sequential(nn.Conv2d(32, 32, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6())
    network.features[1].conv.insert(0, kept)
    return network
"""


@pytest.fixture
def network(tmp_path: Path) -> str:
    (tmp_path / "my_net.py").write_text(NETWORK, encoding="utf-8")
    return f"{tmp_path / 'my_net.py'}:my_net"


def test_the_command_finds_the_mistake_and_exits_1(run: Run, network: str) -> None:
    done = run("audit", "my_net.py:my_net")
    assert done.returncode == 1, done.stderr
    line = "+1,088 parameters = 32x32 weights + 64 of batch norm: the 1x1 expansion kept at t=1, 32 -> 32 channels"
    assert line in done.stdout.splitlines()
    assert "Traceback" not in done.stderr


def test_json_is_json_whatever_the_users_code_prints(call: Run, network: str) -> None:
    done = call("audit", "my_net.py:my_net", "--args", '{"num_classes": 10}', "--image-size", "96", "--json")
    assert done.returncode == 1, done.stderr
    record = json.loads(done.stdout)
    assert record["num_classes"] == 10
    assert record["image_size"] == 96
    assert [finding["rule"] for finding in record["findings"]] == ["expansion-kept", "classes"]


def test_a_correct_network_exits_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(AuditOptions("torchvision.models:mobilenet_v2")) == 0
    assert "no errors" in capsys.readouterr().out


def test_bad_input_is_one_line_and_exits_2(call: Run) -> None:
    done = call("audit", "nothing.py:Net")
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


def test_arguments_must_be_a_json_object() -> None:
    with pytest.raises(MobilenetsError, match="--args is no JSON"):
        main(["torchvision.models:mobilenet_v2", "--args", "{num_classes: 10}"])
    with pytest.raises(MobilenetsError, match="must be a JSON object"):
        main(["torchvision.models:mobilenet_v2", "--args", "[10]"])
    with pytest.raises(AuditError, match="widht"):
        main(["torchvision.models:mobilenet_v2", "--args", '{"widht": 1}', "--expect", "mobilenet_v2"])


def test_help_shows_every_option_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for part in ("--args", "--expect", "--width-mult", "--image-size", "--json", "expansion-kept"):
        assert part in text


def test_the_rules_are_listed_without_a_target(call: Run) -> None:
    listed = call("audit", "--list-rules")
    assert listed.returncode == 0, listed.stderr
    assert "  expansion-kept " in listed.stdout
    records = json.loads(call("audit", "--list-rules", "--json").stdout)
    assert {"id", "severity", "summary", "source", "effect", "fix", "group"} == set(records[0])
    missing = call("audit")
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert "TARGET" in missing.stderr


def test_ignored_rules_are_no_errors_and_are_counted(call: Run, network: str) -> None:
    command = ("audit", "my_net.py:my_net", "--image-size", "96", "--ignore", "expansion-kept")
    done = call(*command)
    assert done.returncode == 0, done.stderr
    assert "1 finding ignored: expansion-kept" in done.stdout
    assert "no errors beside those ignored" in done.stdout
    record = json.loads(
        call("audit", "my_net.py:my_net", "--image-size", "96", "--ignore", "expansion-kept", "--json").stdout
    )
    assert (record["errors"], [finding["rule"] for finding in record["ignored"]]) == (0, ["expansion-kept"])


def test_an_unknown_rule_to_ignore_is_one_line(call: Run, network: str) -> None:
    done = call("audit", "my_net.py:my_net", "--ignore", "expansion-keep")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean expansion-kept" in done.stderr
    assert len(done.stderr.splitlines()) <= 2
