"""Any `nn.Module` as one that capture can take: evaluation mode, float32, tensors in, a tuple of named tensors out.

A network that already is like that comes back as it is. Otherwise it is put inside an `Adapter`, which passes inputs
on and picks the tensors out of what the network returns, by the path at which they were found in one trial run.
"""

import copy
import dataclasses
import inspect
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.artifact import TensorSpec
from edgekit.errors import ModelError
from edgekit.intake.source import Built
from edgekit.user_code import run_user_code

Path = tuple[Any, ...]

OUTPUT = "output"
"""The name of a network's only output when the network gives it none."""

LISTED = 4
"""How many modules a note names."""


class Adapter(nn.Module):
    """Calls a network and returns the tensors at some paths of its result."""

    def __init__(self, model: nn.Module, keywords: tuple[str, ...], paths: tuple[Path, ...]) -> None:
        super().__init__()
        self.model = model
        self._keywords = keywords
        self._paths = paths

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        result = call(self.model, self._keywords, inputs)
        found = tuple(at_path(result, path) for path in self._paths)
        return found[0] if len(found) == 1 else found


def adapt(
    model: nn.Module, inputs: tuple[TensorSpec, ...], names: Sequence[str] = (), *, doing: str = "The model"
) -> Built:
    """Makes a network ready for capture; the one given is not changed.

    Args:
        model: The network.
        inputs: What it takes; with several, by keyword where `forward` has parameters of these names.
        names: Names of its outputs, where they are known; as many as it returns tensors.
        doing: What it is, which begins the message when it fails.

    Raises:
        ModelError: It fails on zeros of these shapes, or returns no tensors.
    """
    ready, notes = in_evaluation(unwrapped(model))
    ready, more = in_float32(ready)
    keywords = keyword_names(ready, inputs)
    result = trial(
        copied(ready), inputs, keywords, doing
    )  # some networks keep what they computed, here without weights
    leaves = list(tensors_in(result))
    dropped = [path_name(path) or "the result" for path, value in leaves if not isinstance(value, Tensor)]
    paths = tuple(path for path, value in leaves if isinstance(value, Tensor))
    if not paths:
        raise ModelError(
            f"{doing} returns {type(result).__name__}, in which there is no tensor. Return a tensor, or a tuple, list, "
            "dict or dataclass of tensors."
        )
    chosen = output_names(paths, names, doing, [spec.name for spec in inputs])
    if dropped:
        more = (*more, f"Outputs that are no tensors were left out: {', '.join(dropped)}.")
    plain = isinstance(result, Tensor) or (paths == tuple((i,) for i in range(len(paths))) and type(result) is tuple)
    if plain and not keywords and not dropped:
        return Built(ready, ready, inputs, chosen, (*notes, *more))
    adapter = Adapter(ready, keywords, paths).eval()
    return Built(adapter, ready, inputs, chosen, (*notes, *more))


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside torch.compile and DataParallel.

    Raises:
        ModelError: It is TorchScript, whose code torch.export does not read.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError(
            "The network is TorchScript, which torch.export does not read. Give the nn.Module it was made from."
        )
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return unwrapped(model.module)
    inner = getattr(model, "_orig_mod", None)
    return unwrapped(inner) if isinstance(inner, nn.Module) else model


def in_evaluation(model: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """A copy in evaluation mode, and a note about what that changed; the network itself when it is in it already."""
    training = [(name, module) for name, module in model.named_modules() if module.training]
    if not training:
        return model, ()
    touched = [name or type(module).__name__ for name, module in training if differs_in_training(module)]
    ready = copied(model).eval()
    if not touched:
        return ready, ()
    more = f" and {len(touched) - LISTED} more" if len(touched) > LISTED else ""
    return ready, (
        f"The model came in training mode and is exported in evaluation mode, which matters to "
        f"{', '.join(touched[:LISTED])}{more}.",
    )


def differs_in_training(module: nn.Module) -> bool:
    """Whether a module computes something else in training mode."""
    kind = type(module).__name__
    return any(part in kind for part in ("BatchNorm", "Dropout", "DropPath", "StochasticDepth", "InstanceNorm"))


def in_float32(model: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """A copy on the CPU in float32, and a note about it; the network itself when it is like that already."""
    tensors = [*model.parameters(), *model.buffers()]
    kinds = {str(value.dtype).removeprefix("torch.") for value in tensors if value.is_floating_point()} - {"float32"}
    elsewhere = {value.device.type for value in tensors} - {"cpu"}
    if "meta" in elsewhere:
        raise ModelError("The network's tensors are on the meta device, so it has no weights. Build it on the CPU.")
    if not kinds and not elsewhere:
        return model, ()
    ready = copied(model).cpu().float()
    notes = [f"Weights in {', '.join(sorted(kinds))} were converted to float32."] if kinds else []
    return ready, tuple(notes)


def copied(model: nn.Module) -> nn.Module:
    """A deep copy.

    Raises:
        ModelError: It cannot be copied.
    """
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__} cannot be copied ({error}). Return it from the callable in evaluation mode, in "
            "float32 and on the CPU."
        ) from error


