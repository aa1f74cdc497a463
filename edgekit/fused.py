"""Fusing as a library call, for people who stay with torch and want the fused network and nothing else.

fused = fuse_module(model, (1, 3, 224, 224))
fused.module                # an nn.Module: trains, moves, compiles, exports and saves like any other
fused.regions               # what became of what, each with its measured proof
"""

import copy
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from edgekit.artifact import Certificate, Parity, RegionCertificate, Shape, TensorSpec, WeightsSource
from edgekit.capture import capture, output_specs
from edgekit.errors import ModelError, ParityError
from edgekit.inputs import generate
from edgekit.network import check_capture, numpy_forward, program_forward, rewrite, run_in_float64
from edgekit.passes.fuse import Fuse, FuseOptions
from edgekit.passes.materialise import MATERIALISE
from edgekit.standalone import as_module
from edgekit.verify import case_parity, failure, reference, tightest


@dataclass(frozen=True, slots=True)
class Fused:
    """A fused network and what proves that it is still the same one.

    Attributes:
        module: The network, in float32 on the CPU until it is moved; it takes the sizes it was made for.
        passes: What every pass did and what it left, with the reason.
        regions: One certificate for each region that became something else.
        parity: `module` in float32 against the original in float64, where it comes closest to what is required.
    """

    module: nn.Module
    passes: tuple[Certificate, ...]
    regions: tuple[RegionCertificate, ...]
    parity: Parity


def fuse_module(model: nn.Module, *shapes: Shape, only: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> Fused:
    """Fuses a model and proves, in float64, that it is still the same; the model itself is left as it is.

    Args:
        model: A network of float32 on the CPU, in evaluation mode; tensors in, one tensor or a flat tuple of them out.
        shapes: Of each input, such as (N, C, H, W).
        only: Glob patterns of the modules that may be fused; all where there are none.
        exclude: Glob patterns of the modules that may not.

    Raises:
        ModelError: The model is in training mode, is not in float32 on the CPU, or cannot be captured at this shape.
        ParityError: The fused network is not the same, or the model itself is not finite.
    """
    check_arithmetic(model)
    own = copy.deepcopy(model)  # capturing leaves tensors without values in a network that keeps what it computes
    captured = capture(own, *shapes)
    inputs = tuple(TensorSpec(name=f"input_{index}", shape=shape) for index, shape in enumerate(shapes))
    returned = len(captured.graph.output_node().all_input_nodes)
    outputs = output_specs(captured, tuple(f"output_{index}" for index in range(returned)))
    exact = numpy_forward(run_in_float64(model, captured))
    against = reference(inputs, outputs, generate(inputs), exact, numpy_forward(model))
    check_capture(captured, against)
    fuse = Fuse(FuseOptions(only=only, exclude=exclude))
    stages = {"materialise": MATERIALISE, "fuse": (fuse,)}
    network = rewrite(captured, WeightsSource(kind="model"), against, stages, lambda _: nullcontext())
    buffers = {buffer.data_ptr() for buffer in own.buffers()}
    module = as_module(network.proven.program, class_name=type(model).__name__, buffers=buffers)
    forward = program_forward(module)
    reached = [each for case in against.cases for each in case_parity(against, case, forward(case.inputs))]
    if reason := failure(reached):
        raise ParityError(f"Fusing changed the network: {reason}. This is a defect of edgekit, please report it.")
    return Fused(module, network.certificates, fuse.certificates, tightest(reached).parity)


def check_arithmetic(model: nn.Module) -> None:
    """Refuses a model that does not compute in float32 on the CPU, where everything is measured.

    Raises:
        ModelError: A parameter or buffer is elsewhere, or of another floating type.
    """
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if value.device.type != "cpu" or (value.is_floating_point() and value.dtype is not torch.float32):
            found = f"{str(value.dtype).removeprefix('torch.')} on {value.device}"
            raise ModelError(
                f"{name} is {found}; fusing is proved in float32 on the CPU. Call model.float().cpu() first, and move "
                "the fused module afterwards."
            )
