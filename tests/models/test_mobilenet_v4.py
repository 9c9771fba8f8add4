from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.layers import LayerScale2d
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mobilenets.auditing.count import count
from mobilenets.errors import ModelError
from mobilenets.models.mobilenet_v4_blocks import LayerScale, MultiQueryAttention
from mobilenets.models.mobilenet_v4_tables import (
    CONV_LARGE,
    CONV_MEDIUM,
    CONV_SMALL,
    HYBRID_LARGE,
    HYBRID_MEDIUM,
    UIBRow,
    V4Table,
)
from mobilenets.models.network import MobileNet, initialise
from mobilenets.models.registry import create_model
from mobilenets.models.saved import SavedNetwork, load_network, save_network
from mobilenets.preprocessing import Preprocessing

TABLES = (CONV_SMALL, CONV_MEDIUM, CONV_LARGE, HYBRID_MEDIUM, HYBRID_LARGE)
NAMES = [table.name for table in TABLES]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "width_mult", "image_size", "parameters", "macs"),
    [
        ("mobilenet_v4_conv_small", 1.0, 224, 3_774_024, 186.01),
        ("mobilenet_v4_conv_small", 1.0, 256, 3_774_024, 242.18),
        ("mobilenet_v4_conv_small", 0.5, 224, 2_238_952, 64.74),
        ("mobilenet_v4_conv_small", 0.35, 224, 1_905_384, 47.72),
        ("mobilenet_v4_conv_medium", 1.0, 256, 9_715_512, 1080.24),
        ("mobilenet_v4_conv_large", 1.0, 384, 32_590_864, 6376.22),
        ("mobilenet_v4_hybrid_medium", 1.0, 256, 11_074_648, 1271.18),
        ("mobilenet_v4_hybrid_medium", 0.75, 224, 7_313_528, 649.84),
        ("mobilenet_v4_hybrid_large", 1.0, 384, 37_764_624, 7711.88),
        ("mobilenet_v4_hybrid_large", 0.75, 256, 22_754_984, 2036.23),
    ],
)
def test_published_counts(name: str, width_mult: float, image_size: int, parameters: int, macs: float) -> None:
    """Parameters as timm's; multiply-adds of convolutions, linear layers and both matrix products of attention."""
    shape = (1, 3, image_size, image_size)
    with torch.device("meta"):
        model = create_model(name, width_mult=width_mult, image_size=image_size).eval()
        counted = count(model)
        with FlopCounterMode(display=False) as flops, torch.no_grad():
            model(torch.empty(shape))
    assert counted.parameters == parameters
    assert round(counted.macs / 1e6, 2) == macs
    assert flops.get_total_flops() == 2 * counted.macs


@pytest.mark.parametrize("table", TABLES, ids=NAMES)
def test_rows_fit_each_other(table: V4Table) -> None:
    assert all(above.out_channels == below.in_channels for above, below in pairwise(table.rows))
    assert [row.stride for row in table.rows].count(2) == 4  # the stem is the fifth


@pytest.mark.parametrize(
    ("table", "blocks", "attention"),
    [
        (CONV_SMALL, {"ExtraDW": 3, "IB": 8, "ConvNext": 1}, 0),
        (CONV_MEDIUM, {"ExtraDW": 13, "ConvNext": 4, "FFN": 4}, 0),
        (CONV_LARGE, {"ExtraDW": 19, "ConvNext": 7}, 0),
        (HYBRID_MEDIUM, {"ExtraDW": 13, "ConvNext": 5, "FFN": 4}, 8),
        (HYBRID_LARGE, {"ExtraDW": 19, "ConvNext": 8}, 8),
    ],
    ids=NAMES,
)
def test_the_blocks_are_the_papers(table: V4Table, blocks: dict[str, int], attention: int) -> None:
    assert Counter(row.block for row in table.rows if isinstance(row, UIBRow)) == blocks
    with torch.device("meta"):
        model = create_model(table.name)
    assert sum(isinstance(module, MultiQueryAttention) for module in model.modules()) == attention


