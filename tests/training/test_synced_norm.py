from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from mobilenets.models.registry import create_model
from mobilenets.training.synced_norm import SyncedBatchNorm2d, sync_norms, unsync_norms

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
