from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mobilenets.cli.main import VERBS
from mobilenets.install import install_line

from .conftest import Run

pytestmark = pytest.mark.slow

TRAIN = ("train", "mobilenet_v2", "--data", "digits", "--out", "x")


def test_help_names_every_verb_and_an_example(run: Run) -> None:
    for arguments in ((), ("--help",), ("-h",)):
        done = run(*arguments)
        assert done.returncode == 0
        assert all(verb in done.stdout for verb in VERBS)
        assert "example:" in done.stdout


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\nfrom mobilenets.cli.main import main\nmain(['--help'])\n"
        "heavy = {'torch', 'numpy', 'PIL', 'onnxruntime', 'tyro', 'rich', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_every_verbs_help_has_an_example_and_loads_no_pytorch(verb: str) -> None:
    program = (
        "import sys\nfrom mobilenets.cli.main import main\n"
        f"try: main([{verb!r}, '--help'])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"mobilenets {verb} " in done.stdout.split("Example:")[1]


def test_the_version_is_the_packages(run: Run) -> None:
    from mobilenets import __version__

    assert run("--version").stdout.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("comprae",), "no verb comprae; did you mean compare?"),
        (("fly",), "no verb fly; verbs are compare, train"),
        (("summary",), "Missing from mobilenets summary"),
        (("summary", "mobilenet_v2", "--widht-mult", "0.5"), "Perhaps you meant: --width-mult"),
        (("summary", "mobilenet_v2", "--width-mult", "wide"), "wide"),
        (("summary", "mobilenet_v5"), "mobilenet_v2"),
        (
            ("train", "mobilenet_v2", "--data", "digits", "--out", "x", "--recipe", "artikel"),
            "shipped are article, finetune",
        ),
        ((*TRAIN, "--optimizer", "adam"), "adamw"),
        (
            ("train", "mobilenet_v2", "--data", "digits", "--out", "x", "--epochs", "0"),
            "epochs is 0; it must be from 1 to",
        ),
        ((*TRAIN, "--device", "tpu"), "no device tpu here"),
        (("train", "mobilenet_v2", "--data", "nowhere", "--out", "x"), "nowhere"),
        (("train", "mobilenet_v9", "--data", "digits", "--out", "x"), "mobilenet_v3_large"),
        (("evaluate", "nowhere"), "nowhere is no run folder"),
        (("compare", "--models", ""), "no network to compare"),
        (("compare", "--models", "mobilenet_v2,mobilenet_v7"), "mobilenet_v7"),
        (("compare", "--width-mult", "0"), "width_mult"),
        (("compare", "--seeds", "0"), "seeds is 0; it must be from 1 to"),
        (("compare", "--epochs", "-1"), "epochs is -1; it must be from 1 to"),
        (("compare", "--min-top1", "200"), "min_top1"),
        (("compare", "--max-latency-ms", "-3"), "max_latency_ms"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(call: Run, arguments: tuple[str, ...], said: str) -> None:
    done = call(*arguments)
    _is_one_line(done, said)


def test_the_process_itself_says_one_line_and_exits_with_code_2(run: Run) -> None:
    # Found without PyTorch, and found after it was loaded.
    _is_one_line(run("comprae"), "no verb comprae; did you mean compare?")
    _is_one_line(run("summary", "mobilenet_v5"), "mobilenet_v2")


def _is_one_line(done: subprocess.CompletedProcess[str], said: str) -> None:
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("mobilenets: ")
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        (["summary", "mobilenet_v2"], "torch", "train"),
        (["train", "mobilenet_v2", "--data", "digits", "--out", "x"], "pydantic", "train"),
        (["train", "--help"], "pydantic", "train"),
        (["evaluate", "x"], "torch", "train"),
        (["compare"], "sklearn", "train"),
        (["compare"], "onnx", "export"),
    ],
)
def test_a_missing_extra_is_named_before_any_work(
    arguments: list[str], package: str, extra: str, tmp_path: Path
) -> None:
    program = (
        f"import sys\nsys.modules[{package!r}] = None\nfrom mobilenets.cli.main import main\n"
        f"sys.exit(main({arguments!r}))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert f" needs {package}" in done.stderr
    assert done.stderr.strip().endswith(install_line(extra))
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_is_no_error() -> None:
    pipeline = f"{sys.executable} -m mobilenets summary mobilenet_v2 --json | head -c 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {pipeline}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""
