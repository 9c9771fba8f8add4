"""Which package may import which, what loads without PyTorch, and what the package offers."""

from __future__ import annotations

import ast
import graphlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import mobilenets

SOURCE = Path(mobilenets.__file__).parent
# Base modules: everything may import them, and they import only each other.
BASE = {
    "arguments",
    "errors",
    "files",
    "formatting",
    "image_folders",
    "image_formats",
    "image_record",
    "images",
    "install",
    "limits",
    "machine",
    "output_capture",
    "preprocessing",
    "progress",
    "result",
    "rules",
    "run_folder",
    "transfer",
}

# Package -> what it may import, beside itself and BASE. `evaluation.results` holds plain records and is listed apart,
# so that packages which only fill or show records do not depend on how they are computed.
ALLOWED: dict[str, set[str]] = {
    **{module: set() for module in BASE},
    "tflite": set(),
    "models": {"tflite"},
    "auditing": {"models", "tflite"},
    "catalogue": {"auditing", "models"},
    "data": set(),
    "checkup": {"data"},
    "evaluation": {"data"},
    "training": {"data", "evaluation", "models"},
    "artifact": set(),
    "runtime": {"artifact", "data.archives"},
    "benchmarking": {"artifact", "evaluation.results", "models", "runtime"},
    "exporters": {"artifact", "data", "evaluation", "models", "runtime"},
    "quantization": {"artifact", "benchmarking", "data", "evaluation", "exporters", "models", "runtime", "training"},
    "deployment": {"artifact", "benchmarking", "data", "evaluation", "exporters", "quantization", "runtime"},
    "comparison": {"auditing", "benchmarking", "data", "evaluation", "exporters", "models", "runtime", "training"},
}
DOMAIN = {package for package in ALLOWED if package not in BASE}
# What a verb does, how its result is shown, and the command line stand above all of these.
ALLOWED["report"] = set(DOMAIN)
ALLOWED["workflows"] = DOMAIN | {"report"}
ALLOWED["cli"] = DOMAIN | {"report", "workflows"}

TORCH_FREE = [
    "mobilenets",
    "mobilenets.limits",
    "mobilenets.cli.main",
    "mobilenets.errors",
    "mobilenets.files",
    "mobilenets.images",
    "mobilenets.limits",
    "mobilenets.machine",
    "mobilenets.preprocessing",
    "mobilenets.transfer",
    "mobilenets.artifact.container",
    "mobilenets.data.archives",
    "mobilenets.evaluation.results",
    "mobilenets.benchmarking.benchmark",
    "mobilenets.report.benchmark",
    "mobilenets.benchmarking.peers",
    "mobilenets.benchmarking.process",
    "mobilenets.benchmarking.latency",
    "mobilenets.benchmarking.worker",
    "mobilenets.runtime.backend",
    "mobilenets.runtime.classifier",
    "mobilenets.runtime.bulk.predict_many",
    "mobilenets.runtime.streaming",
    "mobilenets.workflows.predict",
]


def modules() -> dict[str, Path]:
    """Every module's dotted name below the package, and its file."""
    return {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in SOURCE.rglob("*.py")}


def imported(path: Path) -> set[str]:
    """Modules of this package that a file imports, anywhere in it, as dotted names below the package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name.removeprefix("mobilenets.") for name in names if name.startswith("mobilenets.")}
    return found


PACKAGED = {name: path for name, path in modules().items() if name.partition(".")[0] in ALLOWED}


def test_the_table_names_every_package() -> None:
    assert {name.partition(".")[0] for name in modules()} - {"__init__", "__main__"} == set(ALLOWED)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PACKAGED))
def test_only_allowed_imports(name: str) -> None:
    package = name.partition(".")[0]
    allowed = ALLOWED[package] | BASE | {package}
    for target in imported(PACKAGED[name]):
        assert target in allowed or target.partition(".")[0] in allowed, f"{name} may not import {target}"


@pytest.mark.slow
def test_no_cycle_between_modules() -> None:
    graph = {name: {target for target in imported(path) if target in PACKAGED} for name, path in PACKAGED.items()}
    assert len(tuple(graphlib.TopologicalSorter(graph).static_order())) == len(graph)


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*/__init__.py")), ids=lambda path: path.parent.name)
def test_a_packages_init_holds_only_its_docstring(path: Path) -> None:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    assert len(body) == 1
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(modules()))
def test_no_file_is_longer_than_400_lines(name: str) -> None:
    assert len(modules()[name].read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.slow
def test_the_core_loads_without_pytorch_or_any_extra() -> None:
    blocked = ["torch", "torchvision", "sklearn", "matplotlib", "jinja2", "pydantic", "safetensors", "scipy", "onnx"]
    program = (
        "import sys, importlib\n"
        f"for name in {blocked!r}: sys.modules[name] = None\n"
        f"for name in {TORCH_FREE!r}: importlib.import_module(name)\n"
        "from mobilenets.cli.main import main\n"
        "assert main(['--help']) == 0\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "compare" in done.stdout


def test_the_public_names_are_these_and_all_there() -> None:
    assert sorted(mobilenets.__all__) == [
        "Bounds",
        "Classifier",
        "ManySummary",
        "MobilenetsError",
        "Prediction",
        "Preprocessing",
        "Recipe",
        "__version__",
        "audit",
        "benchmark",
        "compare",
        "count",
        "create_from_weights",
        "create_model",
        "deploy",
        "doctor",
        "evaluate",
        "evaluate_predictions",
        "export",
        "export_onnx",
        "list_models",
        "load_dataset",
        "load_network",
        "load_recipe",
        "predict",
        "predict_files",
        "predict_many",
        "published_models",
        "quantize",
        "shard",
        "summary",
        "train",
    ]
    assert set(mobilenets.__all__) <= set(dir(mobilenets))


def test_a_public_name_is_no_module_whatever_was_imported_before() -> None:
    """A module of the same name would take a function's place as soon as anything imports it."""
    inside = {path.stem for path in SOURCE.glob("*.py")} | {path.name for path in SOURCE.iterdir() if path.is_dir()}
    assert not set(mobilenets.__all__) & inside
    for name in mobilenets.__all__:
        assert getattr(mobilenets, name) is getattr(mobilenets, name)
        assert not inspect.ismodule(getattr(mobilenets, name))


def test_an_unknown_public_name_lists_those_there_are() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'creat_model'; it has .*create_model"):
        mobilenets.creat_model  # noqa: B018
