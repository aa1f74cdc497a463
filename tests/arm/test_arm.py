"""Exported artifacts in the very runtimes that ARM boards have, against the float64 reference of the bundle.

Only outputs are checked: under emulation neither time nor memory means anything.
"""

import json
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from edgekit.bundle import REFERENCE, Manifest, read_manifest
from edgekit.numerics import compare_one
from edgekit.reference_file import read_reference
from edgekit.verify import ReferenceCase

pytestmark = pytest.mark.arm

GUEST = Path(__file__).with_name("run_artifact.py")
VERSION_SLOT = 8
"""Where `OperatorCode.version` is in its flatbuffer table; absent for version 1."""


@dataclass(frozen=True)
class Target:
    """One runtime of one architecture, the artifact it takes and the kernels it must run it with."""

    arch: str
    runtime: str
    version: str
    suffix: str
    kernels: str

    def __str__(self) -> str:
        return f"{self.arch}-{self.runtime}"

    def artifact(self, bundle: Path) -> Path:
        return bundle / f"parcnetv2_xt.fp32.{self.suffix}"


# The 32-bit wheel of tflite-runtime is built without XNNPACK; a test that did not know would measure another program.
ARMV7_TFLITE = Target("armv7l", "tflite-runtime", "2.14.0", "tflite", "builtin")
TARGETS = (
    ARMV7_TFLITE,
    Target("aarch64", "tflite-runtime", "2.14.0", "tflite", "xnnpack"),
    Target("aarch64", "ai-edge-litert", "2.3.0", "tflite", "xnnpack"),
    Target("aarch64", "onnxruntime", "1.31.1", "onnx", "CPUExecutionProvider"),
    Target("aarch64", "openvino", "2026.4.1", "xml", "acl_f32"),
)


@dataclass(frozen=True)
class GuestRun:
    """What a target said about itself and computed."""

    target: Target
    report: dict[str, Any]
    output: NDArray[np.float32]


def gate_db(manifest: Manifest, file: str, case: str) -> float:
    """The SNR that the bundle required of an artifact on one of its inputs, on the machine that made it."""
    member = next(member for member in manifest.members if file in {entry.name for entry in member.artifact.files})
    return next(parity.gate_db for parity in member.parity if parity.case == case)


def run_guest(
    python: Path, target: Target, model: Path, case: ReferenceCase, folder: Path
) -> subprocess.CompletedProcess[str]:
    """Runs an artifact on a target; the output is left in `output.npy` of the folder."""
    np.save(folder / "input.npy", case.inputs[0])
    command: list[str | Path] = [python, GUEST, target.runtime, model, folder / "input.npy", folder / "output.npy"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def snr_db(reference: object, guest: GuestRun) -> float:
    return compare_one(reference, guest.output).snr_db


@pytest.fixture(scope="module")
def case(bundle: Path) -> ReferenceCase:
    """One input is enough, the export compared all; not the flat one, where a scaled stem channel changes nothing."""
    return next(case for case in read_reference(bundle / REFERENCE).cases if case.name == "noise")


@pytest.fixture(scope="module", params=TARGETS, ids=str)
def guest(
    request: pytest.FixtureRequest,
    bundle: Path,
    case: ReferenceCase,
    tmp_path_factory: pytest.TempPathFactory,
) -> GuestRun:
    target: Target = request.param
    folder = tmp_path_factory.mktemp(str(target))
    python: Path = request.getfixturevalue(f"{target.arch}_python")
    process = run_guest(python, target, target.artifact(bundle), case, folder)
    assert process.returncode == 0, process.stderr
    report = json.loads(process.stdout.splitlines()[-1])
    return GuestRun(target, report, np.load(folder / "output.npy"))


@pytest.fixture(scope="module")
def gate(bundle: Path, guest: GuestRun, case: ReferenceCase) -> float:
    return gate_db(read_manifest(bundle), guest.target.artifact(bundle).name, case.name)


def onnx_output(model: onnx.ModelProto, source: NDArray[np.float32]) -> object:
    """A model's first output, by onnxruntime on this machine."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: source})[0]


def scale_first_channel(model: onnx.ModelProto, factor: float) -> None:
    """Scales output channel 0 of the first weight that the graph uses: the stem's convolution."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer if len(tensor.dims) > 1}
    first = next(weights[name] for node in model.graph.node for name in node.input if name in weights)
    array = numpy_helper.to_array(first).copy()
    array[0] *= factor
    first.CopyFrom(numpy_helper.from_array(array, first.name))


@pytest.fixture(scope="module")
def onnx_model(bundle: Path) -> onnx.ModelProto:
    return onnx.load(bundle / "parcnetv2_xt.fp32.onnx")


@pytest.fixture(scope="module")
def wrong_output(onnx_model: onnx.ModelProto, case: ReferenceCase) -> object:
    """The output of a model that differs in one channel of one weight by 1 %."""
    wrong = onnx.ModelProto()
    wrong.CopyFrom(onnx_model)
    scale_first_channel(wrong, 1.01)
    return onnx_output(wrong, case.inputs[0])


def test_runs_on_the_machine_and_runtime_it_names(guest: GuestRun) -> None:
    assert guest.report["machine"] == guest.target.arch
    assert guest.report["runtime"] == guest.target.runtime
    assert guest.report["version"].startswith(guest.target.version)
    assert guest.target.kernels in guest.report["kernels"]


def test_agrees_with_float64(
    guest: GuestRun, case: ReferenceCase, gate: float, record_testsuite_property: Callable[[str, object], None]
) -> None:
    reached = snr_db(case.outputs[0].values, guest)

    record_testsuite_property(f"{guest.target} snr_db", reached)
    assert reached >= gate


def test_another_model_is_told_apart(guest: GuestRun, wrong_output: object, gate: float) -> None:
    assert snr_db(wrong_output, guest) < gate


def test_the_unscaled_model_passes_by_the_same_route(
    bundle: Path, onnx_model: onnx.ModelProto, case: ReferenceCase
) -> None:
    """Otherwise the test above would also pass for a mistake in how it computes the other model's output."""
    parity = compare_one(case.outputs[0].values, onnx_output(onnx_model, case.inputs[0]))

    assert parity.snr_db >= gate_db(read_manifest(bundle), "parcnetv2_xt.fp32.onnx", case.name)


def with_operator_version(model: bytes, version: int) -> bytes:
    """The same TFLite model, its operators that need more than version 1 now asking for another version."""
    from ai_edge_litert import schema_py_generated as schema  # not at the top: without the extra, collecting would fail

    edited = bytearray(model)
    codes = schema.Model.GetRootAsModel(edited, 0)
    for index in range(codes.OperatorCodesLength()):
        code = codes.OperatorCodes(index)
        assert code is not None
        table = code._tab
        offset = table.Offset(VERSION_SLOT)
        if offset:
            struct.pack_into("<i", edited, table.Pos + offset, version)
    return bytes(edited)


def test_a_runtime_older_than_the_operators_says_so(
    armv7l_python: Path, bundle: Path, case: ReferenceCase, tmp_path: Path
) -> None:
    """The converter is newer than the last 32-bit runtime; this is what a board would say if it went too far."""
    original = ARMV7_TFLITE.artifact(bundle).read_bytes()
    too_new = tmp_path / "too_new.tflite"
    too_new.write_bytes(with_operator_version(original, 99))

    process = run_guest(armv7l_python, ARMV7_TFLITE, too_new, case, tmp_path)

    assert process.returncode != 0
    assert "version '99'. An older version of this builtin might be supported" in process.stderr
