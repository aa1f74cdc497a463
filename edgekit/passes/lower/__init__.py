"""Lowering: each runtime and precision gets its own copy of the program, written the way that runtime is fast at.

`LOWERINGS` is where a runtime's preferences live. What is fastest for a depthwise kernel depends on the kernel, the
runtime's version and the CPU, so that is not written here: it was measured, and `edgekit.tuning` chooses.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgekit.passes.base import Pass
from edgekit.passes.lower.blocks_last import BlocksLast
from edgekit.passes.lower.channels_first import ChannelsFirst
from edgekit.passes.lower.divided_sigmoid import DividedSigmoid
from edgekit.passes.lower.equalise import Equalise
from edgekit.passes.lower.parts_first import PartsFirst
from edgekit.passes.lower.plain_broadcast import PlainBroadcast
from edgekit.passes.lower.plain_norm import PlainNorm
from edgekit.passes.lower.plain_operators import PlainOperators
from edgekit.passes.lower.plain_slice import PlainSlice
from edgekit.passes.lower.pointwise_linear import PointwiseLinear
from edgekit.passes.lower.pooled_padding import PooledPadding
from edgekit.passes.lower.row_layers import RowLayers
from edgekit.passes.lower.sigmoid_gelu import SigmoidGelu
from edgekit.passes.lower.split_groups import SplitGroups
from edgekit.passes.lower.split_layers import SplitLayers
from edgekit.passes.lower.staged_mean import StagedMean
from edgekit.passes.lower.whole_gelu import WholeGelu


@dataclass(frozen=True, slots=True)
class Lowering:
    """The passes of a runtime, in order.

    Attributes:
        before: Those that come before depthwise kernels are written in their forms.
        after: Those that come after.
        kernels: Whether they are written in other forms at all.
    """

    before: tuple[Pass, ...] = ()
    after: tuple[Pass, ...] = ()
    kernels: bool = True

    @property
    def passes(self) -> tuple[Pass, ...]:
        """All of them, where the forms of depthwise kernels do not matter."""
        return (*self.before, *self.after)


_split, _groups, _even, _padding = SplitLayers(), SplitGroups(), Equalise(), PooledPadding()
_staged, _row, _broadcast = StagedMean(), RowLayers(), PlainBroadcast()
_large_means = StagedMean(least_terms=32 * 32)
_for_mnn = (PlainNorm(), PlainOperators(), WholeGelu(), SigmoidGelu())
_mnn = Lowering((_split, ChannelsFirst("transposed")), (_large_means, *_for_mnn))
_for_ncnn = (PartsFirst(), PlainSlice(), PlainOperators())
_openvino = Lowering((_split, ChannelsFirst("reduced")), (_large_means,))
_for_tflite = (BlocksLast(), _staged, _row, _broadcast)

LOWERINGS: Mapping[tuple[str, str], Lowering] = MappingProxyType(
    {
        ("onnxruntime", "fp32"): Lowering((_split, ChannelsFirst("transposed")), (_large_means, _padding)),
        ("onnxruntime", "int8"): Lowering((_split, _groups, _even), (_large_means, _padding, PointwiseLinear())),
        ("openvino", "fp32"): _openvino,
        ("openvino", "int8"): Lowering((_split, _groups, _even, ChannelsFirst("reduced")), (_large_means,)),
        ("tflite", "fp32"): Lowering((_split, _groups), (*_for_tflite, DividedSigmoid())),
        ("tflite", "int8"): Lowering((_split, _groups, _even), _for_tflite),
        ("mnn", "fp32"): _mnn,
        ("mnn", "int8"): _mnn,
        ("ncnn", "fp32"): Lowering((_split, ChannelsFirst("reduced")), (_large_means, *_for_ncnn)),
        ("torch", "fp32"): Lowering(kernels=False),
    }
)
"""(runtime, `fp32` or `int8`) to the passes that lower for it; `benchmarks/lowering.py` says what they are worth."""
