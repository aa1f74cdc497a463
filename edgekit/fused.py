"""Fusing as a library call, for people who stay with torch and want the fused network and nothing else.

fused = fuse_module(model, (1, 3, 224, 224))
fused.module                # an nn.Module: trains, moves, compiles, exports and saves like any other
fused.regions               # what became of what, each with its measured proof
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgekit.artifact import Certificate, Parity, RegionCertificate, Shape
from edgekit.capture import capture
from edgekit.errors import ModelError, ParityError
from edgekit.inputs import PROBES, generate
from edgekit.network import run_in_float64
from edgekit.numerics import compare_one, gate_db
from edgekit.passes.base import Proven, apply
from edgekit.passes.fuse import Fuse, FuseOptions
from edgekit.passes.materialise import MATERIALISE
from edgekit.program import Program, run
from edgekit.standalone import as_module

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Fused:
    """A fused network and what proves that it is still the same one.

    Attributes:
        module: The network, in float32 on the CPU until it is moved; it takes the one size it was made for.
        passes: What every pass did and what it left, with the reason.
        regions: One certificate for each region that became something else.
        parity: `module` in float32 against the original in float64, the input on which it did worst.
    """

    module: nn.Module
    passes: tuple[Certificate, ...]
    regions: tuple[RegionCertificate, ...]
    parity: Parity


def fuse_module(model: nn.Module, shape: Shape, *, only: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> Fused:
    """Fuses a model and proves, in float64, that it is still the same; the model itself is left as it is.

    Args:
        model: A network of float32 on the CPU, in evaluation mode; one tensor in, one tensor out.
        shape: (N, C, H, W) of its input.
        only: Glob patterns of the modules that may be fused; all where there are none.
        exclude: Glob patterns of the modules that may not.

    Raises:
        ModelError: The model is in training mode, is not in float32 on the CPU, or cannot be captured at this shape.
        ParityError: The fused network is not the same, or the model itself is not finite.
    """
    check_arithmetic(model)
    own = copy.deepcopy(model)  # capturing leaves tensors without values in a network that keeps what it computes
    captured = capture(own, shape)
    images = {name: torch.from_numpy(image) for name, image in generate(shape).items()}
    exact = run_in_float64(model, captured)
    expected = {name: exact(image) for name, image in images.items()}
    noise_db = {name: own_noise(model, name, image, expected[name]) for name, image in images.items()}
    check(captured, "Capture", images, expected, noise_db)
    probes, gate = tuple(images[name] for name in PROBES), min(noise_db[name] for name in PROBES)
    fuse, certificates = Fuse(FuseOptions(only=only, exclude=exclude)), []
    proven = Proven(captured, tuple(expected[name] for name in PROBES))
    for rewrite in (*MATERIALISE, fuse):
        proven, certificate = apply(rewrite, proven, probes, gate)
        certificates.append(certificate)
    buffers = {buffer.data_ptr() for buffer in own.buffers()}
    module = as_module(proven.program, class_name=type(model).__name__, buffers=buffers)
    return Fused(module, tuple(certificates), fuse.certificates, check(module, "Fusing", images, expected, noise_db))


def check(program: Program, doing: str, images: Tensors, expected: Tensors, noise_db: Mapping[str, float]) -> Parity:
    """Runs a program in float32 on every input and compares; gives the worst.

    Raises:
        ParityError: It is not the same network.
    """
    reached = {name: compare_one(expected[name], run(program, image)[0]) for name, image in images.items()}
    for name, parity in reached.items():
        if parity.nonfinite or parity.snr_db < gate_db(noise_db[name]):
            raise ParityError(
                f"{doing} changed the network: {parity.snr_db:.1f} dB on input {name!r}, {gate_db(noise_db[name]):.1f} "
                "dB required. Does the model choose its path by the values of its input, or keep state?"
            )
    return min(reached.values(), key=lambda parity: parity.snr_db)


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


def own_noise(model: nn.Module, name: str, image: Tensor, expected: Tensor) -> float:
    """The SNR that the model's own float32 arithmetic reaches on an input, in dB.

    Raises:
        ParityError: It is not finite, so nothing can be proved.
    """
    with torch.no_grad():
        parity = compare_one(expected, model(image))
    if parity.nonfinite:
        raise ParityError(f"The original model itself returns NaN or infinity on input {name!r}. Check its weights.")
    return parity.snr_db
