from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import synced_norm_steps
import torch
from synced_norm_steps import BRAIN, CASES, HALF, SHARES, network_step, steps
from torch import nn

from mobilenets.models.registry import create_model
from mobilenets.training.synced_norm import SyncedBatchNorm2d, sync_norms, unsync_norms

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def _alone_in_a_group() -> Iterator[None]:
    """A process group of one: the sums over it are its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()
    del os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]


@pytest.mark.usefixtures("_alone_in_a_group")
@pytest.mark.parametrize("momentum", [0.1, None])
def test_over_one_process_it_is_batch_norm(momentum: float | None) -> None:
    torch.manual_seed(0)
    plain, synced = nn.BatchNorm2d(5, momentum=momentum), SyncedBatchNorm2d(5, momentum=momentum)
    images = torch.randn(6, 5, 3, 4) * 3 + 50
    weights = torch.randn(6, 5, 3, 4)
    for layer in (plain, synced):
        nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(1))
    gradients = []
    for layer in (plain, synced):
        inputs = images.clone().requires_grad_()
        for _ in range(2):
            outputs = layer(inputs)
        (outputs * weights).sum().backward()
        gradients.append((outputs, inputs.grad, layer.weight.grad, layer.bias.grad))
    for wanted, found in zip(*gradients, strict=True):
        assert torch.allclose(found, wanted, atol=1e-4)
    for name, wanted in plain.state_dict().items():
        assert torch.allclose(synced.state_dict()[name].float(), wanted.float(), rtol=1e-5), name
    assert torch.equal(synced.eval()(images), synced(images))


def test_layers_are_exchanged_around_the_same_tensors_and_back() -> None:
    model = create_model("mobilenet_v3_small", num_classes=3, width_mult=0.25, image_size=16)
    before = dict(model.named_parameters())
    kinds = [type(module) for module in model.modules()]
    sync_norms(model, CPU)
    assert any(isinstance(module, SyncedBatchNorm2d) for module in model.modules())
    assert all(value is before[name] for name, value in model.named_parameters())
    eps = {module.eps for module in model.modules() if isinstance(module, nn.BatchNorm2d)}
    assert eps == {0.001}  # V3's own, not the layer's default
    unsync_norms(model)
    assert [type(module) for module in model.modules()] == kinds
    assert all(value is before[name] for name, value in model.named_parameters())


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """What each of two processes has after steps in which they normalised over both."""
    folder = tmp_path_factory.mktemp("synced")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    commands = ([sys.executable, synced_norm_steps.__file__, str(rank), str(folder)] for rank in (0, 1))
    running = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for command in commands]
    for process in running:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said[-3000:]
    first, second = (torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    return first, second


@pytest.mark.parametrize("name", CASES)
def test_two_processes_are_one_batch_norm_over_all_images(together: tuple[Any, Any], name: str) -> None:
    case = CASES[name]
    maps, weights = case.batch()
    wanted = steps(case.norm(nn.BatchNorm2d), maps, weights)
    loose = {BRAIN: 4e-2, HALF: 4e-3}.get(case.maps, 1e-4)
    for found, rows in zip(together, SHARES, strict=True):
        for key in ("answers", "gradient"):
            ours = found[name][key]
            assert ours.dtype == case.maps
            assert torch.allclose(ours.double(), wanted[key][rows].double(), rtol=loose, atol=loose), key
        assert found[name]["answers"].is_contiguous(memory_format=case.layout)
        for key in ("running_mean", "running_var", "num_batches_tracked"):
            ours = found[name][key]
            assert ours.dtype == wanted[key].dtype
            assert torch.allclose(ours.double(), wanted[key].double(), rtol=loose, atol=loose), key
            assert torch.equal(ours, together[0][name][key]), key
    for key in (key for key in wanted if key.startswith("gradient of")):
        summed = sum(found[name][key].double() for found in together)
        scale = float(wanted[key].double().abs().max())
        assert torch.allclose(summed, wanted[key].double(), rtol=loose, atol=loose * scale), key


def test_a_network_in_bfloat16_is_normalised_over_both_processes(together: tuple[Any, Any]) -> None:
    wanted = network_step(slice(None), synced=False)
    apart = network_step(SHARES[0], synced=False)
    first = "stem.norm.running_var"
    for found in together:
        assert torch.allclose(found["network"][first], wanted[first], rtol=1e-2)
        assert all(bool(torch.isfinite(value).all()) for value in found["network"].values())
    assert not torch.allclose(apart[first], wanted[first], rtol=1e-2)
