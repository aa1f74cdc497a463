"""A published network with its large kernels in every form, at several sizes: the same network in every runtime."""

from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path

import pytest

from edgekit.artifact import Shape
from edgekit.exporters import EXPORTERS
from edgekit.exporters.base import ExportSpec
from edgekit.network import Network, lower, prepare
from edgekit.plan import Plan, Request, make_plan
from edgekit.verify import failure, verify_file

SQUARE, TALL, LARGE = (1, 3, 224, 224), (1, 3, 320, 256), (1, 3, 512, 512)

FORMS = {
    "toeplitz": ("toeplitz",),
    "toeplitz + pieces": ("*=toeplitz", "stages.[012].*=pieces"),
    "rows": ("rows",),
    "dense": ("dense",),
    "matmul": ("matmul",),
}
"""What is asked for; groups that do not have a form stay as trained."""

CASES = [
    *((SQUARE, form, name) for form in FORMS for name in ("onnx", "openvino", "tflite")),
    *((TALL, form, name) for form in ("toeplitz", "rows") for name in ("onnx", "openvino", "tflite")),
    (LARGE, "toeplitz", "onnx"),
]


@lru_cache(maxsize=1)
def prepared(shape: Shape) -> tuple[Plan, Network]:
    """The smallest published network at a size, with its reference in float64."""
    plan = make_plan(Request("parcnetv2_xt", target="host", formats=("onnx",), shape=shape))
    return plan, prepare(plan, lambda _: nullcontext())


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "form", "name"), CASES, ids=lambda value: str(value).replace(", ", "x"))
def test_a_network_in_another_form_is_the_same_network(shape: Shape, form: str, name: str, tmp_path: Path) -> None:
    _, network = prepared(shape)
    asked = make_plan(Request("parcnetv2_xt", target="host", formats=(name,), shape=shape, lowering=FORMS[form]))
    exporter = EXPORTERS[name]

    lowered = lower(network, exporter.runtime, "fp32", asked.chooser(exporter))

    fired = {rule for each in lowered.certificates for rule in each.fired}
    assert set(form.split(" + ")) <= fired
    assert all(each.parity.snr_db >= each.gate_db for each in lowered.certificates)
    spec = ExportSpec(asked.inputs, network.reference.outputs, asked.metadata)
    (first, *_) = exporter.load()(lowered.program, spec, tmp_path, "net")
    assert failure(verify_file(exporter.runtime, first.files[0], network.reference)) is None
