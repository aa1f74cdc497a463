"""Exported artifacts in the very runtimes that ARM boards have, against the float64 reference of the bundle.

Only outputs are checked: under emulation neither time nor memory means anything.
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from edgekit.bundle import REFERENCE, Manifest, read_manifest
from edgekit.numerics import compare_one
from edgekit.reference_file import read_reference
from edgekit.targets.device import Device
from edgekit.targets.job import Arrays, Job, Measured, Record, Task
from edgekit.verify import ReferenceCase

pytestmark = pytest.mark.arm

VERSION_SLOT = 8
"""Where `OperatorCode.version` is in its flatbuffer table; absent for version 1."""


@dataclass(frozen=True)
class Target:
    """One runtime of one architecture, the artifact it takes and the kernels it must run it with."""

    device: str
    runtime: str
    version: str
    suffix: str
    kernels: str

    def __str__(self) -> str:
        return f"{self.device}-{self.runtime}"

    def artifact(self, bundle: Path) -> Path:
        return bundle / f"parcnetv2_xt.fp32.{self.suffix}"

    def files(self, bundle: Path) -> tuple[Path, ...]:
        """The artifact and what belongs beside it, the loadable file first."""
        main = self.artifact(bundle)
        return (main, main.with_suffix(".bin")) if self.suffix in ("xml", "ncnn.param") else (main,)


# The 32-bit wheel of tflite-runtime is built without XNNPACK; a test that did not know would measure another program.
ARMV7_TFLITE = Target("armv7", "tflite-runtime", "2.14.0", "tflite", "builtin")
TARGETS = (
    ARMV7_TFLITE,
    Target("armv7", "ncnn", "1.0.20261020", "ncnn.param", "fp32"),
    Target("aarch64", "tflite-runtime", "2.14.0", "tflite", "xnnpack"),
    Target("aarch64", "ai-edge-litert", "2.3.0", "tflite", "xnnpack"),
    Target("aarch64", "onnxruntime", "1.31.1", "onnx", "CPUExecutionProvider"),
    Target("aarch64", "openvino", "2026.4.1", "xml", "acl_f32"),
    Target("aarch64", "ncnn", "1.0.20261020", "ncnn.param", "fp32"),
    Target("aarch64", "mnn", "3.6.1", "mnn", "precision high"),
)


def gate_db(manifest: Manifest, file: str, case: str) -> float:
    """The SNR that the bundle required of an artifact on one of its inputs, on the machine that made it."""
    member = next(member for member in manifest.members if file in {entry.name for entry in member.artifact.files})
    return next(parity.gate_db for parity in member.parity if parity.case == case)


def snr_db(reference: object, measured: Measured) -> float:
    (output,) = measured.outputs[0].values()
    return compare_one(reference, output).snr_db


@pytest.fixture(scope="module")
def case(bundle: Path) -> ReferenceCase:
    """One input is enough, the export compared all; not the flat one, where a scaled stem channel changes nothing."""
    return next(case for case in read_reference(bundle / REFERENCE).cases if case.name == "noise")


@pytest.fixture(scope="module")
def given(onnx_model: onnx.ModelProto, case: ReferenceCase) -> Arrays:
    """The inputs of the case by name; artifacts of all formats have the same names."""
    return {source.name: array for source, array in zip(onnx_model.graph.input, case.inputs, strict=True)}


def run_on(device: Device, targets: Iterable[Target], bundle: Path, given: Arrays) -> Record:
    tasks = (
        Task(key=str(target), runtime=target.runtime, files=target.files(bundle), cases=(given,)) for target in targets
    )
    return device.run(Job(tasks=tuple(tasks), repeats=0, warmup=0))


@pytest.fixture(scope="module")
def records(armv7: Device, aarch64: Device, bundle: Path, given: Arrays) -> dict[str, Record]:
    """What each board computed, all its runtimes in one process."""
    devices = {"armv7": armv7, "aarch64": aarch64}
    return {
        name: run_on(device, (target for target in TARGETS if target.device == name), bundle, given)
        for name, device in devices.items()
    }


@pytest.fixture(params=TARGETS, ids=str)
def target(request: pytest.FixtureRequest) -> Target:
    param: Target = request.param
    return param


@pytest.fixture
def guest(target: Target, records: dict[str, Record]) -> Measured:
    """What became of a target's artifact."""
    return records[target.device][str(target)]


@pytest.fixture
def gate(bundle: Path, target: Target, case: ReferenceCase) -> float:
    return gate_db(read_manifest(bundle), target.artifact(bundle).name, case.name)


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


def test_runs_on_the_machine_and_runtime_it_names(target: Target, guest: Measured, records: dict[str, Record]) -> None:
    device = records[target.device].device
    assert guest.failure is None
    assert (device.emulated, device.machine) == (True, {"armv7": "armv7l"}.get(target.device, target.device))
    assert guest.distribution == target.runtime
    assert guest.version.startswith(target.version)
    assert target.kernels in guest.kernels


def test_agrees_with_float64(
    target: Target,
    guest: Measured,
    case: ReferenceCase,
    gate: float,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    reached = snr_db(case.outputs[0].values, guest)

    record_testsuite_property(f"{target} snr_db", reached)
    assert reached >= gate


def test_another_model_is_told_apart(guest: Measured, wrong_output: object, gate: float) -> None:
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


def test_a_runtime_older_than_the_operators_says_so(armv7: Device, bundle: Path, given: Arrays, tmp_path: Path) -> None:
    """The converter is newer than the last 32-bit runtime; this is what a board would say if it went too far."""
    original = ARMV7_TFLITE.artifact(bundle).read_bytes()
    too_new = tmp_path / "too_new.tflite"
    too_new.write_bytes(with_operator_version(original, 99))

    record = armv7.run(Job(tasks=(Task(key="new", runtime="tflite-runtime", files=(too_new,), cases=(given,)),)))

    assert record["new"].failure is not None
    assert "version '99'. An older version of this builtin might be supported" in record["new"].failure.message
