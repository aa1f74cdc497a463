"""A network in parts as artifacts: the whole in every format, and no other where a part is not the right one."""

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from edgekit.artifact import PartitionCertificate
from edgekit.bundle import Manifest, Member, read_manifest
from edgekit.cache import StageCache
from edgekit.check import check_bundle
from edgekit.check import conclude as conclude_check
from edgekit.cli import cli
from edgekit.cli.output import StageLines
from edgekit.errors import ArtifactError, MisuseError, ParityError
from edgekit.passes.base import Probes
from edgekit.passes.partition import Partition, certify
from edgekit.pipeline import export
from edgekit.plan import Plan, Request, make_plan
from edgekit.program import Program, constants, set_constant
from edgekit.reference_file import read_reference
from edgekit.runners import load
from edgekit.runners.parts import read_description
from edgekit.verify import failure, verify_file

MODEL = "parnet_pico_digits"
CONVERTED = ("openvino", "tflite", "pt2")
FORMATS = ("onnx", *(pytest.param(name, marks=pytest.mark.slow) for name in CONVERTED))
PARTS = {"stem", "stem.1", "streams.0", "streams.1", "streams.2", "merge", "merge.1"}


def plan_of(out: Path, *formats: str, partition: str = "streams") -> Plan:
    return make_plan(Request(model=MODEL, target="host", formats=formats, partition=partition, out=out))


def carried_out(plan: Plan) -> Manifest:
    with StageLines(shown=False) as lines:
        return export(plan, ("edgekit", "export"), StageCache(None), lines)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with the ONNX artifact whole and in parts; nobody writes to it."""
    out = tmp_path_factory.mktemp("partitioned") / "bundle"
    carried_out(plan_of(out, "onnx"))
    return out


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in every other format, which takes a dozen converters' runs."""
    out = tmp_path_factory.mktemp("converted") / "bundle"
    carried_out(plan_of(out, *CONVERTED))
    return out


@pytest.fixture
def holding(name: str, request: pytest.FixtureRequest) -> Path:
    """The bundle that holds a format."""
    folder: Path = request.getfixturevalue("converted" if name in CONVERTED else "cut")
    return folder


def member(folder: Path, name: str) -> Member:
    return next(
        each for each in read_manifest(folder).members if each.artifact.format == name and each.partition is not None
    )


@pytest.mark.parametrize("name", FORMATS)
def test_parts_are_the_network_together(holding: Path, name: str) -> None:
    whole, parts = (each for each in read_manifest(holding).members if each.artifact.format == name)
    assert whole.partition is None
    assert parts.partition is not None
    assert {row.name for row in parts.partition.parts} == PARTS
    assert sum(row.size.macs for row in parts.partition.parts) == parts.program.macs == whole.program.macs
    assert parts.partition.parity.snr_db >= parts.partition.gate_db
    assert failure(parts.parity) is None
    described = read_description(holding / parts.artifact.files[0].name)
    named = [parts.artifact.files[0].name, *(file for part in described.parts for file in part.files)]
    assert [file.name for file in parts.artifact.files] == named
    assert not [path.name for path in holding.iterdir() if "unsimplified" in path.name]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", FORMATS)
def test_threads_do_not_change_the_answer(holding: Path, name: str, threads: int) -> None:
    manifest, parts = read_manifest(holding), member(holding, name)
    against = read_reference(holding / manifest.reference.name)
    cases = verify_file(parts.artifact.runtime, holding / parts.artifact.files[0].name, against, threads)
    assert failure(cases) is None


def test_a_bundle_with_parts_is_verified_whole(cut: Path) -> None:
    verdicts = check_bundle(cut, read_manifest(cut))
    assert len(verdicts) == 2
    conclude_check(verdicts)


@pytest.mark.slow
def test_a_bundle_with_parts_in_every_format_is_verified_whole(converted: Path) -> None:
    verdicts = check_bundle(converted, read_manifest(converted))
    assert len(verdicts) == 2 * len(CONVERTED)
    conclude_check(verdicts)


