"""Quantized parts: the layers that are int8 in the whole are int8 in them, and together they are the whole."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.artifact import Parity
from edgekit.bundle import Manifest, Member, read_manifest
from edgekit.cache import StageCache
from edgekit.cli.output import StageLines
from edgekit.errors import ParityError
from edgekit.kept_float import kept_float
from edgekit.numerics import compare_one
from edgekit.pipeline import export
from edgekit.plan import Request, make_plan
from edgekit.reference_file import read_reference
from edgekit.runners import load
from edgekit.runners.parts import read_description

FORMATS = ("onnx",)


def exported(out: Path, *formats: str, **changed: Any) -> Manifest:
    request = Request(model="parnet_pico_digits", target="host", formats=formats, out=out, partition="streams")
    quantizing: dict[str, Any] = {"recipe": "int8", "data": "digits", "calibration": 16, **changed}
    with StageLines(shown=False) as lines:
        return export(make_plan(replace(request, **quantizing)), ("edgekit", "export"), StageCache(None), lines)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with int8 artifacts whole and in parts, two layers asked to stay float; nobody writes to it."""
    out = tmp_path_factory.mktemp("quantized_parts") / "bundle"
    exported(out, *FORMATS, keep_float=("streams.1.*",))
    return out


def both(folder: Path, name: str) -> tuple[Member, Member]:
    """The int8 artifact of a format, whole and in parts."""
    whole, parts = (
        member
        for member in read_manifest(folder).members
        if member.artifact.format == name and member.quantization is not None
    )
    return whole, parts


def layers_of(member: Member) -> Counter[tuple[Any, ...]]:
    assert member.quantization is not None
    return Counter((each.module, each.kind, each.precision, each.reason) for each in member.quantization.operators)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_the_same_layers_are_int8_as_in_the_whole(cut: Path, name: str) -> None:
    whole, parts = both(cut, name)
    assert parts.partition is not None
    assert layers_of(parts) == layers_of(whole)
    kept = [layer for layer in layers_of(parts) if layer[3] == "asked"]
    assert kept
    assert all(str(module).startswith("streams.1.") for module, *_ in kept)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_parts_are_as_close_to_float_as_the_whole(cut: Path, name: str) -> None:
    whole, parts = both(cut, name)
    assert whole.quantization is not None
    assert parts.quantization is not None
    assert parts.quantization.held_out.snr_db > whole.quantization.held_out.snr_db - 3
    sizes = [sum(file.size for file in each.artifact.files) for each in (whole, parts)]
    assert sizes[1] < 1.5 * sizes[0]


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", FORMATS)
def test_together_they_answer_as_the_whole(cut: Path, name: str, threads: int) -> None:
    case = read_reference(cut / read_manifest(cut).reference.name).cases[0]
    outputs = []
    for member in both(cut, name):
        with load(member.artifact.runtime, cut / member.artifact.files[0].name, threads) as runner:
            outputs.append(next(iter(runner.run({runner.inputs[0].name: case.inputs[0]}).values())))
    assert compare_one(np.asarray(outputs[0]), np.asarray(outputs[1])).snr_db > 20


@pytest.mark.slow
def test_a_part_that_nothing_is_quantized_in_stays_as_it_was(cut: Path) -> None:
    """The modules of one stream were asked to stay float."""
    described = read_description(cut / both(cut, "onnx")[1].artifact.files[0].name)
    stream = next(part for part in described.parts if part.name == "streams.1")
    exact = stream.files[0].replace("int8", "fp32")
    assert (cut / stream.files[0]).stat().st_size == pytest.approx((cut / exact).stat().st_size, rel=0.01)


@pytest.mark.slow
def test_what_stays_float_is_told_of_the_whole_alone(cut: Path) -> None:
    """Parts have no profile of their own, and the same layers."""
    whole, _ = both(cut, "onnx")
    (kept,) = kept_float(cut, read_manifest(cut), (), 1, timed=True)
    assert kept.artifact == whole.artifact.files[0].name
    assert kept.timed


@pytest.mark.slow
def test_parts_that_are_no_network_any_more_are_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poor = Parity(snr_db=2.0, max_abs=1.0, relative=1.0, cosine=0.5, top1_agreement=0.5, nonfinite=0)
    monkeypatch.setattr("edgekit.quantized_parts.compare", lambda *_: poor)
    with pytest.raises(ParityError, match=r"parts\.json is not the network any more"):
        exported(tmp_path / "bundle", "onnx")
    assert not (tmp_path / "bundle").exists()
