"""ONNX operators that work on each element, and reductions."""

from collections.abc import Callable, Mapping
from functools import reduce
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from edgekit.intake.onnx_call import Call, Operator, only

Unary = Callable[[Tensor], Tensor]
Binary = Callable[[Tensor, Tensor], Tensor]

DTYPES: Mapping[int, torch.dtype] = MappingProxyType(
    {
        1: torch.float32,
        2: torch.uint8,
        3: torch.int8,
        5: torch.int16,
        6: torch.int32,
        7: torch.int64,
        9: torch.bool,
        10: torch.float16,
        11: torch.float64,
        16: torch.bfloat16,
    }
)
"""ONNX's numbers of element types."""


def unary(function: Unary) -> Operator:
    """An operator of one tensor."""
    return lambda call: function(call[0])


def binary(function: Binary) -> Operator:
    """An operator of two tensors, with numpy's broadcasting in both worlds."""
    return lambda call: function(call[0], call[1])


def variadic(function: Binary) -> Operator:
    """An operator of any number of tensors."""
    return lambda call: reduce(function, call.tensors)


def divide(call: Call) -> Tensor:
    """Integers are divided as in C."""
    left, right = call[0], call[1]
    whole = not (left.is_floating_point() or right.is_floating_point())
    return torch.div(left, right, rounding_mode="trunc") if whole else left / right


def modulo(call: Call) -> Tensor:
    """The remainder has the sign of the divisor, with fmod of the dividend."""
    return torch.fmod(call[0], call[1]) if call.get("fmod", 0) else torch.remainder(call[0], call[1])


def cast(call: Call) -> Tensor:
    """Between floating types it changes nothing: the network runs in the precision it is run in."""
    wanted = DTYPES[only(call, "to", tuple(DTYPES), None)]
    source = call[0]
    return source if wanted.is_floating_point and source.is_floating_point() else source.to(wanted)


def clip(call: Call) -> Tensor:
    """Bounds are inputs, before opset 11 attributes."""
    low, high = bound(call, 1, "min"), bound(call, 2, "max")
    return call[0] if low is None and high is None else torch.clamp(call[0], low, high)


def bound(call: Call, index: int, name: str) -> float | int | None:
    """A number given by an input or an attribute, or None."""
    values = call.array(index)
    found: float | int | None = call.get(name, None) if values is None else values.item()
    return found


def hard_sigmoid(call: Call) -> Tensor:
    """max(0, min(1, alpha x + beta)), which torch has whole for alpha = 1/6, beta = 1/2."""
    alpha, beta = call.get("alpha", 0.2), call.get("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return functional.hardsigmoid(call[0])
    return torch.clamp(alpha * call[0] + beta, 0.0, 1.0)


def parametric_relu(call: Call) -> Tensor:
    """The slope broadcasts from the right, in torch it lies along the channels."""
    source, slope = call[0], call[1]
    return torch.where(source < 0, source * slope, source)


def reduction(function: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    """A reduction over axes, given as an attribute or, in newer versions, an input."""

    def operator(call: Call) -> Tensor:
        axes = call.ints(1, "axes")
        if not axes:
            if call.get("noop_with_empty_axes", 0):
                return call[0]
            axes = list(range(call[0].ndim))
        return function(call[0], axes, bool(call.get("keepdims", 1)))

    return operator


def product(source: Tensor, axes: list[int], keep: bool) -> Tensor:
    """Torch multiplies along one axis at a time."""
    for axis in sorted((axis % source.ndim for axis in axes), reverse=True):
        source = torch.prod(source, axis, keepdim=keep)
    return source


def extremum(function: Callable[..., Tensor]) -> Operator:
    """ArgMax and ArgMin."""

    def operator(call: Call) -> Tensor:
        only(call, "select_last_index", (0,), 0)
        return function(call[0], call.get("axis", 0), bool(call.get("keepdims", 1)))

    return operator


ARITHMETIC: Mapping[str, Operator] = MappingProxyType(
    {
        "Abs": unary(torch.abs),
        "Acos": unary(torch.acos),
        "Add": binary(torch.add),
        "And": binary(torch.logical_and),
        "ArgMax": extremum(torch.argmax),
        "ArgMin": extremum(torch.argmin),
        "Asin": unary(torch.asin),
        "Atan": unary(torch.atan),
        "Cast": cast,
        "Ceil": unary(torch.ceil),
        "Celu": lambda call: functional.celu(call[0], call.get("alpha", 1.0)),
        "Clip": clip,
        "Cos": unary(torch.cos),
        "Div": divide,
        "Elu": lambda call: functional.elu(call[0], call.get("alpha", 1.0)),
        "Equal": binary(torch.eq),
        "Erf": unary(torch.erf),
        "Exp": unary(torch.exp),
        "Floor": unary(torch.floor),
        "Gelu": lambda call: functional.gelu(call[0], approximate=only(call, "approximate", ("none", "tanh"), "none")),
        "Greater": binary(torch.gt),
        "GreaterOrEqual": binary(torch.ge),
        "HardSigmoid": hard_sigmoid,
        "HardSwish": unary(functional.hardswish),
        "Identity": lambda call: call[0],
        "IsNaN": unary(torch.isnan),
        "LeakyRelu": lambda call: functional.leaky_relu(call[0], call.get("alpha", 0.01)),
        "Less": binary(torch.lt),
        "LessOrEqual": binary(torch.le),
        "Log": unary(torch.log),
        "Max": variadic(torch.maximum),
        "Mean": lambda call: reduce(torch.add, call.tensors) / len(call.tensors),
        "Min": variadic(torch.minimum),
        "Mish": unary(functional.mish),
        "Mod": modulo,
        "Mul": binary(torch.mul),
        "Neg": unary(torch.neg),
        "Not": unary(torch.logical_not),
        "Or": binary(torch.logical_or),
        "PRelu": parametric_relu,
        "Pow": binary(torch.pow),
        "Reciprocal": unary(torch.reciprocal),
        "ReduceL1": reduction(lambda x, axes, keep: x.abs().sum(axes, keep)),
        "ReduceL2": reduction(lambda x, axes, keep: x.square().sum(axes, keep).sqrt()),
        "ReduceLogSumExp": reduction(torch.logsumexp),
        "ReduceMax": reduction(torch.amax),
        "ReduceMean": reduction(torch.mean),
        "ReduceMin": reduction(torch.amin),
        "ReduceProd": reduction(product),
        "ReduceSum": reduction(torch.sum),
        "ReduceSumSquare": reduction(lambda x, axes, keep: x.square().sum(axes, keep)),
        "Relu": unary(torch.relu),
        "Round": unary(torch.round),
        "Selu": unary(torch.selu),
        "Sigmoid": unary(torch.sigmoid),
        "Sign": unary(torch.sign),
        "Sin": unary(torch.sin),
        "Softplus": unary(functional.softplus),
        "Softsign": unary(functional.softsign),
        "Sqrt": unary(torch.sqrt),
        "Sub": binary(torch.sub),
        "Sum": variadic(torch.add),
        "Tan": unary(torch.tan),
        "Tanh": unary(torch.tanh),
        "Where": lambda call: torch.where(call[0], call[1], call[2]),
        "Xor": binary(torch.logical_xor),
    }
)
"""ONNX operator to the function that computes it."""
