"""Lowering: each runtime and precision gets its own copy of the program, written the way that runtime is fast at.

`LOWERINGS` is where a runtime's preferences live: a literal tuple of passes, in order, for every pair.
"""

from collections.abc import Mapping
from types import MappingProxyType

from edgekit.passes.base import Pass
from edgekit.passes.lower.split_layers import SplitLayers
from edgekit.passes.lower.staged_mean import StagedMean

_split, _staged = SplitLayers(), StagedMean()

LOWERINGS: Mapping[tuple[str, str], tuple[Pass, ...]] = MappingProxyType(
    {
        ("onnxruntime", "fp32"): (_split,),
        ("openvino", "fp32"): (_split,),
        ("tflite", "fp32"): (_split, _staged),
        ("torch", "fp32"): (),
    }
)
"""(runtime, precision) to the passes that lower a program for it."""
