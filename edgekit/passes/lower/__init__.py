"""Lowering: each runtime and precision gets its own copy of the program, written the way that runtime is fast at.

`LOWERINGS` is where a runtime's preferences live: a literal tuple of passes, in order, for every pair.
"""

from collections.abc import Mapping
from types import MappingProxyType

from edgekit.passes.base import Pass
from edgekit.passes.lower.channels_first import ChannelsFirst
from edgekit.passes.lower.kernel_pieces import KernelPieces
from edgekit.passes.lower.parts_first import PartsFirst
from edgekit.passes.lower.plain_broadcast import PlainBroadcast
from edgekit.passes.lower.plain_norm import PlainNorm
from edgekit.passes.lower.plain_operators import PlainOperators
from edgekit.passes.lower.plain_slice import PlainSlice
from edgekit.passes.lower.pooled_padding import PooledPadding
from edgekit.passes.lower.row_layers import RowLayers
from edgekit.passes.lower.sigmoid_gelu import SigmoidGelu
from edgekit.passes.lower.split_layers import SplitLayers
from edgekit.passes.lower.staged_mean import StagedMean
from edgekit.passes.lower.toeplitz import Toeplitz
from edgekit.passes.lower.whole_gelu import WholeGelu

_XNNPACK_TAPS = 25
"""XNNPACK has fast depthwise kernels of up to so many taps."""

_split, _padding = SplitLayers(), PooledPadding()
_staged, _row, _broadcast = StagedMean(), RowLayers(), PlainBroadcast()
_few_taps = (Toeplitz(taps=_XNNPACK_TAPS + 1), KernelPieces(limit=_XNNPACK_TAPS))
_large_means = StagedMean(least_terms=32 * 32)
_long_kernels = Toeplitz(taps=_XNNPACK_TAPS + 1, side=40, share=1.5)
_mid_kernels = Toeplitz(taps=_XNNPACK_TAPS + 1, side=28)
_for_mnn = (PlainNorm(), PlainOperators(), WholeGelu(), SigmoidGelu())
_for_ncnn = (PartsFirst(), PlainSlice(), PlainOperators())

LOWERINGS: Mapping[tuple[str, str], tuple[Pass, ...]] = MappingProxyType(
    {
        ("onnxruntime", "fp32"): (_split, ChannelsFirst("transposed"), _long_kernels, _large_means, _padding),
        ("openvino", "fp32"): (_split, ChannelsFirst("reduced"), _long_kernels, _large_means),
        ("tflite", "fp32"): (_split, _staged, *_few_taps, _row, _broadcast),
        ("mnn", "fp32"): (_split, ChannelsFirst("transposed"), _mid_kernels, _large_means, *_for_mnn),
        ("ncnn", "fp32"): (_split, ChannelsFirst("reduced"), _mid_kernels, _large_means, *_for_ncnn),
        ("torch", "fp32"): (),
    }
)
"""(runtime, precision) to the passes that lower a program for it; `benchmarks/lowering.py` says what they are worth."""
