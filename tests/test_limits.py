"""What is out of bounds is refused before it is parsed, opened or allocated."""

from __future__ import annotations

import math
import os
import socket
from pathlib import Path

import pytest

from mobilenets import limits
from mobilenets.cli.main import main
from mobilenets.errors import ModelError, RecipeError
from mobilenets.models.registry import create_model
from mobilenets.training.recipe import load_recipe


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "more than 64 levels"),
        ('{"a":' * 100_000, "more than 64 levels"),
        ("[" * 65 + "]" * 65, "more than 64 levels"),
        ("9" * 5000, "an integer of 5,000 digits"),
        (str(2**64), "an integer of 20 digits"),
        ("[NaN]", "NaN, which is no finite number"),
        ("-Infinity", "-Infinity, which is no finite number"),
        ("1e999", "1e999, which is no finite number"),
        (r'"\ud800"', "half a letter"),
        (b"\xff", "can't decode byte"),
        ("{", "Expecting property name"),
        ("", "it is empty"),
        ('"' + r"\"" * 100_000, "Unterminated string"),
    ],
    ids=range(13),
)
def test_json_nothing_here_can_use_is_refused(text: str | bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        limits.parse_json(text)
    with pytest.raises(ValueError, match=said):
        limits.check_json(text)


def test_json_within_the_bounds_is_what_python_reads() -> None:
    assert limits.parse_json('[1, -2.5, "\\ud83d\\ude00", null, {"a": [true]}]') == [1, -2.5, "😀", None, {"a": [True]}]
    assert limits.parse_json(f'["{"[" * 200}", "\\"{"{" * 200}"]') == ["[" * 200, '"' + "{" * 200]
    assert limits.parse_json("[" * 64 + "]" * 64) is not None
    assert math.isnan(limits.parse_json("[NaN, 1e999]", finite=False)[0])
    assert limits.check_json(b'{"a": 1}') == b'{"a": 1}'
    with pytest.raises(ValueError, match="11 bytes, more than the 10 allowed"):
        limits.parse_json('"123456789"', most=10)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = " + "[" * 60_000, "more than 64 levels"),
        ("a = " + "{b = " * 10_000, "more than 64 levels"),
        ("a" + ".a" * 30_000 + " = 1", "more than 64 levels"),
        ("[a" + ".'a'" * 15_000 + "]", "more than 64 levels"),
        ("a = " + "9" * 5000, "an integer of thousands of digits"),
        ("a = 0x" + "f" * 5000, "an integer of 20,000 bits"),
        ("a = " + str(2**64), "an integer of 65 bits"),
        ("#" * 70_000, "70,000 letters, more than the 65,536 allowed"),
        ("a = ", "Invalid value"),
        ("", "it is empty"),
    ],
    ids=range(10),
)
def test_toml_nothing_here_can_use_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        limits.parse_toml(text)


def test_brackets_and_dots_in_toml_that_are_no_levels_are_read() -> None:
    numbers = ", ".join(["1.5"] * 300)
    text = f"# {'[' * 200}\na = [{numbers}]\nb = '{'[.' * 100}'\nc = '''{'[' * 100}'''\nd = \"\"\"{'.[' * 100}\"\"\"\n"
    table = limits.parse_toml(text)
    assert table["a"] == [1.5] * 300
    assert [len(table[name]) for name in "bcd"] == [200, 100, 200]


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        for path, said in (
            (pipe, "it is a pipe"),
            (tmp_path / "link", "it is a pipe"),
            (Path("/dev/zero"), "it is a device"),
            (tmp_path / "s", "it is a socket"),
            (tmp_path, "it is a folder"),
        ):
            for read in (limits.open_regular, limits.read_bytes, limits.read_json, limits.require_regular):
                with pytest.raises(OSError, match=said) as caught:
                    read(path)  # type: ignore[operator]
                assert str(caught.value.strerror).startswith(said)


def test_files_are_read_up_to_their_bound(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"\xef\xbb\xbf1\r\n2\n")
    assert limits.read_text(path, encoding="utf-8-sig") == "1\n2\n"
    assert limits.read_bytes(str(path), most=8) == path.read_bytes()
    limits.require_regular(path, most=8)
    for read in (limits.read_bytes, limits.read_text, limits.require_regular):
        with pytest.raises(OSError, match="it has 8 bytes, more than the 7 allowed"):
            read(path, most=7)  # type: ignore[operator]
    with pytest.raises(OSError, match="more than the 1,000 allowed"):  # of which the system says it is empty
        limits.read_bytes("/proc/self/smaps", most=1000)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, True, "1", None, 10**5000], ids=range(7))
def test_seeds_no_generator_takes(seed: object) -> None:
    fault = limits.check_seed(seed)
    assert fault is not None
    assert "whole number from 0 to 2**63 - 1" in fault
    assert len(fault) < 120


def test_seeds_every_generator_takes() -> None:
    assert [limits.check_seed(seed) for seed in (0, 1, 2**63 - 1)] == [None] * 3


@pytest.mark.parametrize("verb", ["quantize", "deploy"])
def test_every_verb_refuses_such_a_seed_in_one_line(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [verb, str(tmp_path / "run"), "--data", "digits", "--out", str(tmp_path / "out"), "--seed", "-1"]
    assert main(arguments) == 2
    complaint = capsys.readouterr().err
    assert "seed is -1: it must be a whole number from 0" in complaint
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_classes", 10**9),
        ("in_channels", 10**9),
        ("image_size", 10**9),
        ("width_mult", 1e9),
        ("num_classes", 10**5000),
    ],
    ids=range(5),
)
def test_a_network_beyond_all_reason_is_not_built(field: str, value: float) -> None:
    with pytest.raises(ModelError, match=field):
        create_model("mobilenet_v1", **{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("field", "value"), [("crop_padding", 10**9), ("batch_size", 10**9), ("epochs", 10**18)])
def test_a_recipe_beyond_all_reason_is_refused(field: str, value: int) -> None:
    with pytest.raises(RecipeError, match=f"recipe field {field} is {value}; it must be from"):
        load_recipe("quick", **{field: value})
