from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from mobilenets.errors import ModelError
from mobilenets.models import registry
from mobilenets.models.mobilenet_v2 import mobilenet_v2
from mobilenets.models.network import MobileNet
from mobilenets.models.registry import COMMON_ARGUMENTS, create_model, list_models, register

NAMES = [
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_large_minimalistic",
    "mobilenet_v3_small",
    "mobilenet_v3_small_minimalistic",
    "mobilenet_v4_conv_large",
    "mobilenet_v4_conv_medium",
    "mobilenet_v4_conv_small",
    "mobilenet_v4_hybrid_large",
    "mobilenet_v4_hybrid_medium",
]


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_BUILDERS", dict(registry._BUILDERS))
    return


def test_the_names() -> None:
    assert list_models() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_builder_has_the_same_defaults_as_create_model(name: str) -> None:
    with torch.device("meta"):
        by_name = create_model(name)
        by_builder = registry._BUILDERS[name]()
    assert by_name.config == by_builder.config
    assert by_name.config.name == name
    assert by_name.training
    common = inspect.signature(create_model).parameters
    for argument in COMMON_ARGUMENTS:
        assert common[argument].kind is inspect.Parameter.KEYWORD_ONLY


def test_dropout_is_by_default_that_of_the_papers_code() -> None:
    with torch.device("meta"):
        rates = {name: create_model(name).dropout.p for name in NAMES}
        assert create_model("mobilenet_v1", dropout=0.0).dropout.p == 0.0
    others = {"mobilenet_v1": 0.001, "mobilenet_v4_conv_small": 0.3}
    assert rates == {name: others.get(name, 0.2) for name in NAMES}


def message_of(name: Any, **arguments: Any) -> str:
    with pytest.raises(ModelError) as caught:
        create_model(name, **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_unknown_name_lists_the_valid_ones_and_suggests_the_closest() -> None:
    message = message_of("mobilnet_v2")
    assert message == f"there is no network 'mobilnet_v2'; did you mean mobilenet_v2? Valid: {', '.join(NAMES)}"
    assert message_of("zzz") == f"there is no network 'zzz'. Valid: {', '.join(NAMES)}"


@pytest.mark.parametrize("name", [None, 2, ["mobilenet_v2"], ""])
def test_a_name_that_is_none_is_unknown(name: Any) -> None:
    assert message_of(name).startswith(f"there is no network {name!r}. Valid: mobilenet_v1,")


def test_an_unknown_keyword_lists_the_valid_ones_and_suggests_the_closest() -> None:
    assert message_of("mobilenet_v3_large", widht_mult=0.5) == (
        "mobilenet_v3_large has no argument 'widht_mult'; did you mean width_mult? "
        "Valid: num_classes, width_mult, image_size, dropout, in_channels, padding, norm_eps, fixed_stem"
    )
    assert "activation" in message_of("mobilenet_v1", activations="relu").partition("Valid:")[2]


def test_an_option_of_one_network_is_not_anothers() -> None:
    assert message_of("mobilenet_v2", activation="relu").startswith("mobilenet_v2 has no argument 'activation'.")


@pytest.mark.parametrize("activation", ["gelu", None, 6, ["relu"]])
def test_a_wrong_activation_lists_the_valid_ones(activation: Any) -> None:
    message = message_of("mobilenet_v1", activation=activation)
    assert message == f"mobilenet_v1 has no activation {activation!r}: choose one of relu, relu6"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", [{"width_mult": 0}, {"image_size": 7}, {"num_classes": -1}, {"dropout": 1.0}])
def test_a_wrong_value_is_refused_by_every_network(name: str, wrong: dict[str, Any]) -> None:
    (argument,) = wrong
    assert message_of(name, **wrong).startswith(f"{argument} is ")


@pytest.mark.usefixtures("own_registry")
def test_a_registered_network_is_built_by_its_name() -> None:
    def thin(
        *,
        num_classes: int = 1000,
        width_mult: float = 1.0,
        image_size: int = 224,
        dropout: float = 0.1,
        in_channels: int = 3,
        factor: float = 0.5,
    ) -> MobileNet:
        return mobilenet_v2(
            num_classes=num_classes,
            width_mult=factor * width_mult,
            image_size=image_size,
            dropout=dropout,
            in_channels=in_channels,
        )

    register("thin", thin)
    assert "thin" in list_models()
    with torch.device("meta"):
        model = create_model("thin", num_classes=5, factor=0.7)
    assert model.config == mobilenet_v2(num_classes=5, width_mult=0.7, dropout=0.1).config


@pytest.mark.usefixtures("own_registry")
def test_a_name_is_registered_once() -> None:
    with pytest.raises(ModelError, match="'mobilenet_v2' is registered already"):
        register("mobilenet_v2", mobilenet_v2)


@pytest.mark.usefixtures("own_registry")
def test_a_builder_that_does_not_fit_is_refused() -> None:
    def no_width(*, num_classes: int = 1000) -> MobileNet:
        return mobilenet_v2(num_classes=num_classes)

    def bare(
        *, num_classes: int, width_mult: float, image_size: int = 1, dropout: float = 0, in_channels: int = 3
    ) -> MobileNet:
        return mobilenet_v2(num_classes=num_classes)

    with pytest.raises(ModelError, match="must accept width_mult, image_size, dropout, in_channels"):
        register("no_width", no_width)
    with pytest.raises(ModelError, match="must give num_classes, width_mult a default"):
        register("bare", bare)
    assert list_models() == NAMES


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("mobilenetv3", "mobilenet_v3_large, mobilenet_v3_small"),
        ("mobilenet-v3", "mobilenet_v3_large, mobilenet_v3_small"),
        ("MobileNetV2", "mobilenet_v2"),
        ("v3_small", "mobilenet_v3_small"),
        ("mobilenetv3_small_100", "mobilenet_v3_small"),
        ("tf_mobilenetv3_large_minimal_100", "mobilenet_v3_large_minimalistic"),
        ("mobilenetv4_conv_small.e2400_r224_in1k", "mobilenet_v4_conv_small"),
        ("mobilenetv2_140", "mobilenet_v2"),
    ],
)
def test_other_peoples_names_suggest_ours(name: str, meant: str) -> None:
    with pytest.raises(ModelError) as caught:
        create_model(name)
    assert str(caught.value).startswith(f"there is no network {name!r}; did you mean {meant}? Valid: ")
