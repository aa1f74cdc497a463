"""Networks that cannot be captured: the message names the line of the user's code and what to change."""

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekit.intake.explain import ADVICE, explain_capture_error, explain_program

SHAPE = (1, 3, 8, 8)


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)


class Branch(Base):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        if y.sum() > 0:  # here
            y = y + 1
        return y


class Choice(Base):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.max() > 0 else x  # here


class Loop(Base):
    def forward(self, x: Tensor) -> Tensor:
        while x.abs().max() > 1:  # here
            x = x / 2
        return x


class Assertion(Base):
    def forward(self, x: Tensor) -> Tensor:
        assert x.max() < 10, "too large"  # here
        return x


class Item(Base):
    def forward(self, x: Tensor) -> Tensor:
        count = int(self.conv(x).abs().sum())  # here
        return x[:, :, :count]


class Numpy(Base):
    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.conv(x).detach().numpy())  # here


class Cuda(Base):
    def forward(self, x: Tensor) -> Tensor:
        return x.cuda() + 1  # here


class Raises(Base):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError(f"bad thing of {x.ndim} axes")  # here


class Sizes(Base):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(self.conv(x), torch.zeros(3, 7))  # here


class Mask(Base):
    def forward(self, x: Tensor) -> Tensor:
        kept: Tensor = x[x > 0] * 2  # here
        return kept


class Random(Base):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand(1)  # here


class Dropped(Base):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x)  # here


class Normed(Base):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(x, None, None, training=True)  # here


class Listed(Base):
    def forward(self, x: Tensor) -> Tensor:
        first: float = x.flatten().tolist()[0]  # here
        result: Tensor = x * first
        return result


class Object(Base):
    def forward(self, x: Tensor) -> Any:
        return vars(self), x, Base()


def line_of(kind: type[nn.Module]) -> int:
    lines, start = inspect.getsourcelines(kind)
    return start + next(index for index, line in enumerate(lines) if "# here" in line)


def explained(model: nn.Module) -> str:
    """The message, whether torch fails or the program it makes cannot be used."""
    try:
        program = torch.export.export(model.eval(), (torch.zeros(SHAPE),), strict=False).module(check_guards=False)
    except Exception as error:  # noqa: BLE001 - whatever torch raises is what is explained
        return explain_capture_error(error, model)
    message = explain_program(program, model)
    assert message is not None
    return message


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        (Branch, ADVICE["branch"]),
        (Choice, ADVICE["branch"]),
        (Loop, ADVICE["loop"]),
        (Assertion, ADVICE["assert"]),
        (Item, ADVICE["value"]),
        (Numpy, ADVICE["numpy"]),
        (Cuda, ADVICE["cuda"]),
        (Raises, "ValueError: bad thing of 4 axes. Does the model run at this input size outside edgekit?"),
        (Sizes, "RuntimeError: a and b must have same reduction dim"),
        (Mask, ADVICE["size"]),
        (Random, ADVICE["random"]),
        (Dropped, ADVICE["dropout"]),
        (Normed, ADVICE["train"]),
        (Listed, ADVICE["value"]),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_message_names_the_line_and_the_change(kind: type[nn.Module], advice: str) -> None:
    message = explained(kind())
    assert message.startswith(f"{kind.__name__} cannot be ")
    assert f"test_explain.py:{line_of(kind)}, in forward (`" in message
    assert advice in message
    assert "\n" not in message


def test_strange_output_is_explained() -> None:
    assert explained(Object()) == f"Object cannot be captured. {ADVICE['output']}"


def test_sound_program_needs_no_explanation() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()).eval()
    assert explain_program(torch.export.export(model, (torch.zeros(SHAPE),)).module(check_guards=False), model) is None
