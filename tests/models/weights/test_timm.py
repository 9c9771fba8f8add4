from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mobilenets.errors import WeightsError
from mobilenets.models.registry import create_model
from mobilenets.models.weights.read import read_weights
from mobilenets.preprocessing import Preprocessing

from .conftest import Reference, SameAnswers

VARIANTS = [
    ("mobilenetv1_100", "mobilenet_v1", 1.0),
    ("mobilenetv1_125", "mobilenet_v1", 1.25),
    ("mobilenetv2_035", "mobilenet_v2", 0.35),
    ("mobilenetv2_050", "mobilenet_v2", 0.5),
    ("mobilenetv2_075", "mobilenet_v2", 0.75),
    ("mobilenetv2_100", "mobilenet_v2", 1.0),
    ("mobilenetv2_140", "mobilenet_v2", 1.4),
    ("mobilenetv3_large_075", "mobilenet_v3_large", 0.75),
    ("mobilenetv3_large_100", "mobilenet_v3_large", 1.0),
    ("mobilenetv3_small_050", "mobilenet_v3_small", 0.5),
    ("mobilenetv3_small_075", "mobilenet_v3_small", 0.75),
    ("mobilenetv3_small_100", "mobilenet_v3_small", 1.0),
    ("tf_mobilenetv3_large_075", "mobilenet_v3_large", 0.75),
    ("tf_mobilenetv3_large_100", "mobilenet_v3_large", 1.0),
    ("tf_mobilenetv3_large_minimal_100", "mobilenet_v3_large_minimalistic", 1.0),
    ("tf_mobilenetv3_small_075", "mobilenet_v3_small", 0.75),
    ("tf_mobilenetv3_small_100", "mobilenet_v3_small", 1.0),
    ("tf_mobilenetv3_small_minimal_100", "mobilenet_v3_small_minimalistic", 1.0),
    ("mobilenetv4_conv_small_035", "mobilenet_v4_conv_small", 0.35),
    ("mobilenetv4_conv_small_050", "mobilenet_v4_conv_small", 0.5),
    ("mobilenetv4_conv_small", "mobilenet_v4_conv_small", 1.0),
    ("mobilenetv4_conv_medium", "mobilenet_v4_conv_medium", 1.0),
    ("mobilenetv4_conv_large", "mobilenet_v4_conv_large", 1.0),
    ("mobilenetv4_hybrid_medium", "mobilenet_v4_hybrid_medium", 1.0),
    ("mobilenetv4_hybrid_medium_075", "mobilenet_v4_hybrid_medium", 0.75),
    ("mobilenetv4_hybrid_large", "mobilenet_v4_hybrid_large", 1.0),
]


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "name", "width"), VARIANTS, ids=[row[0] for row in VARIANTS])
def test_a_safetensors_file_gives_timms_answers(
    variant: str, name: str, width: float, timm_network: Reference, assert_same_answers: SameAnswers, tmp_path: Path
) -> None:
    theirs = timm_network(variant)
    save_file(theirs.state_dict(), tmp_path / f"{variant}.safetensors")
    ours = create_model(name, width_mult=width, num_classes=10, weights=tmp_path / f"{variant}.safetensors")
    assert_same_answers(ours, theirs, 1e-4 if "v4" in variant else 1e-5)


def test_a_checkpoint_does_too(timm_network: Reference, assert_same_answers: SameAnswers, tmp_path: Path) -> None:
    theirs = timm_network("mobilenetv3_small_075")
    torch.save(theirs.state_dict(), tmp_path / "mobilenetv3_small_075_lambc-384766db.pth")
    path = tmp_path / "mobilenetv3_small_075_lambc-384766db.pth"
    ours = create_model("mobilenet_v3_small", width_mult=0.75, num_classes=10, weights=path)
    assert_same_answers(ours, theirs)
    prepared = read_weights(path).preprocessing
    assert prepared == Preprocessing(
        224, 256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), interpolation="bicubic"
    )


def config(architecture: str, **changes: Any) -> str:
    stated = {"input_size": [3, 224, 224], "crop_pct": 0.95, "interpolation": "bicubic"}
    stated |= {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], **changes}
    return json.dumps({"architecture": architecture, "pretrained_cfg": stated})


