"""The order of the stages: what is skipped, what is said, and that nothing wrong is ever published."""

import dataclasses
import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest
import torch

from edgekit.bundle import Manifest, Stage, read_manifest
from edgekit.cache import StageCache
from edgekit.check import check_bundle, conclude
from edgekit.clock import Clock, lacks_memory
from edgekit.errors import ConverterError, EnvironmentProblemError, OutputError, ParityError
from edgekit.exporters import EXPORTERS
from edgekit.exporters.base import Candidate, ExportSpec
from edgekit.network import Lowered
from edgekit.pipeline import export
from edgekit.plan import Plan, Request, make_plan
from edgekit.program import Program, constants, in_float64
from tests.conftest import Exported

ARTIFACT = "parcnetv2_xt.fp32.onnx"


Write = Callable[[Program, ExportSpec, Path, str], tuple[Candidate, ...]]


def with_exporter(plan: Plan, monkeypatch: pytest.MonkeyPatch, function: Write) -> Plan:
    """The plan with another ONNX exporter."""
    module = ModuleType("exporter_of_a_test")
    module.export = function  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return dataclasses.replace(plan, exporters=(dataclasses.replace(plan.exporters[0], module=module.__name__),))


def without_artifact(plan: Plan) -> Plan:
    """The plan with a key for its artifact that is in no cache."""
    return dataclasses.replace(plan, artifact_keys={"onnx": "0" * 64})


def copying(*artifacts: Path) -> Write:
    """An exporter that offers copies of files as candidates, `first`, `second` and so on."""

    def write(program: Program, spec: ExportSpec, folder: Path, stem: str) -> tuple[Candidate, ...]:
        labels = ("first", "second", "third")
        files = [folder / f"{stem}.{label}.onnx" for label in labels[: len(artifacts)]]
        for artifact, file in zip(artifacts, files, strict=True):
            shutil.copyfile(artifact, file)
        return tuple(
            Candidate((file,), label, (f"note of {label}",)) for file, label in zip(files, labels, strict=False)
        )

    return write


