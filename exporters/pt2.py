"""The fused program as torch's own file, `torch.export.save`, for whoever stays with torch.

`torch.export.load(path).module()` takes it back with no edgekit installed. It calls ATen operators only, is locked to
its input size, and holds its weights as parameters that ask for no gradients. Every node keeps the path of the module
it came from; stack traces and numbers of torch's own graphs are dropped, because they tell where and when the program
was made. Names of inputs and outputs and the metadata are in the extra file `edgekit.json`, see `runners.torch`.

What torch writes then depends on nothing else: its archives carry no date, and their serialization id is a checksum.
"""

import io
import json
from pathlib import Path

import torch
from torch.export import ExportedProgram

from edgekit.errors import ConverterError, first_line, root_cause
from edgekit.exporters.base import Candidate, ExportSpec
from edgekit.program import Program
from edgekit.standalone import as_module, plain_metadata

EXTRA_FILE = "edgekit.json"


def export(program: Program, spec: ExportSpec, folder: Path, stem: str) -> tuple[Candidate, ...]:
    """Writes `<stem>.pt2`."""
    names = [each.name for each in spec.inputs]
    described = {
        "inputs": names,
        "outputs": [each.name for each in spec.outputs],
        "metadata": dict(spec.metadata),
    }
    content = io.BytesIO()
    try:
        module = as_module(program, names, trainable=False)
        exported = torch.export.export(module, spec.examples())
        strip(exported)
        torch.export.save(exported, content, extra_files={EXTRA_FILE: json.dumps(described, sort_keys=True)})
    except Exception as error:
        raise ConverterError(f"torch.export could not write the program: {first_line(root_cause(error))}") from error
    path = folder / f"{stem}.pt2"
    path.write_bytes(content.getvalue())
    return (Candidate((path,), "program", ("torch.export.load(path).module() needs no edgekit",)),)


def strip(exported: ExportedProgram) -> None:
    """Leaves of the metadata only what torch needs to read the program back, and the module paths."""
    for node in exported.graph.nodes:
        node.meta = {key: node.meta[key] for key in ("val",) if key in node.meta} | plain_metadata(node)