def test_a_folder_of_hugging_face_says_variant_and_preparation(
    timm_network: Reference, assert_same_answers: SameAnswers, tmp_path: Path
) -> None:
    theirs = timm_network("tf_mobilenetv3_small_075")
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(config("tf_mobilenetv3_small_075"))
    for given in (tmp_path, tmp_path / "model.safetensors"):
        imported = read_weights(given)
        assert imported.options == {"norm_eps": 1e-3, "padding": "same"}
        assert imported.preprocessing == Preprocessing(224, 235, interpolation="bicubic")
        assert imported.notes == ()
    assert_same_answers(create_model("mobilenet_v3_small", width_mult=0.75, num_classes=10, weights=tmp_path), theirs)


@pytest.mark.slow
def test_a_damaged_configuration_is_named(timm_network: Reference, tmp_path: Path) -> None:
    save_file(timm_network("mobilenetv2_035").state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"config\.json describes model\.safetensors but can't be read"):
        read_weights(tmp_path)
    (tmp_path / "config.json").write_text(config("mobilenetv2_035", crop_pct=0))
    with pytest.raises(WeightsError, match=r"config\.json does not say how images are prepared"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("variant", "padding", "eps"),
    [("tf_mobilenetv3_small_100", "same", 1e-3), ("mobilenetv3_small_100", "symmetric", 1e-5)],
)
def test_a_nameless_v3_file_is_refused_until_padding_and_eps_are_said(
    timm_network: Reference,
    assert_same_answers: SameAnswers,
    tmp_path: Path,
    variant: str,
    padding: str,
    eps: float,
) -> None:
    theirs = timm_network(variant)
    file = tmp_path / "best.safetensors"
    save_file(theirs.state_dict(), file)
    known: dict[str, Any] = {"padding": padding, "norm_eps": eps}
    for told in ((), ("padding",), ("norm_eps",)):
        missing = " and ".join(name for name in known if name not in told)
        with pytest.raises(WeightsError, match=rf"best\.safetensors does not state the {missing} its network"):
            create_model("mobilenet_v3_small", num_classes=10, weights=file, **{name: known[name] for name in told})
    ours = create_model("mobilenet_v3_small", num_classes=10, weights=file, **known)
    assert_same_answers(ours, theirs)


def test_what_a_nameless_minimalistic_file_is_assumed_to_be_is_said(timm_network: Reference, tmp_path: Path) -> None:
    save_file(timm_network("tf_mobilenetv3_small_minimal_100").state_dict(), tmp_path / "minimal.safetensors")
    imported = read_weights(tmp_path / "minimal.safetensors")
    assert imported.options == {"norm_eps": 1e-3, "padding": "same"}
    assert "assumed to be TensorFlow's" in imported.notes[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "name", "width", "said"),
    [
        ("mobilenetv1_100h", "mobilenet_v1", 1.0, "6 too many (bn2.bias"),
        ("mobilenetv2_110d", "mobilenet_v2", 1.1, "its stages have [1, 3, 4, 5, 4, 4, 1] blocks, the paper's [1, 2,"),
        ("mobilenetv3_large_150d", "mobilenet_v3_large", 1.5, "blocks, the paper's [1, 2, 3, 4, 2, 3]"),
        ("mobilenetv3_rw", "mobilenet_v3_large", 1.0, "missing (conv_head.bias)"),
    ],
)
def test_networks_of_timms_own_are_refused_by_name_and_by_content(
    variant: str, name: str, width: float, said: str, timm_network: Reference, tmp_path: Path
) -> None:
    theirs = timm_network(variant)
    for file, reason in ((f"{variant}.safetensors", f"is of timm's {variant}, another network"), ("best.pth", said)):
        save_file(theirs.state_dict(), tmp_path / file)
        with pytest.raises(WeightsError) as caught:
            create_model(name, width_mult=width, num_classes=10, weights=tmp_path / file)
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_networks_that_differ_without_a_tensor_are_refused_by_name(timm_network: Reference, tmp_path: Path) -> None:
    for file in ("mobilenetv4_conv_aa_medium.safetensors", "mobilenetv4_conv_blur_medium.e500_r224_in1k.safetensors"):
        save_file(timm_network("mobilenetv4_conv_medium").state_dict(), tmp_path / file)
        with pytest.raises(WeightsError, match="pools for strides"):
            read_weights(tmp_path / file)


def test_features_without_a_classifier_are_refused(timm_network: Reference, tmp_path: Path) -> None:
    tensors = timm_network("mobilenetv2_035").state_dict()
    del tensors["classifier.weight"], tensors["classifier.bias"]
    save_file(tensors, tmp_path / "mobilenetv2_035.safetensors")
    with pytest.raises(WeightsError, match=r"has no classifier\.weight"):
        read_weights(tmp_path / "mobilenetv2_035.safetensors")
