"""How much memory a network needs, by hand, and that a machine with less says so before it runs out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.artifact import Shape
from edgekit.capture import capture
from edgekit.errors import EnvironmentProblemError
from edgekit.memory import FLOAT64_BYTES, check_memory, peak_bytes
from edgekit.network import prepare
from edgekit.plan import Request, make_plan
from edgekit.program import Program


class Function(nn.Module):
    """A function of the inputs."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> object:
        return self.function(*inputs)


def program_of(function: Callable[..., object], *shapes: Shape) -> Program:
    return capture(Function(function).eval(), *shapes)


def peak(function: Callable[..., object], *shapes: Shape) -> int:
    """The most numbers a function of inputs of these shapes keeps at once, its inputs among them."""
    bytes_needed = peak_bytes(program_of(function, *shapes))
    assert bytes_needed % FLOAT64_BYTES == 0
    return bytes_needed // FLOAT64_BYTES


def test_a_value_lives_from_where_it_is_made_to_where_it_is_last_read() -> None:
    # x and its sine, then sine and cosine of it, then the cosine and its exponential: never three.
    assert peak(lambda x: x.sin().cos().exp(), (10, 10)) == 200
    # The sine is read again at the end, so it lies beside the other two.
    assert peak(lambda x: (s := x.sin()).cos().exp() + s, (10, 10)) == 300


def test_the_widest_place_decides() -> None:
    assert peak(lambda x: x.repeat(1, 50).sin().sum(1), (4, 10)) == 2 * 50 * 40
    assert peak(lambda x: x.repeat(1, 50).sum(1), (4, 10)) == 40 + 50 * 40


def test_all_inputs_and_all_outputs_count() -> None:
    assert peak(lambda a, b: (a.sin(), b.cos()), (10,), (7,)) == 10 + 7 + 10
    assert peak(lambda a, b: (a.sin(), a.cos(), b.exp()), (10,), (7,)) == 20 + 10 + 7


def test_the_result_of_a_branch_waits_for_the_other() -> None:
    assert peak(lambda x: torch.cat([x.sin(), x.cos(), x.exp()], dim=1), (1, 100)) == 600


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.reshape(2, 50),
        lambda x: x.permute(1, 0),
        lambda x: x.unsqueeze(0).transpose(1, 2),
        lambda x: x[:, 2:5].flatten(),
        lambda x: x.split(4, dim=1)[1],
        lambda x: x.chunk(5)[0].expand(3, -1, -1),
    ],
    ids=["reshape", "permute", "transpose", "slice", "split", "expand"],
)
def test_looking_at_memory_another_way_takes_none_and_keeps_it(view: Callable[[Tensor], Tensor]) -> None:
    made = view(torch.zeros(10, 10)).numel()
    assert peak(lambda x: view(x).sin(), (10, 10)) == 100 + made


def test_weights_are_there_all_the_time_and_in_float64() -> None:
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5, bias=False)).eval()
    weights = 20 * 30 + 30 + 30 * 5
    assert peak_bytes(capture(model, (1, 20))) == FLOAT64_BYTES * (weights + 30 + 30)


def test_tied_weights_are_there_once() -> None:
    tied = nn.Linear(8, 8)
    program = capture(nn.Sequential(tied, nn.ReLU(), tied).eval(), (1, 8))
    assert peak_bytes(program) == FLOAT64_BYTES * (8 * 8 + 8 + 16)


def test_an_operator_of_several_results_keeps_all_of_them() -> None:
    assert peak(lambda x: functional.adaptive_max_pool2d(x, 5, return_indices=True)[0], (1, 1, 10, 10)) == 100 + 2 * 25


def with_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free))


def test_what_fits_to_the_last_byte_is_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    program = program_of(lambda x: x.sin(), (10, 10))
    with_free(monkeypatch, 200 * FLOAT64_BYTES)
    check_memory(program)
    with_free(monkeypatch, 200 * FLOAT64_BYTES - 1)
    with pytest.raises(EnvironmentProblemError):
        check_memory(program)


def test_what_does_not_fit_is_refused_with_both_figures_and_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    program = program_of(lambda x: x.repeat(1, 3 << 17).sin(), (1, 1 << 10))  # captured, never run
    with_free(monkeypatch, 3 << 29)
    message = (
        r"^Running this network in float64, to compare with, takes at least 6\.0 GiB of memory; 1\.5 GiB are free\. "
        r"Choose a smaller size with --input, or a machine with more memory\.$"
    )
    with pytest.raises(EnvironmentProblemError, match=message) as caught:
        check_memory(program)
    assert caught.value.exit_code == 3


def test_an_export_stops_before_it_would_run_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        begun.append(name)
        yield

    with_free(monkeypatch, 1 << 20)
    plan = make_plan(Request("parcnetv2_xt", formats=("onnx",), shape=(1, 3, 32, 32)))
    with pytest.raises(EnvironmentProblemError, match=r"takes at least 0\.1 GiB of memory; 0\.0 GiB are free"):
        prepare(plan, stage)
    assert begun == ["build", "capture"]