@pytest.mark.parametrize(
    ("name", "width_mult", "stem", "head", "features"),
    [
        ("mobilenet_v4_conv_small", 0.35, 32, 336, 1280),
        ("mobilenet_v4_conv_small", 0.5, 32, 480, 1280),
        ("mobilenet_v4_conv_small", 1.0, 32, 960, 1280),
        ("mobilenet_v4_conv_small", 1.5, 48, 1440, 1920),
        ("mobilenet_v4_conv_large", 0.75, 24, 720, 1280),
        ("mobilenet_v4_conv_large", 2.0, 48, 1920, 2560),
    ],
)
def test_stem_and_penultimate_grow_but_do_not_shrink(
    name: str, width_mult: float, stem: int, head: int, features: int
) -> None:
    with torch.device("meta"):
        model = create_model(name, width_mult=width_mult)
    assert model.stem.conv.out_channels == stem
    assert model.head.conv.out_channels == head
    assert model.classifier.in_features == features


def side_of_last_map(model: MobileNet, size: int) -> int:
    with torch.device("meta"), torch.no_grad():
        return model.eval().forward_features(torch.empty(1, 3, size, size)).shape[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("image_size", "side"), [(8, 4), (32, 4), (64, 4), (65, 3), (224, 7), (256, 8), (384, 12)])
def test_small_images_lose_the_early_strides(name: str, image_size: int, side: int) -> None:
    with torch.device("meta"):
        model = create_model(name, image_size=image_size)
        assert side_of_last_map(model, image_size) == side
        if image_size == 32:
            assert model.stem.conv.stride == (1, 1)
            # The stem's step and the next are gone; the three latest stay.
            assert [kept for kept in _strides(model) if kept == 2] == [2, 2, 2]


def _strides(model: MobileNet) -> list[int]:
    """Of every convolution on the way from images to logits: not those that only keys and values pass."""
    aside = {id(m) for a in model.modules() if isinstance(a, MultiQueryAttention) for m in a.modules()}
    return [m.stride[0] for m in model.modules() if isinstance(m, nn.Conv2d) and id(m) not in aside]


def randomize_norms(model: nn.Module, size: int) -> None:
    """Random scales and shifts everywhere, and the statistics of random images under them.

    Layer scale too: at its start attention is a hundred thousandth of the answer, and any error in it as small. The
    images are of about the size asked later, or the norm behind the pool would have seen nothing like its answers.
    """
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, LayerScale | LayerScale2d):
            nn.init.uniform_(module.gamma, 0.1, 0.3)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics of the last batch
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.2)
    with torch.no_grad():
        model.train()(torch.randn(12, 3, size, size))
    model.eval()


def copy_in_order(theirs: nn.Module, ours: nn.Module) -> None:
    """By position: definition order is timm's, and every tensor has timm's shape."""
    given = theirs.state_dict().values()
    ours.load_state_dict(dict(zip(ours.state_dict(), given, strict=True)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "timm_name", "width_mult"),
    [
        ("mobilenet_v4_conv_small", "mobilenetv4_conv_small", 1.0),
        ("mobilenet_v4_conv_small", "mobilenetv4_conv_small_050", 0.5),
        ("mobilenet_v4_conv_small", "mobilenetv4_conv_small_035", 0.35),
        ("mobilenet_v4_conv_medium", "mobilenetv4_conv_medium", 1.0),
        ("mobilenet_v4_conv_large", "mobilenetv4_conv_large", 1.0),
        ("mobilenet_v4_hybrid_medium", "mobilenetv4_hybrid_medium", 1.0),
        ("mobilenet_v4_hybrid_medium", "mobilenetv4_hybrid_medium_075", 0.75),
        ("mobilenet_v4_hybrid_large", "mobilenetv4_hybrid_large", 1.0),
        ("mobilenet_v4_hybrid_large", "mobilenetv4_hybrid_large_075", 0.75),
    ],
)
def test_timm_gives_the_same_outputs(name: str, timm_name: str, width_mult: float) -> None:
    ours, theirs = create_model(name, width_mult=width_mult, norm_eps=1e-5), timm.create_model(timm_name)
    even = 224 if name == "mobilenet_v4_conv_small" else 96  # the size of an image teaches the large ones nothing new
    randomize_norms(theirs, even)
    copy_in_order(theirs, ours)
    ours.eval()
    # As published or smaller, and odd at every stride-2 step. The convolutional networks do just what timm's do; the
    # hybrids sum in another order, and double precision shows that this is all that differs.
    cases = [(even, torch.float32, 1e-5), (65, torch.float32, 1e-5)]
    if "hybrid" in name:
        cases = [(even, torch.float32, 1e-4), (65, torch.float32, 1e-4), (65, torch.float64, 1e-9)]
    for size, dtype, tolerance in cases:
        images = torch.randn(2, 3, size, size, dtype=dtype)
        with torch.inference_mode():
            expected, answer = theirs.to(dtype)(images), ours.to(dtype)(images)
        # The two images must be told apart, or agreement would show nothing.
        assert (expected[0] - expected[1]).abs().max() > 0.1
        assert (answer - expected).abs().max() <= tolerance


