"""What the bare converters make of a network, with nothing set: the module given to each format's own converter."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

SCRIPT = """
import sys, torch
from pathlib import Path
from edgekit.network import set_weights
from edgekit.plan import Request, make_plan
plan = make_plan(Request(model=sys.argv[1]))
built = plan.source.build(None, plan.kernel_policy)
set_weights(built, plan)
model, folder, runtime = built.model, Path(sys.argv[2]), sys.argv[3]
example = (torch.zeros(plan.inputs[0].shape),)
if runtime == "onnxruntime":
    torch.onnx.export(model, example, dynamo=True, verbose=False).save(str(folder / "default.onnx"))
if runtime == "openvino":
    import openvino
    made = openvino.convert_model(torch.export.export(model, example), input=[list(example[0].shape)])
    made.set_rt_info("f32", ["runtime_options", "INFERENCE_PRECISION_HINT"])  # or it computes in bf16 where it can
    openvino.save_model(made, str(folder / "default.xml"), False)
if runtime == "tflite":
    import litert_torch
    litert_torch.convert(model, example).export(str(folder / "default.tflite"))
if runtime == "ncnn":
    import pnnx
    pnnx.export(model, str(folder / "default.pt"), example)
"""

FILES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "onnxruntime": ("default.onnx",),
        "openvino": ("default.xml", "default.bin"),
        "tflite": ("default.tflite",),
        "ncnn": ("default.ncnn.param", "default.ncnn.bin"),
    }
)
"""Runtime to its files, the loadable one first. Of MNN there is none: its converter gives another network."""


def default_route(model: str, folder: Path, runtime: str) -> tuple[Path, ...]:
    """The files of a network for a runtime; none where the converter fails, or writes none."""
    command = [sys.executable, "-c", SCRIPT, model, str(folder), runtime]
    done = subprocess.run(command, check=False, capture_output=True, cwd=folder)
    paths = tuple(folder / name for name in FILES[runtime])
    return paths if done.returncode == 0 and all(path.exists() for path in paths) else ()
