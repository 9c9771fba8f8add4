"""The options of the operators image classifiers are made of, under plain names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tflite

from mobilenets.tflite.model import Option


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


_ACTIVATIONS = _names(tflite.ActivationFunctionType)
_PADDINGS = _names(tflite.Padding)


def _activation(table: Any) -> Option:
    return _ACTIVATIONS[table.FusedActivationFunction()]


def _padding(table: Any) -> Option:
    return _PADDINGS[table.Padding()]


def _stride(table: Any) -> Option:
    return table.StrideH(), table.StrideW()


def _dilation(table: Any) -> Option:
    return table.DilationHFactor(), table.DilationWFactor()


Readers = dict[str, Callable[[Any], Option]]

_FUSED: Readers = {"activation": _activation}
_WINDOW: Readers = {"padding": _padding, "stride": _stride, **_FUSED}
_CONVOLUTION: Readers = {**_WINDOW, "dilation": _dilation}
_POOL: Readers = {**_WINDOW, "filter": lambda table: (table.FilterHeight(), table.FilterWidth())}

_TABLES: dict[str, tuple[Callable[[], Any], Readers]] = {
    "CONV_2D": (tflite.Conv2DOptions, _CONVOLUTION),
    "DEPTHWISE_CONV_2D": (
        tflite.DepthwiseConv2DOptions,
        {**_CONVOLUTION, "depth_multiplier": lambda table: table.DepthMultiplier()},
    ),
    "FULLY_CONNECTED": (
        tflite.FullyConnectedOptions,
        {
            **_FUSED,
            "keep_num_dims": lambda table: table.KeepNumDims(),
            "shuffled": lambda table: table.WeightsFormat() != 0,
        },
    ),
    "AVERAGE_POOL_2D": (tflite.Pool2DOptions, _POOL),
    "MAX_POOL_2D": (tflite.Pool2DOptions, _POOL),
    "ADD": (tflite.AddOptions, _FUSED),
    "SUB": (tflite.SubOptions, _FUSED),
    "MUL": (tflite.MulOptions, _FUSED),
    "DIV": (tflite.DivOptions, _FUSED),
    "MEAN": (tflite.ReducerOptions, {"keep_dims": lambda table: table.KeepDims()}),
    "SOFTMAX": (tflite.SoftmaxOptions, {"beta": lambda table: table.Beta()}),
    "CONCATENATION": (tflite.ConcatenationOptions, {"axis": lambda table: table.Axis(), **_FUSED}),
}


def read_options(kind: str, operator: Any) -> dict[str, Option]:
    """The options of a `tflite.Operator` of this kind; empty for kinds that need none here.

    Keys: `padding` (SAME, VALID), `stride`, `dilation` and `filter` as (height, width), `activation` (NONE, RELU,
    RELU6, ...), `depth_multiplier`, `keep_num_dims`, `shuffled`, `keep_dims`, `beta`, `axis`.
    An operator that stores no options has the format's defaults, which an empty table gives.
    """
    if kind not in _TABLES:
        return {}
    make, readers = _TABLES[kind]
    stored = operator.BuiltinOptions()
    if stored is None:
        return {}
    table = make()
    table.Init(stored.Bytes, stored.Pos)
    return {name: read(table) for name, read in readers.items()}
