"""What edgekit's lowerings are worth: its artifacts against what the bare converters make of the same network.

    python benchmarks/lowering.py parcnetv2_t parcnetv2_xt --rounds 20

For each network and runtime the default route (the module given to the format's own converter) and edgekit's export
are made in this run and take turns, together with one large float32 matrix product in ONNX Runtime and in OpenVINO,
whose better rate is the ceiling. Printed are minimum and median in milliseconds, the median over the rounds of the
ratio default / edgekit, the share of the ceiling that the network's MACs reach at the minimum, and how far each file
is from the original model in float64. The figures are this machine's; only the ratios mean anything elsewhere.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from interleaved import interleaved
from onnx import TensorProto, helper

from edgekit.bundle import REFERENCE, Manifest, read_manifest
from edgekit.numerics import compare_sampled
from edgekit.quiet import silenced
from edgekit.reference_file import read_reference
from edgekit.runners import load
from edgekit.runners.base import Runner, Tensors

SIDE = 1536
"""Of the square matrices whose product is the ceiling."""

DEFAULT_ROUTE = """
import sys, torch
from pathlib import Path
from edgekit.network import prepare, set_weights
from edgekit.plan import Request, make_plan
plan = make_plan(Request(model=sys.argv[1]))
built = plan.source.build(None, plan.kernel_policy)
set_weights(built, plan)
model, folder = built.model, Path(sys.argv[2])
example = (torch.zeros(plan.inputs[0].shape),)
torch.onnx.export(model, example, dynamo=True, verbose=False).save(str(folder / "default.onnx"))
import openvino
made = openvino.convert_model(torch.export.export(model, example), input=[list(example[0].shape)])
made.set_rt_info("f32", ["runtime_options", "INFERENCE_PRECISION_HINT"])  # or it computes in bf16 where it can
openvino.save_model(made, str(folder / "default.xml"), False)
import litert_torch
litert_torch.convert(model, example).export(str(folder / "default.tflite"))
"""

ENDINGS = {"onnxruntime": "onnx", "openvino": "xml", "tflite": "tflite"}

Loaded = dict[tuple[str, str], tuple[Runner, Tensors]]


def export(model: str, folder: Path) -> Manifest:
    """Makes both routes' files of a network."""
    for command in (
        [sys.executable, "-c", DEFAULT_ROUTE, model, str(folder)],
        [sys.executable, "-m", "edgekit", "export", model, "--target", "host", "-o", str(folder / "bundle")],
    ):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return read_manifest(folder / "bundle")


def ceiling(folder: Path, threads: int) -> Loaded:
    """A large matrix product in the runtimes with the fastest ones."""
    matrix = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32)
    path = folder / "product.onnx"
    sides = [SIDE, SIDE]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["input", "factor"], ["product"])],
        "product",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, sides)],
        [onnx.numpy_helper.from_array(matrix, "factor")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return {("ceiling", name): (load(name, path, threads), {"input": matrix}) for name in ("onnxruntime", "openvino")}


def loaded(folder: Path, manifest: Manifest, threads: int) -> tuple[Loaded, dict[tuple[str, str], float]]:
    """Every artifact with its input, and its worst SNR over the reference's cases in dB."""
    against = read_reference(folder / "bundle" / REFERENCE)
    runners: Loaded = {}
    quality = {}
    for member in manifest.members:
        runtime = member.artifact.runtime
        ours = folder / "bundle" / member.artifact.files[0].name
        for route, path in (("default", folder / f"default.{ENDINGS[runtime]}"), ("edgekit", ours)):
            runner = load(runtime, path, threads)
            name = runner.inputs[0].name
            cases = [(case.outputs[0].values, runner.run({name: case.inputs[0]})) for case in against.cases]
            quality[runtime, route] = min(
                compare_sampled(expected, next(iter(result.values()))).snr_db for expected, result in cases
            )
            runners[runtime, route] = (runner, {name: against.cases[1].inputs[0]})
    return runners, quality


def report(
    model: str, macs: int, times: dict[tuple[str, str], list[float]], quality: dict[tuple[str, str], float]
) -> None:
    """Prints the lines of one network."""
    rate = SIDE**3 / min(min(values) for (kind, _), values in times.items() if kind == "ceiling")
    print(f"\n{model}: ceiling {rate / 1e6:.0f} GMAC/s, {macs / rate:.1f} ms for its {macs / 1e9:.3f} G MACs")
    print("| runtime | route | min ms | median ms | default / edgekit | of the ceiling | SNR dB |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for (runtime, route), values in times.items():
        if runtime == "ceiling":
            continue
        pairs = zip(times[runtime, "default"], values, strict=True)
        cells = (
            f"{min(values):.1f}",
            f"{statistics.median(values):.1f}",
            f"{statistics.median(before / after for before, after in pairs):.2f}",
            f"{macs / rate / min(values):.0%}",
            f"{quality[runtime, route]:.0f}",
        )
        print(f"| {runtime} | {route} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            manifest = export(model, folder)
            with silenced():
                runners, quality = loaded(folder, manifest, arguments.threads)
                times = interleaved(runners | ceiling(folder, arguments.threads), arguments.rounds)
            report(model, manifest.model.macs, times, quality)


if __name__ == "__main__":
    main()
