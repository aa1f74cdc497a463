"""Networks with other outputs, modes and precisions than capture takes."""

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekit.artifact import SizeRule, TensorSpec
from edgekit.errors import ModelError
from edgekit.intake.adapt import Adapter, adapt
from edgekit.intake.sheet import Sheet, make_card

INPUT = (TensorSpec(name="input", shape=(1, 3, 8, 8), layout="NCHW"),)

Pair = namedtuple("Pair", ["low", "high"])


@dataclass
class Found:
    boxes: Tensor
    scores: Tensor | None = None


class ModelOutput(OrderedDict[str, Any]):
    """As in other libraries: a dictionary whose entries are attributes too."""


class Net(nn.Module):
    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.wrap = wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.conv(x))


CASES: dict[str, tuple[Callable[[Tensor], Any], tuple[str, ...]]] = {
    "tensor": (lambda y: y, ("output",)),
    "dict": (lambda y: {"out": y, "aux": y + 1}, ("out", "aux")),
    "tuple": (lambda y: (y, y + 1), ("output_0", "output_1")),
    "list": (lambda y: [y, y + 1, y + 2], ("output_0", "output_1", "output_2")),
    "named tuple": (lambda y: Pair(y, y + 1), ("low", "high")),
    "dataclass": (lambda y: Found(y, y + 1), ("boxes", "scores")),
    "dataclass with None": (lambda y: Found(y), ("boxes",)),
    "mapping": (lambda y: ModelOutput(logits=y, hidden=(y, y + 1)), ("logits", "hidden_0", "hidden_1")),
    "nested": (lambda y: {"levels": [y, {"p.3": y}]}, ("levels_0", "levels_1_p_3")),
    "number beside": (lambda y: (y, 3), ("output_0",)),
    "tuple of one": (lambda y: (y,), ("output_0",)),
    "same name twice": (lambda y: {"a.b": y, "a_b": y + 1}, ("a_b", "a_b_2")),
}


def test_an_output_never_has_the_name_of_an_input() -> None:
    inputs = (TensorSpec(name="out", shape=(1, 3, 8, 8), layout="NCHW"),)
    built = adapt(Net(lambda y: {"out": y, "out_2": y + 1, "aux": y + 2}).eval(), inputs)
    assert built.outputs == ("out_2", "out_2_2", "aux")
    assert adapt(Net(lambda y: y).eval(), inputs, ("out",)).outputs == ("out_2",)


@pytest.mark.parametrize(("wrap", "names"), CASES.values(), ids=CASES.keys())
def test_outputs_become_named_tensors(wrap: Callable[[Tensor], Any], names: tuple[str, ...]) -> None:
    built = adapt(Net(wrap).eval(), INPUT)
    assert built.outputs == names
    image = torch.randn(1, 3, 8, 8)
    program = torch.export.export(built.model, (image,)).module()
    result = program(image)
    flat = (result,) if isinstance(result, Tensor) else result
    assert len(flat) == len(names)
    torch.testing.assert_close(flat[0], built.original.get_submodule("conv")(image))
    assert list(built.original.state_dict()) == ["conv.weight", "conv.bias"]


def test_plain_network_is_not_wrapped() -> None:
    model = Net(lambda y: y).eval()
    built = adapt(model, INPUT)
    assert built.model is built.original is model
    assert not isinstance(adapt(Net(lambda y: (y, y)).eval(), INPUT).model, Adapter)


def test_dropped_outputs_are_noted() -> None:
    assert adapt(Net(lambda y: Found(y)).eval(), INPUT).notes == ("Outputs that are no tensors were left out: scores.",)


def test_names_given_are_used() -> None:
    assert adapt(Net(lambda y: (y, y)).eval(), INPUT, ("a", "b")).outputs == ("a", "b")
    with pytest.raises(ModelError, match=r"returns 2 tensors, but 1 output names: a"):
        adapt(Net(lambda y: (y, y)).eval(), INPUT, ("a",))


@pytest.mark.parametrize("value", [None, 3, "text", [], {}], ids=str)
def test_no_tensor_is_refused(value: object) -> None:
    with pytest.raises(ModelError, match=r"in which there is no tensor. Return a tensor, or a tuple, list"):
        adapt(Net(lambda _: value).eval(), INPUT)


def test_training_mode_is_left_on_a_copy() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), *(nn.BatchNorm2d(4) for _ in range(5)), nn.Dropout())
    built = adapt(model, INPUT)
    assert model.training
    assert not any(module.training for module in built.model.modules())
    assert built.notes == (
        "The model came in training mode and is exported in evaluation mode, which matters to 1, 2, 3, 4 and 2 more.",
    )


def test_part_in_training_mode_is_found() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout()).eval()
    model[1].train()
    assert "matters to 1." in adapt(model, INPUT).notes[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precision_becomes_float32(dtype: torch.dtype) -> None:
    model = Net(lambda y: y).eval().to(dtype)
    built = adapt(model, INPUT)
    assert built.notes == (f"Weights in {str(dtype).removeprefix('torch.')} were converted to float32.",)
    assert {value.dtype for value in built.model.parameters()} == {torch.float32}
    assert {value.dtype for value in model.parameters()} == {dtype}


def test_wrappers_are_taken_off() -> None:
    model = Net(lambda y: y).eval()
    assert adapt(nn.DataParallel(model), INPUT).model is model
    assert adapt(torch.compile(model), INPUT).model is model  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_refused() -> None:
    with pytest.raises(ModelError, match=r"is TorchScript, which torch.export does not read"):
        adapt(torch.jit.script(nn.ReLU()), INPUT)


class Cached(Net):
    """Keeps what it computed from its weights, as some attention layers keep their bias."""

    kept: Tensor | None = None

    def forward(self, x: Tensor) -> Any:
        if self.kept is None:
            self.kept = self.conv.weight.sum()
        return super().forward(x) + self.kept


def test_trial_leaves_nothing_in_the_network() -> None:
    built = adapt(Cached(lambda y: y).eval(), INPUT)
    assert make_card("net", "user", Sheet(), built, SizeRule(), ()).macs == 36 * 4 * 27
    assert isinstance(built.model, Cached)
    assert built.model.kept is None


def test_meta_device_is_refused() -> None:
    with torch.device("meta"):
        model = nn.Conv2d(3, 4, 3)
    with pytest.raises(ModelError, match=r"on the meta device, so it has no weights"):
        adapt(model.eval(), INPUT)
