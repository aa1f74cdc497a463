"""A small network tuned on this machine, from its file to the forms that an export then has."""

from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgekit.bundle import read_manifest
from edgekit.cache import StageCache
from edgekit.errors import EnvironmentProblemError
from edgekit.kernel_group import candidates
from edgekit.pipeline import export
from edgekit.plan import Plan, Request, make_plan
from edgekit.targets.board import load_board
from edgekit.tune import run as running
from edgekit.tune.artifacts import Contest
from edgekit.tune.measure import Bench, Measured, Scene, open_bench
from edgekit.tune.run import Tuned, tune, tune_groups, tune_whole
from edgekit.tune.whole import AS_TRAINED, BEFORE, TUNED, Variant
from edgekit.tuning.tables import keep, own_tables
from tests.kernels import GROUPS, MIXED
from tests.tables import only, table
from tests.test_pipeline import Watcher
from tests.tune.test_whole import variant

BUDGET_SECONDS = 2.0


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else runs on the machine is no business of these tests."""
    monkeypatch.setattr("edgekit.tune.measure.crowding", lambda *_: None)


def planned(model: str, folder: Path) -> Plan:
    return make_plan(Request(model, target="host", formats=("onnx",), out=folder / "bundle"))


def tuned_here(plan: Plan, seconds: float, notes: list[str], *, whole: bool = True) -> tuple[Tuned, ...]:
    with open_bench("local", 1, notes.append) as bench:
        return tune(plan, bench, seconds, lambda _: nullcontext(), notes.append, whole=whole)


@pytest.mark.slow
def test_what_was_measured_here_is_what_an_export_has(mixer: str, tmp_path: Path) -> None:
    notes: list[str] = []
    (found,) = tuned_here(planned(mixer, tmp_path), BUDGET_SECONDS, notes)

    (entry,) = found.table.entries
    assert (found.runtime, found.places, found.refused, found.unmeasured) == ("onnxruntime", {str(MIXED): 1}, (), ())
    assert entry.group == MIXED
    assert {"depthwise", "toeplitz"} <= {form.form for form in entry.forms} <= candidates(MIXED).keys()
    assert entry.chosen in {form.form for form in entry.forms}
    assert entry.rounds >= 12
    assert all(form.cost > 0 for form in entry.forms)

    assert [each.name for each in found.variants] in ([TUNED], [BEFORE, TUNED], [AS_TRAINED, TUNED])
    for each in found.variants:
        assert each.parity.snr_db >= each.gate_db
        assert each.cost > 0
        assert each.bytes > 0

    keep(found.table)
    assert own_tables() == (found.table,)
    plan = planned(mixer, tmp_path)
    manifest = export(plan, ("edgekit", "export"), StageCache(None), Watcher())
    (choice,) = manifest.members[0].kernels
    assert choice.form == entry.chosen
    assert choice.source == f"measured here: {found.table.describe()}"
    assert choice == read_manifest(plan.out).members[0].kernels[0]


@pytest.mark.slow
def test_every_form_that_a_table_names_is_exported_and_none_is_taken_from_the_cache(mixer: str, tmp_path: Path) -> None:
    board, package = load_board("host"), f"onnxruntime {version('onnxruntime')}"
    key = {"cpu": board.clusters[0].core, "architecture": board.architectures[0], "package": package}
    artifacts = set()
    for form in candidates(MIXED):
        keep(table(only(MIXED, form), **key))
        manifest = export(planned(mixer, tmp_path), ("edgekit",), StageCache(tmp_path / "cache"), Watcher())
        (member,) = manifest.members
        fired = Counter({name: count for each in member.lowering for name, count in each.fired.items()})
        assert [choice.form for choice in member.kernels] == [form]
        assert member.kernels[0].source.startswith(f"measured here: {package} on {board.clusters[0].core}")
        assert bool(fired[form]) == (form != "depthwise")
        artifacts.add(member.artifact.sha256)
    assert len(artifacts) == len(candidates(MIXED))


def test_a_network_without_large_kernels_has_nothing_to_measure(tmp_path: Path) -> None:
    path = tmp_path / "small.py"
    path.write_text(
        "import torch\ndef build():\n    return torch.nn.Conv2d(3, 3, 3, groups=3).eval(), torch.zeros(1, 3, 8, 8)\n"
    )
    notes: list[str] = []
    assert tuned_here(planned(f"{path}:build", tmp_path), 1.0, notes) == ()
    assert notes == ["There is nothing to choose: no depthwise kernel of the network can be written in another way."]


# -- with other figures than the machine's ----------------------------------------------------------------------------


SCENE = Scene("x86_64", "Zen 3", 1, "ms", emulated=False, runtimes=frozenset({"onnxruntime"}))


@dataclass(frozen=True)
class Figures:
    """A place where every contest comes to the same figures."""

    measured: Measured
    scene: Scene = SCENE

    def measure(self, contest: Contest, runtime: str, seconds: float) -> Measured:  # noqa: ARG002 - given beforehand
        return self.measured


def figures(disturbance: str | None = None, **costs: float) -> Figures:
    taken = {name.strip("_"): [cost] * 12 for name, cost in costs.items()}
    fastest = min((name for name in taken if name), key=lambda name: taken[name][0])
    return Figures(Measured("onnxruntime 1.31.1", taken, (fastest,), {}, {}, disturbance))


@pytest.fixture
def unwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """No files are written for a contest: their figures are given."""
    monkeypatch.setattr(running, "group_contest", lambda *_: Contest({}, {}, {}, {"matmul": "no such operator"}))


def grouped(plan: Plan, bench: Bench, seconds: float, notes: list[str]) -> Tuned:
    groups = Counter({GROUPS["pair"]: 3, GROUPS["row"]: 1})
    return tune_groups(groups, plan, plan.exporters[0], bench, seconds, notes.append)


@pytest.fixture
def plan(mixer: str, tmp_path: Path) -> Plan:
    return planned(mixer, tmp_path)


@pytest.mark.usefixtures("unwritten")
def test_every_group_has_an_entry_and_every_form_without_a_file_a_reason(plan: Plan) -> None:
    found = grouped(plan, figures(_=1.0, depthwise=2.0, toeplitz=1.5), 10.0, [])

    assert [(each.group, each.chosen) for each in found.table.entries] == [
        (GROUPS["pair"], "toeplitz"),
        (GROUPS["row"], "toeplitz"),
    ]
    assert found.places == {str(GROUPS["pair"]): 3, str(GROUPS["row"]): 1}
    assert [(each.form, each.reason) for each in found.refused] == [("matmul", "no such operator")] * 2
    assert (found.table.cpu, found.table.package, found.table.unit) == ("Zen 3", "onnxruntime 1.31.1", "ms")


@pytest.mark.usefixtures("unwritten")
def test_what_was_disturbed_is_in_no_table(plan: Plan) -> None:
    notes: list[str] = []
    with pytest.raises(EnvironmentProblemError, match="Nothing was measured in onnxruntime"):
        grouped(plan, figures("Others ran.", _=1.0, depthwise=2.0), 10.0, notes)
    assert notes == [f"{GROUPS[name]} was not measured. Others ran." for name in ("pair", "row")]


@pytest.mark.usefixtures("unwritten")
def test_when_the_time_is_over_the_other_groups_are_named(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((0.0, 11.0))
    monkeypatch.setattr(running, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    found = grouped(plan, figures(_=1.0, depthwise=2.0), 10.0, [])
    assert [each.group for each in found.table.entries] == [GROUPS["pair"]]
    assert found.unmeasured == (str(GROUPS["row"]),)


@pytest.mark.parametrize(
    ("cost", "chosen", "why", "note"),
    [
        (9.0, "toeplitz", "fastest", []),
        (10.1, "toeplitz", "fastest", []),
        (
            11.0,
            "depthwise",
            "whole network",
            ["onnxruntime: the whole network is faster before tuning; its groups stay that way."],
        ),
    ],
)
@pytest.mark.usefixtures("unwritten")
def test_groups_stay_as_they_were_where_the_whole_network_is_slower(
    cost: float, chosen: str, why: str, note: list[str], plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = figures(_=1.0, depthwise=2.0, toeplitz=1.5)
    notes: list[str] = []
    before = grouped(plan, bench, 10.0, notes)
    variants: tuple[Variant, ...] = (
        variant(BEFORE, 10.0, pair="depthwise", row="depthwise"),
        variant(TUNED, cost, pair="toeplitz", row="toeplitz"),
    )
    monkeypatch.setattr(running, "measure_network", lambda *_: variants)
    nothing: Any = None

    found = tune_whole(before, nothing, plan, plan.exporters[0], bench, 1.0, notes.append)

    assert [(each.chosen, each.why) for each in found.table.entries] == [(chosen, why)] * 2
    assert found.variants == variants
    assert notes == note