def test_parts_say_which_they_are(cut: Path) -> None:
    (stem,) = (file.name for file in member(cut, "onnx").artifact.files if file.name.endswith(".stem.onnx"))
    with load("onnxruntime", cut / stem) as runner:
        assert runner.metadata()["edgekit.part"] == "stem"
        assert [spec.name for spec in runner.inputs] == [spec.name for spec in read_manifest(cut).inputs]


def test_one_wrong_weight_in_a_part_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disturbed(program: Program, found: Partition, pattern: str, probes: Probes) -> PartitionCertificate:
        certificate = certify(program, found, pattern, probes)
        stream = next(part.program for part in found.parts if part.name == "streams.1")
        name, value = next((name, value) for name, value in constants(stream) if value.ndim == 4)
        changed = value.clone()
        changed[0] *= 1.01
        stored = set_constant(stream, name, changed)
        for node in stream.graph.nodes:
            if node.op == "get_attr" and node.target == name:
                node.target = stored
        stream.recompile()
        return certificate

    monkeypatch.setattr("edgekit.partitioned.certify", disturbed)
    with pytest.raises(ParityError, match="not the same network together"):
        carried_out(plan_of(tmp_path / "bundle", "pt2"))  # the quickest to write; the check is the same for all
    assert not (tmp_path / "bundle").exists()


def test_a_network_without_these_branches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match=r"'heads\.\*' must name two branches or more"):
        carried_out(plan_of(tmp_path / "bundle", "onnx", partition="heads"))
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(("asked", "pattern"), [("streams", "streams.*"), ("streams.?", "streams.?")])
def test_a_name_is_short_for_all_below_it(tmp_path: Path, asked: str, pattern: str) -> None:
    assert plan_of(tmp_path, "onnx", partition=asked).partition == pattern


def test_without_the_option_nothing_is_cut(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "onnx")
    assert replace(plan, request=replace(plan.request, partition=None)).partition is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda told: told["parts"].reverse(), "takes .*, which nothing before it gives"),
        (lambda told: told["parts"][0].update(files=["../stem.onnx"]), "is not the name of a file beside it"),
        (lambda told: told["parts"][0].update(files=[]), "part stem has no file"),
        (lambda told: told.update(returns=["nobody"]), "its outputs come from no part"),
        (lambda told: told.pop("parts"), "missing required field `parts`"),
    ],
)
def test_a_damaged_description_is_refused(cut: Path, tmp_path: Path, change, reason: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "net.parts.json"
    told = json.loads((cut / member(cut, "onnx").artifact.files[0].name).read_text())
    change(told)
    path.write_bytes(msgspec.json.encode(told))
    with pytest.raises(ArtifactError, match=reason):
        load("onnxruntime", path)


def test_a_part_that_is_missing_is_named(cut: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.parts.json"
    path.write_bytes((cut / member(cut, "onnx").artifact.files[0].name).read_bytes())
    with pytest.raises(ArtifactError, match=r"stem\.onnx"):
        load("onnxruntime", path)


def test_inputs_are_checked_as_those_of_the_whole(cut: Path) -> None:
    parts = member(cut, "onnx")
    with load("onnxruntime", cut / parts.artifact.files[0].name) as runner:
        assert runner.metadata()["edgekit.model"] == MODEL
        with pytest.raises(MisuseError, match="locked to input"):
            runner.run({runner.inputs[0].name: np.zeros((1, 3, 32, 32), np.float32)})
        with pytest.raises(MisuseError, match="Profile the whole artifact"):
            runner.profile({}, 1)


def test_the_plan_names_the_parts(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        cli,
        [
            "export",
            MODEL,
            "--format",
            "onnx",
            "--partition",
            "streams",
            "--dry-run",
            "--json",
            "-o",
            str(tmp_path / "b"),
        ],
    )
    stages = {each["stage"]: each for each in json.loads(result.stdout)["stages"]}
    assert stages["onnx parts"]["makes"] == f"{MODEL}.fp32.onnx.parts.json, cut at streams.*"
