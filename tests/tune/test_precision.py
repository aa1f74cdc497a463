"""Layers measured in float and in int8: with given figures what becomes of them, and a small network for real."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from edgekit.dense_layer import DenseLayer, parse
from edgekit.errors import EnvironmentProblemError
from edgekit.plan import Request, make_plan
from edgekit.tune import precision as measuring
from edgekit.tune.artifacts import Contest
from edgekit.tune.layer_probe import FLOAT, INT8
from edgekit.tune.measure import DeviceBench, Measured, Scene, measure_in_turn, open_bench
from edgekit.tune.precision import SCATTER, layer_entry, tune_layers, tune_precision
from edgekit.tune.whole_precision import (
    AS_FLOAT,
    LOWERED,
    MEASURED,
    STRUCTURE,
    WholePrecision,
    faster_than_measured,
    settled,
)
from edgekit.tuning.precision import LayerPlace
from edgekit.tuning.tables import keep, own_tables
from tests.tables import layer_entry as row
from tests.tune.test_run import SCENE

COUNTING = Scene("armv7l", "Cortex-A15", 1, "instructions", emulated=True, runtimes=frozenset())

CONV, HEAD = "convolution 8>8 at 4x4: 1x1", "linear 8>5"
LAYER = parse(CONV)
X = np.linspace(-1, 1, 64).reshape(1, 4, 4, 4)


def taken(exact: float, rounded: float, **changed: Any) -> Measured:
    costs = {FLOAT: [exact] * 12, INT8: [rounded] * 12}
    given: dict[str, Any] = {
        "package": "onnxruntime 1.31.1",
        "costs": costs,
        "fastest": (FLOAT,) if exact < rounded else (INT8,),
        "outputs": dict.fromkeys(costs, X.astype(np.float32)),
        "failures": {},
    }
    return Measured(**{**given, **changed})


@pytest.mark.parametrize(
    ("exact", "rounded", "precision", "why"), [(5.0, 3.0, "int8", "faster"), (3.0, 5.0, "fp32", "slower")]
)
def test_an_entry_has_both_costs_and_what_follows(exact: float, rounded: float, precision: str, why: str) -> None:
    found = layer_entry(LAYER, "static", [taken(exact, rounded), taken(9.0, 8.0)])
    assert (found.fp32, found.int8, found.between) == (exact, rounded, (9.0, 8.0))
    assert (found.precision, found.why, found.rounds) == (precision, why, 12)


def test_what_nothing_tells_apart_is_equal() -> None:
    found = layer_entry(LAYER, "dynamic", [taken(5.0, 4.98, fastest=(INT8, FLOAT))])
    assert (found.precision, found.why, found.between) == ("fp32", "equal", None)


@pytest.mark.parametrize(("share", "why"), [(0.5 * SCATTER, "equal"), (2 * SCATTER, "faster")])
def test_counts_are_told_apart_by_less_than_times(share: float, why: str) -> None:
    measured = taken(1e6, 1e6 * (1 - share), fastest=(INT8, FLOAT))
    assert layer_entry(LAYER, "dynamic", [measured], counted=True).why == why


# -- every layer of a network -----------------------------------------------------------------------------------------


@dataclass
class Figures:
    """A place where every contest has the next of these answers."""

    answers: list[Measured]
    scene: Scene = SCENE
    asked: list[float] = field(default_factory=list)

    def measure(self, contest: Contest, runtime: str, seconds: float) -> Measured:  # noqa: ARG002 - given beforehand
        self.asked.append(seconds)
        return self.answers[len(self.asked) - 1]


class Subject:
    """What `tune_layers` looks at of a network: three layers, two of them alike."""

    quantizer = None

    class exporter:  # noqa: N801 - stands for an attribute
        runtime = "onnxruntime"

    class recipe:  # noqa: N801 - stands for an attribute
        name = "dynamic_wi8"

    class choice:  # noqa: N801 - stands for an attribute
        places = (
            LayerPlace("a", LAYER, "dynamic"),
            LayerPlace("b", parse(HEAD), "dynamic"),
            LayerPlace("c", LAYER, "dynamic"),
        )


@pytest.fixture
def unwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """No files are written for a contest: their figures are given."""

    def contests(layer: DenseLayer, *_: object) -> tuple[Contest, ...]:
        files: dict[str, tuple[Path, ...]] = {name: (Path(str(layer)),) for name in (FLOAT, INT8)}
        return (Contest(files, {}, dict.fromkeys(files, X)),)

    monkeypatch.setattr(measuring, "precision_contests", contests)


def tuned(bench: Any, seconds: float = 10.0, notes: list[str] | None = None) -> Any:
    subject: Any = Subject
    return tune_layers(subject, bench, seconds, (notes if notes is not None else []).append)


@pytest.mark.usefixtures("unwritten")
def test_layers_that_are_alike_are_measured_once() -> None:
    bench = Figures([taken(5.0, 3.0), taken(2.0, 4.0)])
    found = tuned(bench)

    assert [(str(each.layer), each.precision) for each in found.table.layers] == [(CONV, "int8"), (HEAD, "fp32")]
    assert found.places == {CONV: 2, HEAD: 1}
    assert (found.table.package, found.table.entries, found.wrong, found.unmeasured) == (
        "onnxruntime 1.31.1",
        (),
        (),
        (),
    )
    assert bench.asked[0] == pytest.approx(5.0, abs=0.5)
    assert bench.asked[1] == pytest.approx(10.0, abs=0.5)


@pytest.mark.usefixtures("unwritten")
def test_what_is_wrong_in_int8_is_never_chosen_and_says_why() -> None:
    far = {FLOAT: X.astype(np.float32), INT8: (1.2 * X).astype(np.float32)}
    lost = taken(2.0, 2.0, costs={FLOAT: [2.0]}, outputs={FLOAT: far[FLOAT]}, failures={INT8: "no such operator"})
    found = tuned(Figures([taken(5.0, 3.0, outputs=far), lost]))

    assert [(each.why, each.precision, each.saved) for each in found.table.layers] == [("wrong", "fp32", 0.0)] * 2
    assert [each.reason for each in found.wrong] == ["It is wrong: 14.0 dB", "It does not run: no such operator"]


@pytest.mark.usefixtures("unwritten")
def test_what_was_disturbed_is_in_no_table() -> None:
    notes: list[str] = []
    found = tuned(Figures([taken(5.0, 3.0, disturbance="Others ran."), taken(2.0, 4.0)]), notes=notes)
    assert ([str(each.layer) for each in found.table.layers], found.unmeasured) == ([HEAD], (CONV,))
    assert notes == [f"{CONV} was not measured. Others ran."]
    with pytest.raises(EnvironmentProblemError, match="Nothing was measured in onnxruntime"):
        tuned(Figures([taken(5.0, 3.0, disturbance="Others ran.")] * 2), notes=[])


def test_without_time_nothing_is_measured() -> None:
    contests = [Contest({}, {}, {})] * 2
    assert list(measure_in_turn(Figures([]), contests, "onnxruntime", 0.0)) == [None, None]


def test_what_is_counted_is_counted_in_one_job(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, nothing = [], [taken(1.0, 2.0)] * 3

    def together(_: DeviceBench, contests: Sequence[Contest], runtime: str) -> list[Measured]:
        jobs.append((len(contests), runtime))
        return nothing

    device: Any = None
    monkeypatch.setattr(DeviceBench, "measure_together", together)
    assert list(measure_in_turn(DeviceBench(COUNTING, device), [Contest({}, {}, {})] * 3, "tflite", 0.0)) == nothing
    assert jobs == [(3, "tflite")]


# -- the whole network ------------------------------------------------------------------------------------------------


def variants(**costs: float) -> list[WholePrecision]:
    names = {"float": AS_FLOAT, "lowered": LOWERED, "structure": STRUCTURE, "measured": MEASURED}
    return [
        WholePrecision(name=names[each], cost=cost, saved=0.0, predicted=0.0, layers=0, bytes=1, snr_db=40.0)
        for each, cost in costs.items()
    ]


@pytest.mark.parametrize(
    ("costs", "unit", "best"),
    [
        ({"float": 10.0, "lowered": 8.0, "measured": 9.0, "structure": 11.0}, "ms", None),
        ({"float": 10.0, "lowered": 10.0, "measured": 10.1, "structure": 11.0}, "ms", None),  # within two percent
        ({"float": 10.0, "lowered": 10.0, "measured": 10.1, "structure": 11.0}, "instructions", AS_FLOAT),
        ({"float": 10.0, "lowered": 10.0, "measured": 10.5, "structure": 9.0}, "ms", STRUCTURE),
        ({"float": 10.0, "lowered": 9.0, "structure": 9.5}, "ms", STRUCTURE),  # nothing pays alone
        ({"float": 10.0, "lowered": 9.0, "structure": 12.0}, "ms", None),
    ],
)
def test_a_network_that_is_faster_otherwise_is_found(costs: dict[str, float], unit: str, best: str | None) -> None:
    found = faster_than_measured(variants(**costs), unit)
    assert (found.name if found else None) == best


def test_layers_get_what_the_whole_network_is_faster_with() -> None:
    faster = row(CONV, 5.0, 3.0)
    assert [settled(faster, name).precision for name in (AS_FLOAT, STRUCTURE)] == ["fp32", "int8"]
    assert settled(faster, AS_FLOAT).why == "whole network"
    wrong = replace(faster, why="wrong", precision="fp32")
    assert settled(wrong, STRUCTURE) == wrong


# -- for real ---------------------------------------------------------------------------------------------------------

NET = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 1), nn.GELU(), nn.Conv2d(32, 32, 1),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5)).eval(), torch.zeros(1, 3, 32, 32)
"""


@pytest.mark.slow
def test_a_network_is_measured_layer_by_layer_and_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.tune.measure.crowding", lambda *_: None)
    (tmp_path / "net.py").write_text(NET)
    plan = make_plan(Request(f"{tmp_path / 'net.py'}:build", target="host", formats=("onnx",), out=tmp_path / "out"))
    with open_bench("local", 1, print) as bench:
        (found,) = tune_precision(plan, "int8", bench, 4.0, lambda _: nullcontext(), print)

    assert found.recipe == "mixed_wi8_ai8"
    assert found.places == {
        "convolution 3>32 at 32x32: 3x3 /2x2 padded 1x1x1x1, relu": 1,
        "convolution 32>32 at 16x16: 1x1": 2,
        "linear 32>5": 1,
    }
    assert {str(each.layer) for each in found.table.layers} == found.places.keys()
    assert [each.between is not None for each in found.table.layers] == [True, True, False]
    assert {AS_FLOAT, LOWERED} < {each.name for each in found.variants}
    assert all(each.snr_db > 20 for each in found.variants)
    keep(found.table)
    assert own_tables()[0].layers
