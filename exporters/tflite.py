"""TFLite through litert-torch, without TensorFlow.

Input and output are named in the file's signature. The metadata goes into the flatbuffer's own metadata table, which
means writing the file anew, see `edgekit.flatbuffer`.

An operator's results are named by the path of the torch module it came from and a number, `stages.0.0.mlp.fc1;123`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from torch import Tensor, nn
from torch.fx import Interpreter
from torch.fx.traceback import preserve_node_meta

from edgekit.errors import ConverterError, first_line, root_cause
from edgekit.exporters.base import Candidate, ExportSpec
from edgekit.flatbuffer import pack
from edgekit.program import Program, as_tuple, clone, module_path

_NUMBERED_MODULE = re.compile(r"module_(?P<number>\d+);")


def export(program: Program, spec: ExportSpec, folder: Path, stem: str) -> tuple[Candidate, ...]:
    """Writes `<stem>.tflite`, input and output laid out as in torch."""
    import litert_torch

    examples = dict(zip((wanted.name for wanted in spec.inputs), spec.examples(), strict=True))
    numbered, paths = _with_numbered_modules(program)
    try:
        converted = litert_torch.convert(_Named(numbered, spec).eval(), sample_kwargs=examples)
    except Exception as error:
        raise ConverterError(f"litert-torch could not convert the program: {first_line(root_cause(error))}") from error
    path = folder / f"{stem}.tflite"
    path.write_bytes(with_metadata(converted.model_content(), spec, paths))
    return (Candidate((path,), "flatbuffer"),)


class _Named(nn.Module):
    """The program with its inputs as keywords and its outputs in a dictionary, from which the file takes its names."""

    def __init__(self, program: Program, spec: ExportSpec) -> None:
        super().__init__()
        self.program = program
        self.spec = spec

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        given = (inputs[wanted.name] for wanted in self.spec.inputs)
        with preserve_node_meta():  # or every node would be said to come from this module
            outputs = as_tuple(Interpreter(self.program).run(*given))
        return {wanted.name: output for wanted, output in zip(self.spec.outputs, outputs, strict=True)}


def _with_numbered_modules(program: Program) -> tuple[Program, list[str]]:
    """A copy whose nodes are said to come from modules `0`, `1`, ..., and the path of each.

    The converter names results by the classes and the last name of each module around a node; a number survives that.
    """
    numbered, paths = clone(program), dict[str, int]()
    for node in numbered.graph.nodes:
        number = paths.setdefault(module_path(node), len(paths))
        stack = {"nn_module_stack": {"": (str(number), "module")}}
        node.meta = {key: node.meta[key] for key in ("val",) if key in node.meta} | stack
    return numbered, list(paths)


def with_metadata(content: bytes, spec: ExportSpec, paths: Sequence[str]) -> bytes:
    """Rewrites a flatbuffer with edgekit's metadata, a description that names the model, and paths of modules."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    _name_results(model, paths)
    model.description = spec.metadata.get("edgekit.model", "model")
    for key, value in spec.metadata.items():
        buffer = schema.BufferT()
        data = np.frombuffer(value.encode(), dtype=np.uint8)
        buffer.data = data  # pyright: ignore[reportAttributeAccessIssue] - declared a list; packing takes arrays too
        model.buffers = [*(model.buffers or ()), buffer]
        entry = schema.MetadataT()
        entry.name, entry.buffer = key, len(model.buffers) - 1
        model.metadata = [*(model.metadata or ()), entry]
    return pack(model)


def _name_results(model: schema.ModelT, paths: Sequence[str]) -> None:
    """Names tensors that come from modules by number by their paths; where several were fused, by the first."""
    for graph in model.subgraphs or ():
        for index, tensor in enumerate(graph.tensors or ()):
            match = _NUMBERED_MODULE.match(cast("bytes", tensor.name).decode())
            if match:
                tensor.name = f"{paths[int(match['number'])]};{index}"
