"""ATen operators translated into the graph's vocabulary: one small handler a family, in a table by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from mobilenets.auditing.graph.nodes import (
    Add,
    Attention,
    ChannelScale,
    Concat,
    Conv,
    Dropout,
    Linear,
    MatMul,
    Multiply,
    Norm,
    Operator,
    Other,
    Pad,
    PoolOperation,
    Reshape,
    Slice,
    Softmax,
)
from mobilenets.auditing.graph.values import Call, Constant, Flowing, Recorded


def translate(call: Call) -> Operator:
    """What a call does, as one operator; `Other` when it is none of the known ones."""
    if call.label.startswith("_scaled_dot_product") or call.label == "scaled_dot_product_attention":
        return _attention(call)
    handler = _HANDLERS.get(call.label)
    return handler(call) if handler is not None else Other(call.label)


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(value, int):
        return (value, value)
    return (int(value[0]), int(value[-1]))


def _conv(call: Call) -> Operator:
    arguments = call.arguments
    weight = arguments["weight"]
    if not isinstance(weight, Constant) or len(weight.shape) != 4 or arguments.get("transposed"):
        return Other(call.label)
    kernel, dilation = (weight.shape[2], weight.shape[3]), _pair(arguments["dilation"])
    groups = int(arguments["groups"])
    return Conv(
        in_channels=weight.shape[1] * groups,
        out_channels=weight.shape[0],
        kernel=kernel,
        stride=_pair(arguments["stride"]),
        padding=_conv_padding(arguments["padding"], kernel, dilation),
        dilation=dilation,
        groups=groups,
        bias=arguments.get("bias") is not None,
    )


def _conv_padding(
    padding: str | int | Sequence[int], kernel: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int, int, int]:
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding == "same":
        total = [step * (size - 1) for size, step in zip(kernel, dilation, strict=True)]
        return (total[0] // 2, total[0] - total[0] // 2, total[1] // 2, total[1] - total[1] // 2)
    assert not isinstance(padding, str)
    height, width = _pair(padding)
    return (height, height, width, width)


def _linear(call: Call) -> Operator:
    weight = call.arguments["weight"]
    if not isinstance(weight, Constant):
        return Other(call.label)
    out_features, in_features = weight.shape
    return Linear(in_features, out_features, bias=call.arguments.get("bias") is not None)


def _product(call: Call) -> Operator:
    """`mm`, `matmul`, `bmm`: with a constant matrix a linear layer."""
    left, right = (value for value in call.arguments.values() if isinstance(value, (Flowing, Constant)))
    return _linear_or_matmul(call, left, right, bias=False)


def _sum_and_product(call: Call) -> Operator:
    """`addmm`, `baddbmm`: a bias and a product."""
    values = [value for value in call.arguments.values() if isinstance(value, (Flowing, Constant))]
    return _linear_or_matmul(call, values[1], values[2], bias=isinstance(values[0], Constant))


def _linear_or_matmul(call: Call, left: Recorded, right: Recorded, bias: bool) -> Operator:
    if isinstance(right, Constant) and len(right.shape) == 2:
        return Linear(right.shape[0], right.shape[1], bias)
    if isinstance(left, Constant) and len(left.shape) == 2:
        return Linear(left.shape[1], left.shape[0], bias)
    return MatMul(macs=prod(call.shape) * left.shape[-1])


def _einsum(call: Call) -> Operator:
    """Multiply-adds of a contraction: the product of the sizes of all its indices."""
    terms = call.arguments["equation"].replace(" ", "").partition("->")[0].split(",")
    operands = call.arguments["tensors"]
    if "." in call.arguments["equation"] or len(terms) != 2:
        return Other(call.label)
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, operands, strict=True):
        sizes.update(zip(term, operand.shape, strict=True))
    return MatMul(macs=prod(sizes.values()))


def _batch_norm(call: Call) -> Operator:
    arguments = call.arguments
    eps = arguments.get("eps", arguments.get("epsilon", 1e-5))
    momentum = arguments.get("momentum", arguments.get("exponential_average_factor"))
    training = bool(arguments.get("training", False)) or arguments.get("running_mean") is None
    affine = arguments.get("weight") is not None
    scale = arguments.get("weight")
    frozen = isinstance(scale, Constant) and not scale.sources
    return Norm("batch", call.flowing[0].shape[1], affine, float(eps), momentum, uses_batch=training, frozen=frozen)


def _instance_norm(call: Call) -> Operator:
    affine = call.arguments.get("weight") is not None
    momentum = call.arguments.get("momentum")
    return Norm("instance", call.flowing[0].shape[1], affine, float(call.arguments["eps"]), momentum, uses_batch=False)


def _group_norm(call: Call) -> Operator:
    affine = call.arguments.get("weight") is not None
    return Norm("group", call.flowing[0].shape[1], affine, float(call.arguments["eps"]), None, uses_batch=False)


def _layer_norm(call: Call) -> Operator:
    affine = call.arguments.get("weight") is not None
    channels = prod(call.arguments["normalized_shape"])
    return Norm("layer", channels, affine, float(call.arguments["eps"]), None, uses_batch=False)


def _add(call: Call) -> Operator:
    return Add() if len(call.flowing) == 2 else _per_channel(call, shift=True)


def _multiply(call: Call) -> Operator:
    return Multiply() if len(call.flowing) == 2 else _per_channel(call, shift=False)


def _subtract(call: Call) -> Operator:
    return Other(call.label) if len(call.flowing) == 2 else _per_channel(call, shift=True)


def _divide(call: Call) -> Operator:
    return Other(call.label) if len(call.flowing) == 2 else _per_channel(call, shift=False)


def _per_channel(call: Call, shift: bool) -> Operator:
    """With a constant of one value a channel: learnt, a layer scale; fixed, half of a normalization."""
    (flowing,), constant = call.flowing[:1], call.constants[0]
    channels = flowing.shape[1] if len(flowing.shape) > 1 else 0
    # Aligned to the right, as broadcasting does; every size but the channels' is 1.
    aligned = (1,) * (len(flowing.shape) - len(constant.shape)) + constant.shape
    if len(aligned) != len(flowing.shape) or prod(aligned) != channels or aligned[1] != channels:
        return Other(call.label)
    if constant.sources:
        return ChannelScale(channels, shift, constant.eps)
    return Norm("affine", channels, affine=False, eps=constant.eps, momentum=None, uses_batch=False)


def _adaptive_pool(call: Call) -> Operator:
    size, output = call.flowing[0].shape[-2:], call.arguments["output_size"]
    target = _pair(output) if output else (1, 1)
    # PyTorch's windows differ by a pixel where the division has a rest: the largest of them.
    window = tuple(-(-have // want) for have, want in zip(size, target, strict=True))
    kind = "average" if "avg" in call.label else "max"
    return PoolOperation(kind, (window[0], window[1]), (window[0], window[1]), (0, 0, 0, 0), adaptive=True)


def _pool(call: Call) -> Operator:
    arguments = call.arguments
    window = _pair(arguments["kernel_size"])
    stride = _pair(arguments["stride"]) if arguments["stride"] else window
    height, width = _pair(arguments["padding"])
    kind = "average" if "avg" in call.label else "max"
    return PoolOperation(kind, window, stride, (height, height, width, width), adaptive=False)


def _reduce(call: Call) -> Operator:
    """`mean` and `amax` over the places of a map: a pool of all of it; `[B, C, N]` counts as a map of N x 1."""
    shape = call.flowing[0].shape
    dims = call.arguments.get("dim")
    rank = len(shape)
    reduced = {dim % rank for dim in ([dims] if isinstance(dims, int) else dims or range(rank))}
    if rank not in (3, 4) or not reduced <= set(range(2, rank)):
        return Other(call.label)
    window = [shape[dim] if dim in reduced else 1 for dim in range(2, rank)] + [1] * (4 - rank)
    kind = "average" if call.label == "mean" else "max"
    return PoolOperation(kind, (window[0], window[1]), (window[0], window[1]), (0, 0, 0, 0), adaptive=True)


def _pad(call: Call) -> Operator:
    sides = list(call.arguments["pad"])
    mode, value = call.arguments.get("mode", "constant"), call.arguments.get("value")
    if mode != "constant" or value not in (None, 0, 0.0):
        return Other(f"pad {mode}")
    left, right, top, bottom, front, back, *rest = sides + [0] * (8 - len(sides))
    if any(rest) or len(call.flowing[0].shape) != 4:
        return Other("pad")
    return Pad((top, bottom, left, right), (front, back))


def _slice(call: Call) -> Operator:
    if call.shape == call.flowing[0].shape:
        return Reshape()
    steps = [1] * len(call.flowing[0].shape)
    steps[call.arguments["dim"]] = int(call.arguments.get("step") or 1)
    return Slice(tuple(steps))


def _part(call: Call) -> Operator:
    return Slice((1,) * len(call.flowing[0].shape))


def _dropout(call: Call) -> Operator:
    rate = call.arguments["p"]
    active = call.arguments.get("train", call.arguments.get("training", True))
    return Dropout(float(rate), active=active is not False)


def _softmax(call: Call) -> Operator:
    return Softmax(int(call.arguments["dim"]), log="log" in call.label)


def _concat(call: Call) -> Operator:
    return Concat(int(call.arguments["dim"]))


def _attention(call: Call) -> Operator:
    query, key, value = (call.arguments[name] for name in ("query", "key", "value"))
    *batch, length, width = query.shape
    keys, value_width = key.shape[-2], value.shape[-1]
    return Attention(macs=prod(batch) * length * keys * (width + value_width))


def _reshape(call: Call) -> Operator:
    return Reshape()


Handler = Callable[[Call], Operator]
_FAMILIES: tuple[tuple[Handler, str], ...] = (
    (_conv, "conv2d convolution _convolution"),
    (_linear, "linear"),
    (_product, "mm matmul bmm"),
    (_sum_and_product, "addmm baddbmm"),
    (_einsum, "einsum"),
    (_batch_norm, "batch_norm native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training"),
    (_batch_norm, "cudnn_batch_norm _batch_norm_impl_index _batch_norm_with_update _batch_norm_no_update"),
    (_instance_norm, "instance_norm"),
    (_group_norm, "group_norm native_group_norm"),
    (_layer_norm, "layer_norm native_layer_norm"),
    (_add, "add"),
    (_subtract, "sub subtract rsub"),
    (_multiply, "mul multiply"),
    (_divide, "div divide true_divide"),
    (_adaptive_pool, "adaptive_avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d"),
    (_pool, "avg_pool2d max_pool2d max_pool2d_with_indices"),
    (_reduce, "mean amax"),
    (_pad, "pad constant_pad_nd"),
    (_slice, "slice"),
    (_part, "narrow select index index_select"),
    (_dropout, "dropout feature_dropout alpha_dropout feature_alpha_dropout native_dropout"),
    (_softmax, "softmax _softmax log_softmax _log_softmax"),
    (_concat, "cat concat concatenate"),
    (_reshape, "view reshape flatten unflatten squeeze unsqueeze permute transpose t numpy_T mT movedim swapaxes"),
    (_reshape, "contiguous clone to _to_copy float half type_as detach alias expand expand_as _unsafe_view"),
    (_reshape, "view_as reshape_as _reshape_alias lift_fresh lift_fresh_copy"),
)
_HANDLERS: dict[str, Handler] = {name: handler for handler, names in _FAMILIES for name in names.split()}
