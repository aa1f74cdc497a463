"""OpenVINO IR, converted straight from the program.

The file asks for float32 arithmetic in its `runtime_options`: on processors with bfloat16 or float16 instructions
OpenVINO otherwise computes in half precision without a word, some 80 dB away from the network that was exported.
edgekit's runner obeys; a program that loads the file itself passes the option to `compile_model`.
"""

from pathlib import Path

import openvino
import torch

from edgekit.errors import ConverterError, OutputError, first_line
from edgekit.exporters.base import Candidate, ExportSpec
from edgekit.program import Program


def export(program: Program, spec: ExportSpec, folder: Path, stem: str) -> tuple[Candidate, ...]:
    """Writes `<stem>.xml` and `<stem>.bin`, constants in float32."""
    shapes = [(list(wanted.shape), openvino.Type.f32) for wanted in spec.inputs]
    try:
        model = openvino.convert_model(torch.export.export(program, spec.examples()), input=shapes)
    except Exception as error:
        raise ConverterError(
            f"OpenVINO could not convert the program: {str(error).strip().splitlines()[-1]}"
        ) from error
    _name(model, spec)
    for key, value in spec.metadata.items():
        model.set_rt_info(value, key.split(".", 1))
    model.set_rt_info("f32", ["runtime_options", "INFERENCE_PRECISION_HINT"])
    path = folder / f"{stem}.xml"
    try:
        openvino.save_model(model, str(path), compress_to_fp16=False)
    except RuntimeError as error:
        raise OutputError(f"{path} cannot be written: {first_line(error)}") from error
    notes = ("compile with INFERENCE_PRECISION_HINT=f32, or OpenVINO may compute in bf16 or f16",)
    return (Candidate((path, path.with_suffix(".bin")), "ir", notes),)


def _name(model: openvino.Model, spec: ExportSpec) -> None:
    """Gives the model, its inputs and outputs the network's names.

    Nodes without a name of their own are numbered anew: OpenVINO numbers them through the life of the process, so a
    second export would differ.
    """
    for index, node in enumerate(model.get_ordered_ops()):
        if node.get_friendly_name() == node.get_name():
            node.set_friendly_name(f"{node.get_type_name()}_{index}")
    model.set_friendly_name(spec.metadata.get("edgekit.model", "model"))
    for port, wanted in zip(model.inputs, spec.inputs, strict=True):
        port.get_tensor().set_names({wanted.name})
        port.get_node().set_friendly_name(wanted.name)
    for output, wanted in zip(model.outputs, spec.outputs, strict=True):
        output.get_tensor().set_names({wanted.name})