@pytest.mark.parametrize(
    ("name", "dropout", "norm_eps", "momentum"),
    [(name, 0.3, 1e-6, 0.05) if "small" in name else (name, 0.2, 1e-3, 0.003) for name in NAMES],
)
def test_the_defaults_are_those_of_the_authors_experiments(
    name: str, dropout: float, norm_eps: float, momentum: float
) -> None:
    with torch.device("meta"):
        model = create_model(name)
    assert model.dropout.p == dropout
    assert model.config.options == {"padding": "symmetric", "norm_eps": norm_eps}
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(norm_eps, momentum)}
    kind = nn.GELU if name == "mobilenet_v4_hybrid_large" else nn.ReLU
    assert {type(m) for m in model.modules() if isinstance(m, nn.ReLU | nn.GELU | nn.Hardswish)} == {kind}


@pytest.mark.parametrize("name", NAMES)
def test_wrong_options_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match="there is no padding 'valid': choose one of symmetric, same"):
        create_model(name, padding="valid")
    with pytest.raises(ModelError, match="norm_eps is 0"):
        create_model(name, norm_eps=0)


@pytest.mark.parametrize("name", ["mobilenet_v4_conv_small", "mobilenet_v4_hybrid_medium"])
def test_same_padding_changes_every_strided_filter(name: str) -> None:
    symmetric, same = (
        create_model(name, width_mult=0.25, num_classes=5, padding=p).eval() for p in ("symmetric", "same")
    )
    randomize_norms(symmetric, 64)
    same.load_state_dict(symmetric.state_dict())
    strided = [m for m in same.modules() if isinstance(m, nn.Conv2d) and m.stride != (1, 1)]
    assert all(m.padding == (0, 0) for m in strided)
    assert len(strided) == (5 if "conv" in name else 5 + 8)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert symmetric.forward_features(images).shape == same.forward_features(images).shape
        # From 97 pixels every map is odd, where the two paddings are one.
        odd = torch.randn(1, 3, 97, 97)
        torch.testing.assert_close(same(odd), symmetric(odd))
        assert not torch.allclose(same(images), symmetric(images), atol=1e-2)


def test_initialise_undoes_what_training_did() -> None:
    model = create_model("mobilenet_v4_hybrid_medium", width_mult=0.25, num_classes=5, image_size=32)
    for parameter in model.parameters():
        nn.init.constant_(parameter, 3)
    initialise(model)
    scales = torch.cat([tensor for name, tensor in model.named_parameters() if name.endswith("gamma")])
    assert (scales == 1e-5).all()
    attention = next(module for module in model.modules() if isinstance(module, MultiQueryAttention))
    limit = (6 / (attention.query.in_channels + attention.query.out_channels)) ** 0.5
    assert 0.9 * limit < attention.query.weight.abs().max() <= limit
    assert model.stem.conv.weight.abs().max() <= 0.18


def small_network(name: str) -> SavedNetwork:
    model = create_model(name, num_classes=3, width_mult=0.25, image_size=32)
    randomize_norms(model, 32)
    return SavedNetwork(model, ("a", "b", "c"), Preprocessing(image_size=32), {"of": "a test"})


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_saved_and_read_back_it_gives_the_same_outputs(name: str, tmp_path: Path) -> None:
    network = small_network(name)
    save_network(tmp_path, network)
    again = load_network(tmp_path).model
    assert again.config == network.model.config
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(again(images), network.model(images), rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v4_conv_small", "mobilenet_v4_hybrid_medium"])
def test_its_onnx_file_gives_the_same_outputs(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from mobilenets.exporters.export import export_onnx
    from mobilenets.exporters.verify import check_parity
    from mobilenets.models.layers import Normalizer

    network = small_network(name)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    path = tmp_path / "network.onnx"
    export_onnx(network.model, path, preprocessing=network.preprocessing, classes=network.classes)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    whole = nn.Sequential(Normalizer(network.preprocessing), network.model)

    def ask_network(asked: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(whole(torch.from_numpy(asked)))

    assert np.ptp(ask_network(images), axis=0).max() > 0.1  # told apart, or agreement would show nothing
    parity = check_parity(ask_network, lambda asked: session.run(None, {"images": asked})[0], images, 1e-4)
    assert parity.top1_agreement == 100
