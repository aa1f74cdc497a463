"""OpenVINO IR, converted straight from the program.

The file asks for float32 arithmetic in its `runtime_options`: on processors with bfloat16 or float16 instructions
OpenVINO otherwise computes in half precision without a word, some 80 dB away from the network that was exported.
edgekit's runner obeys; a program that loads the file itself passes the option to `compile_model`.
"""

from pathlib import Path

import openvino
import torch

from edgekit.errors import ConverterError
from edgekit.exporters.base import Candidate, ExportSpec
from edgekit.program import Program


def export(program: Program, spec: ExportSpec, folder: Path, stem: str) -> tuple[Candidate, ...]:
    """Writes `<stem>.xml` and `<stem>.bin`, constants in float32."""
    example = torch.zeros(spec.input.shape)
    try:
        exported = torch.export.export(program, (example,))
        model = openvino.convert_model(exported, input=[(list(spec.input.shape), openvino.Type.f32)])
    except Exception as error:
        raise ConverterError(f"OpenVINO could not convert the program: {error}") from error
    _name(model, spec)
    for key, value in spec.metadata.items():
        model.set_rt_info(value, key.split(".", 1))
    model.set_rt_info("f32", ["runtime_options", "INFERENCE_PRECISION_HINT"])
    path = folder / f"{stem}.xml"
    openvino.save_model(model, str(path), compress_to_fp16=False)
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
    model.inputs[0].get_tensor().set_names({spec.input.name})
    model.inputs[0].get_node().set_friendly_name(spec.input.name)
    for output, wanted in zip(model.outputs, spec.outputs, strict=True):
        output.get_tensor().set_names({wanted.name})
