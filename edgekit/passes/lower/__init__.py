"""Lowering: each runtime and precision gets its own copy of the program, written the way that runtime is fast at.

`LOWERINGS` is where a runtime's preferences live: a literal tuple of passes, in order, for every pair.
"""

from collections.abc import Mapping
from types import MappingProxyType

from edgekit.passes.base import Pass
from edgekit.passes.lower.plain_broadcast import PlainBroadcast
from edgekit.passes.lower.pooled_padding import PooledPadding
from edgekit.passes.lower.row_layers import RowLayers
from edgekit.passes.lower.split_layers import SplitLayers
from edgekit.passes.lower.staged_mean import StagedMean

_split, _padding = SplitLayers(), PooledPadding()
_staged, _row, _broadcast = StagedMean(), RowLayers(), PlainBroadcast()

LOWERINGS: Mapping[tuple[str, str], tuple[Pass, ...]] = MappingProxyType(
    {
        ("onnxruntime", "fp32"): (_split, _padding),
        ("openvino", "fp32"): (_split,),
        ("tflite", "fp32"): (_split, _staged, _row, _broadcast),
    }
)
"""(runtime, precision) to the passes that lower a program for it."""
