from __future__ import annotations

import json
import re

import pytest

from mobilenets.cli.models import main
from mobilenets.errors import ModelError

from .conftest import Run


def test_the_tables_and_their_sources_are_printed(call: Run) -> None:
    done = call("models", "v1", COLUMNS="120")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith("Published MobileNets")
    assert re.search(r"↓ 1 +224 +4,231,976 +568\.74 M +TF-slim +4\.24 M a +569 M ✓ +70\.9 \(89\.9\)", done.stdout)
    assert "/02c04f49a188ba9a515100a3375a6359f3fffef1/research/slim/nets/mobilenet_v1.md\n" in done.stdout
    assert "mobilenet_v2" not in done.stdout.split("Sources:")[0].replace("mobilenetv2", "")


def test_json_is_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mobilenet_v4", "--json"]) == 0
    captured = capsys.readouterr()
    records = json.loads(captured.out)
    assert captured.err == ""
    assert {record["network"] for record in records} == {
        "mobilenet_v4_conv_small",
        "mobilenet_v4_conv_medium",
        "mobilenet_v4_conv_large",
        "mobilenet_v4_hybrid_medium",
        "mobilenet_v4_hybrid_large",
    }
    assert all(record["parameters"] and record["macs"] for record in records)


def test_a_typo_suggests() -> None:
    with pytest.raises(ModelError, match="did you mean mobilenet_v2"):
        main(["mobilnet_v2"])
