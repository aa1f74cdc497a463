"""ONNX, through torch's dynamo exporter, then onnxsim.

The simplified graph comes first; the plain one stays as a candidate to fall back to should simplification have
changed the network. Every node keeps the path of the torch module it came from as `edgekit.module`; torch's own node
annotations are dropped, because they hold source paths of the exporting machine.
"""

from pathlib import Path

import onnx
import onnxsim
import torch

from edgekit.errors import ConverterError, first_line, root_cause
from edgekit.exporters.base import Candidate, ExportSpec
from edgekit.program import Program

OPSET = 20
"""First opset with Gelu as one operator, which ONNX Runtime runs fused; ONNX Runtime has known it since 1.17."""

SIZE_LIMIT_BYTES = (2 << 30) - (1 << 20)
"""A protobuf file cannot be larger than 2 GiB; some room is left for the graph itself."""

MODULE_KEY = "edgekit.module"


def export(program: Program, spec: ExportSpec, folder: Path, stem: str) -> tuple[Candidate, ...]:
    """Writes the simplified and the plain graph."""
    plain = _convert(program, spec)
    plain_path = folder / f"{stem}.unsimplified.onnx"
    _write(plain, plain_path, spec)
    try:
        simplified, _ = onnxsim.simplify(plain)
    except Exception as error:  # noqa: BLE001 - whatever onnxsim raises, the plain graph is still good
        return (Candidate((plain_path,), "plain", (f"onnxsim failed ({type(error).__name__}), graph not simplified",)),)
    _copy_module_paths(plain, simplified)
    path = folder / f"{stem}.onnx"
    _write(simplified, path, spec)
    notes = (f"opset {OPSET}", f"onnxsim: {len(plain.graph.node)} nodes to {len(simplified.graph.node)}")
    return Candidate((path,), "simplified", notes), Candidate((plain_path,), "plain", (f"opset {OPSET}",))


def _convert(program: Program, spec: ExportSpec) -> onnx.ModelProto:
    """Runs torch's exporter and checks the result."""
    try:
        converted = torch.onnx.export(
            torch.export.export(program, spec.examples()),
            dynamo=True,
            opset_version=OPSET,
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


def _copy_module_paths(plain: onnx.ModelProto, simplified: onnx.ModelProto) -> None:
    """Gives the nodes that simplification kept their module paths back, which onnxsim drops."""
    paths = {
        output: entry.value for node in plain.graph.node for entry in node.metadata_props for output in node.output
    }
    for node in simplified.graph.node:
        path = next((paths[output] for output in node.output if output in paths), None)
        if path is not None and not node.metadata_props:
            node.metadata_props.add(key=MODULE_KEY, value=path)


def _write(model: onnx.ModelProto, path: Path, spec: ExportSpec) -> None:
    """Writes a model with edgekit's metadata, the same bytes every time."""
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(spec.metadata))
    path.write_bytes(model.SerializeToString(deterministic=True))
