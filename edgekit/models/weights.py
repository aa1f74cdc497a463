"""Gives a model its weights: from a checkpoint, strictly, or from a seed.

A checkpoint fits when it has every tensor of the model, nothing else, and every shape agrees; floating tensors are
converted to the model's precision. A tensor that the model has under several names may come under any of them. Until
all of that is known the model is not touched.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekit.artifact import WeightsSource
from edgekit.errors import WeightsError
from edgekit.models.checkpoint import read_checkpoint, shown

PARALLEL_PREFIX = "module."
"""What `nn.DataParallel` puts before every name."""

OPTIONAL_ENDING = "num_batches_tracked"
"""BatchNorm's counter: absent from old checkpoints, and inference does not read it."""

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""Precisions that convert into one another."""

Fit = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]

GAIN = 0.8
"""Random matrices and convolutions turn unit variance into the square of this."""

SHIFT = 0.4
"""Mean size of random biases; they lie between half and one and a half of it."""

SPREAD = 0.1
"""Relative standard deviation of random scales around their typical size."""


def load_weights(model: nn.Module, path: Path, *, ema: bool = False, fit: Fit = dict) -> WeightsSource:
    """Copies the weights of a file into a model, or raises and leaves the model as it was.

    Args:
        model: The network; its `state_dict` says which names and shapes there must be.
        path: A `.pth`, `.pth.tar`, `.pt`, `.ckpt`, `.bin` or `.safetensors` file.
        ema: Take the moving average of the weights instead of the weights.
        fit: Picks what the model wants from a larger network's tensors.

    Raises:
        WeightsError: The file cannot be read as plain tensors, or they are not this model's weights.
    """
    checkpoint = read_checkpoint(path, ema=ema)
    state = model.state_dict()
    own = {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    tensors = fit(without_prefix(checkpoint.tensors, own))
    check_names_and_shapes(path, tensors, own)
    fitted = {name: convert(path, name, tensor, own[name].dtype) for name, tensor in tensors.items()}
    check_finite(path, fitted)
    tied = fill_tied(path, fitted, own)
    model.load_state_dict({**state, **tied, **fitted}, strict=True)
    return WeightsSource(
        kind="file",
        file_name=path.name,
        sha256=checkpoint.sha256,
        section=checkpoint.section,
        notes=conversions(tensors, fitted),
    )


def without_prefix(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors without the prefix of `nn.DataParallel`, unless the model's own names have it too."""
    prefixed = all(name.startswith(PARALLEL_PREFIX) for name in tensors)
    if not prefixed or all(name.startswith(PARALLEL_PREFIX) for name in own):
        return tensors
    return {name.removeprefix(PARALLEL_PREFIX): tensor for name, tensor in tensors.items()}