def keyword_names(model: nn.Module, inputs: tuple[TensorSpec, ...]) -> tuple[str, ...]:
    """The inputs' names, when there are several and all of them are parameters of `forward`; otherwise nothing."""
    names = tuple(spec.name for spec in inputs)
    return names if len(names) > 1 and set(names) <= set(inspect.signature(model.forward).parameters) else ()


def input_names(model: nn.Module, examples: int, asked: Collection[str] = ()) -> tuple[str, ...]:
    """Names of the parameters of `forward` that get a tensor: those without a default, and as many more as are wanted.

    Args:
        model: The network.
        examples: How many example inputs it came with.
        asked: Names for which a size was asked.
    """
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [each for each in inspect.signature(model.forward).parameters.values() if each.kind in positional]
    needed = [index for index, each in enumerate(parameters) if each.default is each.empty or each.name in asked]
    number = max([examples, *(index + 1 for index in needed)])
    names = [each.name for each in parameters[:number]]
    return (*names, *(f"input_{index}" for index in range(len(names), number)))


def trial(model: nn.Module, inputs: tuple[TensorSpec, ...], keywords: tuple[str, ...], doing: str) -> object:
    """What the network returns for zeros.

    Raises:
        ModelError: It fails on them.
    """
    zeros = tuple(torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in inputs)
    sizes = ", ".join("x".join(map(str, spec.shape)) for spec in inputs)
    with torch.no_grad():
        return run_user_code(f"{doing}, run on an input of {sizes},", lambda: call(model, keywords, zeros))


def call(model: nn.Module, keywords: tuple[str, ...], inputs: tuple[Tensor, ...]) -> object:
    """Calls a network by keyword or by position."""
    return model(**dict(zip(keywords, inputs, strict=True))) if keywords else model(*inputs)


def tensors_in(value: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """Every leaf of a nested result with its path, tensors and others, in order."""
    if isinstance(value, Mapping):
        for key in value:
            yield from tensors_in(value[key], (*path, key))
    elif isinstance(value, tuple) and (names := getattr(value, "_fields", ())):
        for name in names:
            yield from tensors_in(getattr(value, name), (*path, name))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from tensors_in(item, (*path, index))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from tensors_in(getattr(value, field.name), (*path, field.name))
    else:
        yield path, value


def at_path(value: Any, path: Path) -> Tensor:
    """The leaf at a path."""
    for step in path:
        by_name = isinstance(step, str) and not isinstance(value, Mapping)
        value = getattr(value, step) if by_name else value[step]
    assert isinstance(value, Tensor), "the trial run found a tensor here"  # noqa: S101
    return value


def path_name(path: Path, kind: str = OUTPUT) -> str:
    """A path as a name that every format takes: keys and field names joined, lone numbers after the kind."""
    text = "_".join(re.sub(r"\W", "_", str(step)) for step in path)
    return f"{kind}_{text}" if text[:1].isdigit() else text


def output_names(
    paths: tuple[Path, ...], names: Sequence[str], doing: str, taken: Sequence[str] = ()
) -> tuple[str, ...]:
    """A name for each output: those given, else by the paths, else `output`; all different, and none that is taken.

    Raises:
        ModelError: Names were given, but not as many as there are outputs.
    """
    if names and len(names) != len(paths):
        raise ModelError(f"{doing} returns {len(paths)} tensors, but {len(names)} output names: {', '.join(names)}.")
    return all_different(names or [path_name(path) or OUTPUT for path in paths], taken)


def all_different(names: Iterable[str], taken: Sequence[str] = ()) -> tuple[str, ...]:
    """Names with numbers behind those that come again or are taken."""
    chosen: list[str] = []
    for name in names:
        number, unique = 1, name
        while unique in chosen or unique in taken:
            number += 1
            unique = f"{name}_{number}"
        chosen.append(unique)
    return tuple(chosen)
