"""What every source of a network can do, and what it makes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from edgekit.artifact import ModelCard, Shape, TensorSpec
from edgekit.errors import MisuseError, ModelError, UnknownNameError

if TYPE_CHECKING:
    from torch import nn

WeightsPolicy = Literal["seeded", "shipped", "own", "fixed"]
"""Without --weights: random from a seed, those edgekit ships unless a seed is given, or those the network came with;
`fixed` ones cannot be replaced."""

Asked = Shape | Mapping[str, Shape] | None
"""The input size asked for: of the one input, or of each by name."""

FORMS = (
    "MODEL can also be timm:NAME, package.module:callable, path/to/file.py:callable, a torch.export program (.pt2) or "
    "an .onnx file."
)


class UnknownModelError(UnknownNameError):
    """A MODEL that is no name and none of the other forms.

    Args:
        text: MODEL as the user wrote it.
        known: Every name.
    """

    def __init__(self, text: str, known: Iterable[str]) -> None:
        super().__init__("model", text, known, "edgekit models")
        self.args = (f"{self.args[0]} {FORMS}",)


@dataclass(frozen=True, slots=True)
class Built:
    """A network, ready to be captured.

    Attributes:
        model: In evaluation mode; takes the inputs in order and returns one tensor, or a tuple of them in order.
        original: The network inside an adapter, whose names a checkpoint has; often `model` itself.
        outputs: Names of what `model` returns, in order.
        notes: What had to be changed or assumed, one sentence each.
    """

    model: "nn.Module" = field(repr=False)
    original: "nn.Module" = field(repr=False)
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Source(Protocol):
    """Where a network comes from.

    Attributes:
        text: MODEL as the user wrote it, which is how to name it again.
        name: A name for files.
        weights: What the weights are without --weights.
    """

    @property
    def text(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def weights(self) -> WeightsPolicy: ...

    def card(self, asked: Asked = None) -> ModelCard:
        """The data sheet, at the input size asked for where the network has none of its own."""
        ...

    def inputs(self, asked: Asked = None) -> tuple[TensorSpec, ...]:
        """What the network takes, at the input size asked for."""
        ...

    def identity(self) -> dict[str, str] | None:
        """What decides the network besides its weights and input size, for a cache key.

        None where no name or hash can: then the network is captured first, and its program's fingerprint is the key.
        """
        ...

    def build(self, asked: Asked = None, kernel_policy: str | None = None) -> Built:
        """The network at an input size, in evaluation mode."""
        ...


def check_inputs(built: Built) -> tuple[TensorSpec, ...]:
    """What a network takes.

    Raises:
        ModelError: It takes something else than float32 tensors.
    """
    for spec in built.inputs:
        if spec.dtype != "float32":
            raise ModelError(
                f"Input {spec.name!r} is {spec.dtype}; edgekit exports networks that take float32 tensors. Give a "
                "callable that returns a module with this input fixed inside, or one that takes it as float32."
            )
    return built.inputs


def shapes_by_name(asked: Asked, names: Sequence[str], text: str) -> Mapping[str, Shape]:
    """The sizes asked for, by the name of the input.

    Args:
        asked: What --input says.
        names: The network's inputs.
        text: MODEL as the user wrote it.

    Raises:
        MisuseError: One input's size was asked for of a network with several, or that of an input it does not have.
    """
    if asked is None:
        return {}
    if isinstance(asked, tuple):
        if len(names) > 1:
            raise MisuseError(f"{text} takes {len(names)} inputs. Give their sizes: {asking_for(names)}")
        return {names[0]: asked}
    for name in asked:
        if name not in names:
            raise MisuseError(f"{text} has no input {name!r}; it has {', '.join(names)}.")
    return asked


def asking_for(names: Sequence[str]) -> str:
    """How to give the sizes of several inputs."""
    return " ".join(f"--input {name}=1x3x224x224" for name in names)


def one_shape(asked: Asked, name: str) -> Shape | None:
    """The size asked for a network's one input, given with or without the input's name.

    Raises:
        ModelError: It was given for other inputs.
    """
    if asked is None or isinstance(asked, tuple):
        return asked
    if len(asked) != 1 or name not in asked:
        raise ModelError(f"The network takes one input, named {name!r}; sizes were given for {', '.join(asked)}.")
    return asked[name]
