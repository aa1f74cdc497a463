"""Every ONNX operator edgekit reads, in one table."""

from collections.abc import Mapping
from types import MappingProxyType

from edgekit.intake.onnx_arithmetic import ARITHMETIC
from edgekit.intake.onnx_call import Operator
from edgekit.intake.onnx_layers import LAYERS
from edgekit.intake.onnx_shapes import SHAPES

OPERATORS: Mapping[str, Operator] = MappingProxyType({**ARITHMETIC, **LAYERS, **SHAPES})
"""Operator of the standard domain to the function that computes it with torch."""