def check_names_and_shapes(path: Path, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Raises with every missing, unexpected and wrongly shaped name, unless there is none."""
    covered = {place(own[name]) for name in own if name in tensors}
    absent = [name for name in own if place(own[name]) not in covered]
    missing = [name for name in absent if name.rpartition(".")[2] != OPTIONAL_ENDING]
    unexpected = [name for name in tensors if name not in own]
    reshaped = [name for name, tensor in tensors.items() if name in own and tensor.shape != own[name].shape]
    if not (missing or unexpected or reshaped):
        return
    shapes = [f"{name} {tuple(tensors[name].shape)} instead of {tuple(own[name].shape)}" for name in reshaped]
    groups = {"missing": missing, "unexpected": unexpected, "wrongly shaped": shapes}
    lines = [f"  {len(names)} {group}: {shown(names)}" for group, names in groups.items() if names]
    hint = mismatch_hint(missing, unexpected, reshaped, tensors, own)
    raise WeightsError("\n".join([f"{path} does not fit the model.", *lines, hint]))


def mismatch_hint(
    missing: list[str],
    unexpected: list[str],
    reshaped: list[str],
    tensors: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
) -> str:
    """What a mismatch looks like: another number of classes, another variant, or another network."""
    shared = [name for name in own if name in tensors]
    pairs = [(tensors[name].shape, own[name].shape) for name in reshaped]
    resized = all(len(theirs) == len(ours) and theirs[1:] == ours[1:] for theirs, ours in pairs)
    last = shared[-1].rpartition(".")[0] if shared else ""
    if resized and not (missing or unexpected) and {name.rpartition(".")[0] for name in reshaped} == {last}:
        theirs, ours = pairs[0]
        return (
            f"Only {last} differs: the file was trained for {theirs[0]} classes and the model is built for {ours[0]}."
        )
    if 2 * len(shared) < len(own):
        return f"{len(shared)} of the model's {len(own)} names are in the file: it belongs to another network."
    parts = ["widths"] * bool(reshaped) + ["layers"] * bool(missing or unexpected)
    return (
        f"{len(shared)} of the model's {len(own)} names are in the file, but the {' and the '.join(parts)} differ: it "
        "looks like another variant of the same family. Name the variant it was trained as."
    )


def convert(path: Path, name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in the model's precision; an integer never stands for a float, nor the reverse."""
    if tensor.dtype != dtype and not (tensor.dtype in FLOATS and dtype in FLOATS):
        raise WeightsError(
            f"{path} holds {shown([name])} as {tensor.dtype} where the model has {dtype}. "
            "Give the float checkpoint; edgekit quantizes it itself."
        )
    return tensor.to(dtype)


def check_finite(path: Path, fitted: Mapping[str, Tensor]) -> None:
    """Raises with the names whose values are NaN or infinite, after conversion to the model's precision."""
    bad = [name for name, tensor in fitted.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise WeightsError(
            f"{path} has NaN or infinite values in {len(bad)} tensors: {shown(bad)}. "
            "Its training diverged, or it overflows the model's precision; take an earlier checkpoint."
        )


def conversions(tensors: Mapping[str, Tensor], fitted: Mapping[str, Tensor]) -> tuple[str, ...]:
    """How many tensors changed their precision, in words; nothing when none did."""
    pairs = Counter((tensor.dtype, fitted[name].dtype) for name, tensor in tensors.items())
    return tuple(
        f"{number} tensors converted from {before} to {after}"
        for (before, after), number in pairs.items()
        if before != after
    )


def place(tensor: Tensor) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Tells whether two names of a model are one tensor in memory."""
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()


def fill_tied(path: Path, fitted: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The values of tensors that the model has under several names, by every name; the file may have one or all."""
    given = {place(own[name]): tensor for name, tensor in fitted.items()}
    torn = [name for name, tensor in fitted.items() if not tensor.equal(given[place(own[name])])]
    if torn:
        raise WeightsError(
            f"{path} has a value of its own for {shown(torn)}, which the model ties to another tensor. "
            "Untie them in the model, or give a checkpoint of this model."
        )
    return {name: given[place(tensor)] for name, tensor in own.items() if place(tensor) in given}


def random_weights(model: nn.Module, seed: int) -> WeightsSource:
    """Fills all that a checkpoint would with numbers from a seed, such that one wrong number shows in the output.

    The global random state is neither used nor changed. Values are drawn as float64 and rounded: PyTorch's float32
    normals differ between CPUs in the last bit.

    1. Two or more dimensions: normal, deviation 0.8/sqrt(fan-in), fan-in being the elements per first index.
    2. What is added, namely a bias, a running mean, or an embedding (1, ...) that is no weight: 0.2 .. 0.6 with a
       random sign. A running variance: 0.5 .. 1.5.
    3. Any other vector is a scale: 1 + 0.1 normal, times its module's `weight_scale` where it has one. That optional
       float attribute is the typical size of the module's trained scale, for a norm whose result is not of size 1.
    4. Integers, and buffers that are not saved, stay.

    Why 0.8, and biases far from 0: with 1 and 0.1 normal, the gates of a deep network amplify rounding until
    float32 agrees with float64 to 106 dB only, and a bias near 0 can be wrong unseen. These values leave 130 dB.
    Pooling still cancels one channel in 500 for any one image, so compare on several unlike ones.
    """
    generator = torch.Generator().manual_seed(seed)
    saved = model.state_dict()
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if name in saved and tensor.is_floating_point():
                owner = model.get_submodule(name.rpartition(".")[0])
                scale = float(getattr(owner, "weight_scale", 1.0))
                tensor.copy_(random_values(name, tensor.shape, scale, generator))
    return WeightsSource(kind="random", seed=seed)


def random_values(name: str, shape: torch.Size, weight_scale: float, generator: torch.Generator) -> Tensor:
    """Values for one tensor by the rules of `random_weights`."""
    leaf = name.rpartition(".")[2]
    if len(shape) > 1 and (shape[0] > 1 or "weight" in leaf):
        deviation = GAIN / math.sqrt(max(shape[1:].numel(), 1))
        return deviation * torch.randn(shape, generator=generator, dtype=torch.float64)
    if leaf == "running_var":
        return torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5
    if "bias" in leaf or leaf == "running_mean" or len(shape) > 1:
        signed = 2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1
        return (signed + 0.5 * torch.where(signed < 0, -1, 1)).mul(SHIFT)
    return torch.randn(shape, generator=generator, dtype=torch.float64).mul(SPREAD).add(1).mul(weight_scale)
