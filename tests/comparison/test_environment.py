from __future__ import annotations

import platform

import torch

from mobilenets.comparison.measure import environment


def test_versions_and_machine_are_named() -> None:
    found = environment(torch.device("cpu"))
    assert found["torch"] == torch.__version__.partition("+")[0] or found["torch"] == torch.__version__
    assert found["python"] == platform.python_version()
    assert found["trained on"] == "cpu"
    assert all(found.values())
