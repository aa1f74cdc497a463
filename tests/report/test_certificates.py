"""Certificates in the report: every pass, region, choice and comparison, and what quantized artifacts are called."""

from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from edgekit.artifact import CalibrationRecord, OperatorPrecision, QuantRecord
from edgekit.bundle import read_manifest
from edgekit.report.document import Table
from tests.report.conftest import measure
from tests.report.reading import changed, column, every, report, section, tile


def test_an_artifact_that_differs_decides_the_verdict(bundle: Path) -> None:
    measure(bundle)
    (member,) = read_manifest(bundle).members
    worse = structs.replace(member.parity[0], gate_db=500.0)
    changed(bundle, members=(structs.replace(member, parity=(worse, *member.parity[1:])),))
    document = report(bundle)

    assert (document.verdict, document.tone) == ("onnx fp32 is not the same network as the original.", "bad")
    assert tile(document, "Parity passed") == ("0 of 1", "", "bad")
    closest = every(section(document, "certificates"), Table)[0]
    assert column(closest, "verdict") == ["differs"]


def test_every_pass_region_and_choice_is_certified(full: Path) -> None:
    manifest = read_manifest(full)
    tables = every(section(report(full), "certificates"), Table)

    named = {each.title: each for each in tables}
    assert column(named["Passes"], "pass") == [one.name for one in manifest.passes]
    assert len(named["Fused regions"].rows) == len(manifest.regions) > 0
    whole = named["Parity with the original model, every input and output"]
    assert len(whole.rows) == sum(len(member.parity) for member in manifest.members) > 1
    ways = sum(len(choice.candidates) for member in manifest.members for choice in member.kernels)
    assert len(named["Candidates for the depthwise kernels in onnx fp32"].rows) == ways > 0


@pytest.fixture
def quantized(bundle: Path) -> Path:
    """The bundle, with its artifact said to be quantized."""
    (member,) = read_manifest(bundle).members
    record = QuantRecord(
        recipe="w8a8",
        calibration=CalibrationRecord(data="digits", digest="d" * 64, images=64),
        operators=(
            OperatorPrecision(name="a", module="stem", kind="Conv", macs=100, precision="int8"),
            OperatorPrecision(name="b", module="dw", kind="Conv", macs=10, precision="fp32", reason="grouped"),
        ),
        held_out_images=16,
        held_out=structs.replace(member.parity[0].parity, snr_db=31.5),
        floor_db=20.0,
        warnings=("Few images.",),
    )
    artifact = structs.replace(member.artifact, precision="int8")
    changed(bundle, members=(member, structs.replace(member, artifact=artifact, quantization=record)))
    return bundle


def test_a_quantized_artifact_is_never_called_the_same_network(quantized: Path) -> None:
    document = report(quantized)
    certificates = section(document, "certificates")

    assert document.verdict.startswith(
        "The one float artifact is the same network as the original, 1 more is quantized,"
    )
    assert tile(document, "Parity passed")[0] == "1 of 1"
    named = {each.title: each for each in every(certificates, Table)}
    parity = named["Parity with the original model, where it comes closest to its gate"]
    assert column(parity, "verdict") == ["same network", "as quantized"]
    (row,) = named["Quantized artifacts"].rows
    assert [cell.text for cell in row] == [
        "onnx int8",
        "w8a8",
        "1 of 2 int8",
        "digits, 64 images",
        "31.5 dB",
        "20.0 dB",
    ]
    assert column(named["Operators of onnx int8 in int8 and float"], "why float") == ["–", "grouped"]
    assert "onnx int8: Few images." in msgspec.json.encode(certificates).decode()
