from __future__ import annotations

import json
from pathlib import Path

import pytest

from mobilenets.cli.summary import main
from mobilenets.errors import MobilenetsError, ModelError

GOLDEN = Path(__file__).parents[1] / "golden"


def test_the_text_is_the_golden_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Written by `mobilenets summary mobilenet_v2 --image-size 32 --num-classes 10`; read changes before keeping."""
    assert main(["mobilenet_v2", "--image-size", "32", "--num-classes", "10"]) == 0
    captured = capsys.readouterr()
    assert captured.out == (GOLDEN / "summary_mobilenet_v2_32.txt").read_text(encoding="utf-8")
    assert captured.err == ""


def test_json_holds_the_arguments_layers_and_totals(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mobilenet_v3_small", "--width-mult", "0.75", "--in-channels", "1", "--dropout", "0.1", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["model"] == {
        "name": "mobilenet_v3_small",
        "num_classes": 1000,
        "width_mult": 0.75,
        "image_size": 224,
        "dropout": 0.1,
        "in_channels": 1,
        "padding": "symmetric",
        "norm_eps": 1e-3,
        "fixed_stem": False,
    }
    assert record["input_shape"] == [1, 1, 224, 224]
    assert record["parameters"] == 2_041_872 - 2 * 9 * 16  # one channel instead of three in the stem
    for column in ("parameters", "macs", "activation_bytes"):
        assert sum(layer[column] for layer in record["layers"]) == record[column]
    assert record["standard_macs"] > record["macs"]


def test_a_wrong_name_or_value_is_one_clear_error() -> None:
    with pytest.raises(ModelError, match="did you mean mobilenet_v2"):
        main(["mobilenet-v2"])
    with pytest.raises(ModelError, match="image_size is 4"):
        main(["mobilenet_v2", "--image-size", "4"])
    with pytest.raises(MobilenetsError, match="width"):
        main(["mobilenet_v2", "--widht-mult", "1"])


def test_help_shows_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    network = ("--width-mult", "--image-size", "--num-classes", "--in-channels", "--dropout")
    for option in (*network, "--args", "--no-run", "--json"):
        assert option in text