@dataclass
class Watcher:
    """Follows an export and keeps what it says."""

    begun: list[str] = field(default_factory=list)
    done: list[Stage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def begin(self, stage: str) -> None:
        self.begun.append(stage)

    def end(self, stage: Stage) -> None:
        self.done.append(stage)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def plan(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The plan of the exported bundle, with an exporter that takes no time: it copies the artifact that is there."""
    made = make_plan(Request("parcnetv2_xt", formats=("onnx",), shape=(1, 3, 32, 32), out=tmp_path / "out" / "bundle"))
    return with_exporter(made, monkeypatch, copying(exported.folder / ARTIFACT))


@pytest.fixture
def prepared(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The network is there already; the list tells how often it was asked for."""
    asked: list[str] = []

    def prepare(plan: Plan, stage: object) -> object:
        asked.append(plan.card.name)
        return exported.network

    monkeypatch.setattr("edgekit.network.prepare", prepare)
    return asked


@pytest.fixture
def cache(exported: Exported, tmp_path: Path) -> Path:
    """A copy of the cache after the export."""
    return Path(shutil.copytree(exported.cache, tmp_path / "cache"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def run(plan: Plan, cache: StageCache, watcher: Watcher) -> Manifest:
    return export(plan, ("edgekit", "export"), cache, watcher)


def test_stages_come_in_order_and_are_timed(exported: Exported) -> None:
    stages = read_manifest(exported.folder).stages

    assert [stage.name for stage in stages[:4]] == ["build", "capture", "reference", "materialise"]
    assert [stage.name for stage in stages[-3:]] == ["lower for onnxruntime", "export onnx", "verify onnx"]
    assert all(stage.seconds >= 0.0 for stage in stages)


def test_a_full_cache_leaves_nothing_to_do(plan: Plan, cache: Path, prepared: list[str], exported: Exported) -> None:
    watcher = Watcher()
    manifest = run(plan, StageCache(cache), watcher)

    assert prepared == []
    assert [(stage.name, stage.cached) for stage in watcher.done] == [("network", True), ("onnx", True)]
    assert watcher.notes == []
    before = read_manifest(exported.folder)
    assert manifest.members == before.members
    assert manifest.reference == before.reference
    assert manifest.weights == before.weights
    conclude(check_bundle(plan.out, manifest))


def damage(cache: Path, key: str | None, name: str) -> None:
    assert key is not None
    path = cache / key / name
    path.write_bytes(path.read_bytes()[:100])


def test_a_damaged_artifact_is_made_anew_from_the_network(plan: Plan, cache: Path, prepared: list[str]) -> None:
    damage(cache, plan.artifact_keys["onnx"], ARTIFACT)
    watcher = Watcher()

    manifest = run(plan, StageCache(cache), watcher)

    assert watcher.notes == ["What the cache has for stage 'onnx' is damaged, so it is made anew."]
    assert [stage.name for stage in watcher.done] == ["network", "lower for onnxruntime", "export onnx", "verify onnx"]
    assert [stage.cached for stage in manifest.stages] == [True, False, False, False]
    assert len(prepared) == 1
    conclude(check_bundle(plan.out, manifest))
    again = Watcher()
    run(plan, StageCache(cache), again)
    assert all(stage.cached for stage in again.done)


def test_a_damaged_network_does_not_take_the_artifact_with_it(plan: Plan, cache: Path, prepared: list[str]) -> None:
    damage(cache, plan.network_key, "stage.json")
    watcher = Watcher()

    run(plan, StageCache(cache), watcher)

    assert watcher.notes == ["What the cache has for stage 'network' is damaged, so it is made anew."]
    assert [stage.name for stage in watcher.done] == ["onnx"]
    assert len(prepared) == 1


def test_without_a_cache_nothing_is_kept(plan: Plan, prepared: list[str], tmp_path: Path) -> None:
    watcher = Watcher()
    manifest = run(plan, StageCache(None), watcher)

    assert not any(stage.cached for stage in watcher.done)
    assert manifest.stages == tuple(watcher.done)
    assert names(tmp_path) == ["out"]
    assert names(plan.out) == sorted(["kernels.safetensors", "manifest.json", ARTIFACT, "reference.safetensors"])


def test_a_cache_that_cannot_be_written_costs_a_note(plan: Plan, prepared: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    watcher = Watcher()

    run(plan, StageCache(tmp_path / "file" / "cache"), watcher)

    (note,) = watcher.notes
    assert note.startswith(f"Not cached: {tmp_path / 'file' / 'cache'} cannot be written: ")
    assert plan.out.exists()


# -- nothing wrong is published -------------------------------------------------------------------------------------


def off_by_a_hundredth(program: Program) -> Program:
    """A copy with one channel of one kernel scaled by 1.01."""
    twin = in_float64(program).float()
    kernels = [tensor for _, tensor in constants(twin) if tensor.ndim == 4]
    with torch.no_grad():
        kernels[len(kernels) // 2][0] *= 1.01
    return twin


@pytest.fixture(scope="module")
def twin(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file of the network with one channel of one kernel off by a hundredth."""
    spec = ExportSpec(exported.network.reference.inputs, exported.network.reference.outputs, {})
    program = off_by_a_hundredth(exported.network.proven.program)
    return EXPORTERS["onnx"].load()(program, spec, tmp_path_factory.mktemp("twin"), "twin")[0].files[0]


def test_an_artifact_that_is_another_network_is_not_published(
    plan: Plan, cache: Path, prepared: list[str], monkeypatch: pytest.MonkeyPatch, twin: Path
) -> None:
    entries = names(cache)
    message = (
        r"The onnx artifact is not the same network \(first: \d\d\.\d dB on input '\w+', 1\d\d\.\d dB required\)\. "
        r"It first diverges in stage 'export onnx'\. Nothing was published\."
    )
    with pytest.raises(ParityError, match=message):
        run(without_artifact(with_exporter(plan, monkeypatch, copying(twin))), StageCache(cache), Watcher())

    assert names(plan.out.parent) == []
    assert names(cache) == entries


def test_a_stage_that_goes_wrong_before_the_exporter_is_named(
    plan: Plan, cache: Path, prepared: list[str], monkeypatch: pytest.MonkeyPatch, exported: Exported, twin: Path
) -> None:
    program = off_by_a_hundredth(exported.network.proven.program)
    monkeypatch.setattr("edgekit.network.lower", lambda *_: Lowered(program, (), ()))

    with pytest.raises(
        ParityError, match=r"It first diverges in stage 'lower for onnxruntime'\. Nothing was published"
    ):
        run(without_artifact(with_exporter(plan, monkeypatch, copying(twin))), StageCache(cache), Watcher())

    assert names(plan.out.parent) == []


def test_of_several_candidates_the_first_that_passes_is_kept(
    plan: Plan, cache: Path, prepared: list[str], monkeypatch: pytest.MonkeyPatch, exported: Exported, twin: Path
) -> None:
    sound = exported.folder / ARTIFACT
    plan = without_artifact(with_exporter(plan, monkeypatch, copying(twin, sound, sound)))

    manifest = run(plan, StageCache(cache), Watcher())

    (member,) = manifest.members
    assert member.artifact.notes[0] == "note of second"
    assert re.fullmatch(
        r"first \d\d\.\d dB, second 1\d\d\.\d dB, third 1\d\d\.\d dB: second kept", member.artifact.notes[1]
    )
    assert names(plan.out) == ["kernels.safetensors", "manifest.json", ARTIFACT, "reference.safetensors"]
    conclude(check_bundle(plan.out, manifest))


@pytest.mark.parametrize("error", [ConverterError("no"), RuntimeError("odd"), KeyboardInterrupt()], ids=repr)
def test_an_exporter_that_fails_leaves_nothing(
    plan: Plan, cache: Path, prepared: list[str], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(program: Program, spec: ExportSpec, folder: Path, stem: str) -> tuple[Candidate, ...]:
        (folder / ARTIFACT).write_bytes(b"half of it")
        raise error

    entries = names(cache)
    with pytest.raises(type(error)):
        run(without_artifact(with_exporter(plan, monkeypatch, fail)), StageCache(cache), Watcher())

    assert names(plan.out.parent) == []
    assert names(cache) == entries


def test_the_place_is_refused_before_the_work(plan: Plan, prepared: list[str]) -> None:
    plan.out.mkdir(parents=True)
    (plan.out / "mine.txt").touch()

    with pytest.raises(OutputError, match="exists and is no bundle"):
        run(plan, StageCache(None), Watcher())

    assert prepared == []
    assert names(plan.out) == ["mine.txt"]


# -- the clock ------------------------------------------------------------------------------------------------------


def test_a_stage_that_fails_is_begun_and_not_done() -> None:
    watcher = Watcher()
    clock = Clock(watcher)

    with pytest.raises(ValueError, match="odd"), clock.stage("build"):
        raise ValueError("odd")

    assert (watcher.begun, watcher.done, clock.stages) == (["build"], [], [])


def wrapped(inner: Exception) -> Exception:
    """An error as converters hand it on."""
    error = RuntimeError("conversion failed")
    error.__cause__ = inner
    return error


TORCH = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to ..."


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (MemoryError(), True),
        (RuntimeError(TORCH), True),
        (RuntimeError("std::bad_alloc"), True),
        (wrapped(MemoryError()), True),
        (wrapped(RuntimeError(TORCH)), True),
        (RuntimeError("shape mismatch"), False),
        (wrapped(ValueError("shape")), False),
    ],
    ids=["python", "torch", "c++", "wrapped", "wrapped-torch", "other", "wrapped-other"],
)
def test_too_little_memory_is_told_from_other_failures(error: Exception, lacks: bool) -> None:
    assert lacks_memory(error) is lacks

    expected = EnvironmentProblemError if lacks else type(error)
    with pytest.raises(expected, match=r"not enough memory for stage 'build'\. Choose a smaller" if lacks else None):
        fail_in_a_stage(error)


def fail_in_a_stage(error: Exception) -> None:
    with Clock(Watcher()).stage("build"):
        raise error


def test_the_manifest_is_on_disk_as_it_was_returned(plan: Plan, cache: Path, prepared: list[str]) -> None:
    manifest = run(plan, StageCache(cache), Watcher())

    assert read_manifest(plan.out) == manifest
    assert json.loads((plan.out / "manifest.json").read_text())["command"] == ["edgekit", "export"]
