"""A network from a function, class or module object of the user's: `package.module:callable`, `file.py:callable`.

It is called without arguments and returns an `nn.Module`, or the module and example inputs. It runs under torch seed 0,
so weights it does not load are the same every time. The working folder is importable, as for `python -m`; for a file,
its own folder is too, as for `python file.py`.
"""

import functools
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekit.artifact import ModelCard, Shape, SizeRule, TensorSpec
from edgekit.errors import ModelError
from edgekit.intake.adapt import adapt, input_names, unwrapped
from edgekit.intake.sheet import DEFAULT_SHAPE, Sheet, make_card, read_sheet
from edgekit.intake.source import Asked, Built, WeightsPolicy, asking_for, shapes_by_name
from edgekit.intake.zoo import INPUT_NAME, no_kernel_policy
from edgekit.user_code import run_user_code
from edgekit.user_module import arguments_needed, find, importable, load_file, load_module

SEED = 0


class CallableSource:
    """A network that the user's own code makes, with the weights it comes with."""

    weights: WeightsPolicy = "own"

    def __init__(self, text: str, attribute: str, *, module: str = "", file: Path | None = None) -> None:
        self.text = text
        self.name = f"{file.stem if file else module.rpartition('.')[2]}-{attribute}".replace(".", "-")
        self._attribute = attribute
        self._module = module
        self._file = file
        self._built: dict[str, Built] = {}

    def inputs(self, asked: Asked = None) -> tuple[TensorSpec, ...]:
        return self.build(asked).inputs

    def identity(self) -> None:
        """None: what code computes depends on everything it imports and reads, so no hash of a file is enough."""

    def card(self, asked: Asked = None) -> ModelCard:
        sheet = self._called[2]
        notes = (
            ()
            if asked or sheet.input_shape or self._called[1]
            else (
                f"No input size is known; {'x'.join(map(str, DEFAULT_SHAPE))} is assumed. Give another with --input.",
            )
        )
        return make_card(self.name, "user", sheet, self.build(asked), SizeRule(), notes)

    def build(self, asked: Asked = None, kernel_policy: str | None = None) -> Built:
        no_kernel_policy(self.text, kernel_policy)
        key = repr(asked)
        if key not in self._built:
            model, examples, sheet = self._called
            inputs = input_specs(model, asked, examples, sheet, self.text)
            self._built[key] = adapt(model, inputs, sheet.outputs, doing=self.text)
        return self._built[key]

    @functools.cached_property
    def _called(self) -> tuple[nn.Module, tuple[Tensor, ...], Sheet]:
        """The network, the example inputs that came with it, and its data sheet; the user's code runs once."""
        with importable(self._file), torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            found = find(load_file(self._file) if self._file else load_module(self._module), self._attribute, self.text)
            model, examples = call(found, self.text)
        return model, examples, read_sheet(found, model)


def call(found: object, text: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The network a callable returns, and the example inputs with it.

    Raises:
        ModelError: It fails, takes arguments, or returns something else.
    """
    if isinstance(found, nn.Module):
        return found, ()
    if not callable(found):
        raise ModelError(f"{text} is {type(found).__name__}. Give a function or class that returns an nn.Module.")
    if needed := arguments_needed(found):
        raise ModelError(
            f"{text} needs arguments: {', '.join(needed)}. It is called without any, so write a function that fills "
            f"them in: def build(): return {text.rpartition(':')[2]}(...)"
        )
    result = run_user_code(text, found)
    model, examples = result if isinstance(result, tuple) and len(result) == 2 else (result, ())
    examples = tuple(examples) if isinstance(examples, (tuple, list)) else (examples,)
    if not isinstance(model, nn.Module) or not all(isinstance(example, Tensor) for example in examples):
        held = "a module, a script or the weights alone" if isinstance(result, Mapping) else type(result).__name__
        held = "a dictionary, perhaps weights alone" if isinstance(result, Mapping) else held
        raise ModelError(f"{text} returned {held}. Return an nn.Module, or (module, example inputs as tensors).")
    return model, examples


def input_specs(
    model: nn.Module, asked: Asked, examples: tuple[Tensor, ...], sheet: Sheet, text: str
) -> tuple[TensorSpec, ...]:
    """The inputs of a network: as asked for, else as the examples, else as its sheet says, else one default image.

    Raises:
        ModelError: The network takes several inputs and not all their sizes are known.
    """
    names = input_names(unwrapped(model), len(examples), asked if isinstance(asked, Mapping) else ())
    if len(names) < 2 and not (isinstance(asked, Mapping) and tuple(asked) == names):
        names = (INPUT_NAME,)
    shapes = shapes_by_name(asked, names, text)
    if len(names) == 1:
        example = tuple(examples[0].shape) if examples else None
        kind = dtype_of(examples[0]) if examples else "float32"
        return (spec(names[0], shapes.get(names[0]) or example or sheet.input_shape or DEFAULT_SHAPE, kind),)
    known = {name: spec(name, tuple(each.shape), dtype_of(each)) for name, each in zip(names, examples, strict=False)}
    if missing := [name for name in names if name not in shapes and name not in known]:
        raise ModelError(
            f"{text} takes {len(names)} inputs. Give the sizes of {', '.join(missing)}: {asking_for(missing)}"
        )
    kinds = {name: each.dtype for name, each in known.items()}
    return tuple(
        spec(name, shapes[name], kinds.get(name, "float32")) if name in shapes else known[name] for name in names
    )


def dtype_of(tensor: Tensor) -> str:
    """A tensor's dtype as a spec has it."""
    return str(tensor.dtype).removeprefix("torch.")


def spec(name: str, shape: Shape, dtype: str) -> TensorSpec:
    """The spec of one input; four sides are an image."""
    return TensorSpec(name=name, shape=shape, dtype=dtype, layout="NCHW" if len(shape) == 4 else "")
