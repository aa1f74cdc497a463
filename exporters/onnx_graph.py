"""A program as an ONNX graph, through torch's dynamo exporter: for the ONNX file, and for converters that read ONNX.

Every node keeps the path of the torch module it came from as `edgekit.module`; torch's own node annotations are
dropped, because they hold source paths of the exporting machine.
"""

import onnx
import torch

from edgekit.errors import ConverterError, first_line, root_cause
from edgekit.exporters.base import ExportSpec
from edgekit.program import Program

SIZE_LIMIT_BYTES = (2 << 30) - (1 << 20)
"""A protobuf file cannot be larger than 2 GiB; some room is left for the graph itself."""

MODULE_KEY = "edgekit.module"


def to_graph(program: Program, spec: ExportSpec, opset: int) -> onnx.ModelProto:
    """Runs torch's exporter and checks the result.

    Raises:
        ConverterError: torch cannot convert the program to this opset, or what it wrote is no valid ONNX.
    """
    try:
        converted = torch.onnx.export(
            torch.export.export(program, spec.examples()),
            dynamo=True,
            opset_version=opset,
            verbose=False,
        )
    except Exception as error:
        raise ConverterError(
            f"torch.onnx.export could not convert the program: {first_line(root_cause(error))}"
        ) from error
    if converted is None:
        raise ConverterError("torch.onnx.export returned no program.")
    model = converted.model_proto
    if model.ByteSize() > SIZE_LIMIT_BYTES:
        raise ConverterError(f"The ONNX file would take {model.ByteSize() >> 20} MiB, more than a protobuf can hold.")
    _name(model, spec)
    _normalise(model, spec)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ConverterError(f"torch.onnx.export wrote no valid ONNX: {first_line(error)}") from error
    return model


def _name(model: onnx.ModelProto, spec: ExportSpec) -> None:
    """Gives inputs and outputs the network's names, and values inside that have one of these another."""
    ports = (*model.graph.input, *model.graph.output)
    wanted = {port.name: chosen.name for port, chosen in zip(ports, (*spec.inputs, *spec.outputs), strict=True)}
    inside = {name for node in model.graph.node for name in node.output} | {one.name for one in model.graph.initializer}
    taken = set(wanted.values())
    names = {name: f"{name}.inside" for name in inside & taken} | wanted
    for node in model.graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(name, name) for name in values]
    for value in (*ports, *model.graph.initializer, *model.graph.value_info):
        value.name = names.get(value.name, value.name)


def _normalise(model: onnx.ModelProto, spec: ExportSpec) -> None:
    """Drops annotations that depend on where the export ran, and adds edgekit's own."""
    model.graph.name = spec.metadata.get("edgekit.model", "model")
    model.doc_string = model.graph.doc_string = ""
    for node in model.graph.node:
        module = _module_path(node)
        node.doc_string = ""
        del node.metadata_props[:]
        if module:
            node.metadata_props.add(key=MODULE_KEY, value=module)
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        value.doc_string = ""
        del value.metadata_props[:]
    for tensor in model.graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]


def _module_path(node: onnx.NodeProto) -> str:
    """The module path in torch's annotation `: Net/stages.0: Sequential/stages.0.0: Block/conv2d: aten.conv2d`."""
    for entry in node.metadata_props:
        if entry.key == "namespace":
            steps = [step.split(":")[0].strip() for step in entry.value.split("/")]
            return steps[-2] if len(steps) > 1 else ""
    return ""


def copy_module_paths(plain: onnx.ModelProto, simplified: onnx.ModelProto) -> None:
    """Gives the nodes that simplification kept their module paths back, which onnxsim drops."""
    paths = {
        output: entry.value for node in plain.graph.node for entry in node.metadata_props for output in node.output
    }
    for node in simplified.graph.node:
        path = next((paths[output] for output in node.output if output in paths), None)
        if path is not None and not node.metadata_props:
            node.metadata_props.add(key=MODULE_KEY, value=path)
