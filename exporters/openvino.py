"""OpenVINO IR, converted straight from the program.

The file asks for float32 arithmetic in its `runtime_options`: on processors with bfloat16 or float16 instructions
OpenVINO otherwise computes in half precision without a word, some 80 dB away from the network that was exported.
edgekit's runner obeys; a program that loads the file itself passes the option to `compile_model`.

Every operation's name begins with the path of the torch module it came from, up to the first `/`.
"""

from collections.abc import Mapping
from pathlib import Path

import openvino
import torch
from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

from edgekit.errors import ConverterError, OutputError, first_line
from edgekit.exporters.base import Candidate, ExportSpec
from edgekit.program import Program, module_path


def export(program: Program, spec: ExportSpec, folder: Path, stem: str) -> tuple[Candidate, ...]:
    """Writes `<stem>.xml` and `<stem>.bin`, constants in float32."""
    shapes = [(list(wanted.shape), openvino.Type.f32) for wanted in spec.inputs]
    try:
        decoder = TorchFXPythonDecoder.from_exported_program(torch.export.export(program, spec.examples()))
        paths = {node.name: module_path(node) for node in decoder.pt_module.graph.nodes}
        model = openvino.convert_model(decoder, input=shapes)
    except Exception as error:
        raise ConverterError(
            f"OpenVINO could not convert the program: {str(error).strip().splitlines()[-1]}"
        ) from error
    _name(model, spec, paths)
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


def _name(model: openvino.Model, spec: ExportSpec, paths: Mapping[str, str]) -> None:
    """Gives the model, its inputs and outputs the network's names, and its operations the paths of their modules.

    The converter names an operation by the node it is of, `conv2d_1/aten.conv2d.default/Convolution`. Nodes without a
    name of their own are numbered anew: OpenVINO numbers them through the life of the process, so a second export
    would differ.
    """
    for index, node in enumerate(model.get_ordered_ops()):
        name = node.get_friendly_name()
        if name == node.get_name():
            name = f"{node.get_type_name()}_{index}"
        origin = name.split("/")[0]
        node.set_friendly_name(f"{paths[origin]}/{name}" if origin in paths else name)
    model.set_friendly_name(spec.metadata.get("edgekit.model", "model"))
    for port, wanted in zip(model.inputs, spec.inputs, strict=True):
        port.get_tensor().set_names({wanted.name})
        port.get_node().set_friendly_name(wanted.name)
    for output, wanted in zip(model.outputs, spec.outputs, strict=True):
        output.get_tensor().set_names({wanted.name})
