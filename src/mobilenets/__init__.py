"""Build, train and compare the MobileNet family of small image classifiers.

    from mobilenets import compare, create_model, list_models

The names below are loaded when first used, so that importing the package (as `mobilenets --help` does) loads neither
PyTorch nor anything else that takes long.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# ONNX Runtime sends telemetry unless this is set before its first import, by whatever module; its
# `disable_telemetry_events` comes too late. Here, since a package is imported before its modules, and child processes
# inherit it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from mobilenets.auditing.count import count
    from mobilenets.data.datasets import load_dataset
    from mobilenets.errors import MobilenetsError
    from mobilenets.evaluation.predictions import evaluate_predictions
    from mobilenets.evaluation.results import Bounds
    from mobilenets.exporters.export import export_onnx
    from mobilenets.models.registry import create_from_weights, create_model, list_models
    from mobilenets.models.saved import load_network
    from mobilenets.preprocessing import Preprocessing
    from mobilenets.runtime.bulk.predict_many import ManySummary, predict_many
    from mobilenets.runtime.classifier import Classifier, Prediction
    from mobilenets.runtime.streaming import predict_files
    from mobilenets.training.recipe import Recipe, load_recipe
    from mobilenets.workflows.audit import audit
    from mobilenets.workflows.benchmark import benchmark
    from mobilenets.workflows.compare import compare
    from mobilenets.workflows.deploy import deploy
    from mobilenets.workflows.doctor import doctor
    from mobilenets.workflows.evaluate import evaluate
    from mobilenets.workflows.export import export
    from mobilenets.workflows.models import published_models
    from mobilenets.workflows.predict import predict
    from mobilenets.workflows.quantize import quantize
    from mobilenets.workflows.shard import shard
    from mobilenets.workflows.summary import summary
    from mobilenets.workflows.train import train

    __version__: str

__all__ = [
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

_MODULES = {
    "Bounds": "evaluation.results",
    "Classifier": "runtime.classifier",
    "ManySummary": "runtime.bulk.predict_many",
    "MobilenetsError": "errors",
    "Prediction": "runtime.classifier",
    "Preprocessing": "preprocessing",
    "Recipe": "training.recipe",
    "audit": "workflows.audit",
    "benchmark": "workflows.benchmark",
    "compare": "workflows.compare",
    "count": "auditing.count",
    "create_from_weights": "models.registry",
    "create_model": "models.registry",
    "deploy": "workflows.deploy",
    "doctor": "workflows.doctor",
    "evaluate": "workflows.evaluate",
    "evaluate_predictions": "evaluation.predictions",
    "export": "workflows.export",
    "export_onnx": "exporters.export",
    "list_models": "models.registry",
    "load_dataset": "data.datasets",
    "load_network": "models.saved",
    "load_recipe": "training.recipe",
    "predict": "workflows.predict",
    "predict_files": "runtime.streaming",
    "predict_many": "runtime.bulk.predict_many",
    "published_models": "workflows.models",
    "quantize": "workflows.quantize",
    "shard": "workflows.shard",
    "summary": "workflows.summary",
    "train": "workflows.train",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # takes 30 ms, a tenth of the start of `predict`

        return globals().setdefault(name, version("mobilenets"))
    if name not in _MODULES:
        raise AttributeError(f"module 'mobilenets' has no attribute '{name}'; it has {', '.join(__all__)}")
    return getattr(import_module(f"mobilenets.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
