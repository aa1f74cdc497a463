"""ONNX, through torch's dynamo exporter, then onnxsim, then without the repeats in its constants.

The simplified graph comes first; the plain one stays as a candidate to fall back to should simplification have
changed the network. What every node says about itself is in `onnx_graph`.
"""

from pathlib import Path

import onnx
import onnxsim

from edgekit.exporters.base import Candidate, ExportSpec
from edgekit.exporters.gathered_constants import gather_constants
from edgekit.exporters.onnx_graph import copy_module_paths, to_graph
from edgekit.program import Program

OPSET = 20
"""First opset with Gelu as one operator, which ONNX Runtime runs fused; ONNX Runtime has known it since 1.17."""


def export(program: Program, spec: ExportSpec, folder: Path, stem: str) -> tuple[Candidate, ...]:
    """Writes the simplified and the plain graph."""
    plain = to_graph(program, spec, OPSET)
    plain_path = folder / f"{stem}.unsimplified.onnx"
    _write(plain, plain_path, spec)
    try:
        simplified, _ = onnxsim.simplify(plain)
    except Exception as error:  # noqa: BLE001 - whatever onnxsim raises, the plain graph is still good
        return (Candidate((plain_path,), "plain", (f"onnxsim failed ({type(error).__name__}), graph not simplified",)),)
    copy_module_paths(plain, simplified)
    notes = [f"opset {OPSET}", f"onnxsim: {len(plain.graph.node)} nodes to {len(simplified.graph.node)}"]
    gathered = gather_constants(simplified)  # last: onnxsim would expand them again
    notes += [f"{gathered} constants stored without repeats"] if gathered else []
    path = folder / f"{stem}.onnx"
    _write(simplified, path, spec)
    return Candidate((path,), "simplified", tuple(notes)), Candidate((plain_path,), "plain", (f"opset {OPSET}",))


def _write(model: onnx.ModelProto, path: Path, spec: ExportSpec) -> None:
    """Writes a model with edgekit's metadata, the same bytes every time."""
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(spec.metadata))
    path.write_bytes(model.SerializeToString(deterministic=True))
