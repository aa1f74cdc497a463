"""What our int8 is worth beside each runtime's own default, in accuracy of the outputs and in time.

    python benchmarks/int8.py parcnetv2_t --data patterns --rounds 15
    python benchmarks/int8.py parnet_s --format onnx --data imagenet/val --no-time

For every format four files are made of one network: float and int8 by edgekit, and, as one gets them by the usual way,
the untouched graph from the format's own converter and what the quantizer makes of it with nothing set. All files of a
runtime then take turns, one inference each a round. Printed are the size, the SNR of the outputs against the float64
model on images that nothing was calibrated with, the minimum and median in milliseconds, and the median of the ratios
to the default int8 of each round. The milliseconds are this machine's; only ratios and SNRs mean anything elsewhere.

The defaults: `quantize_static` with a reader and no options (onnxruntime), `nncf.quantize` with a dataset (OpenVINO),
`static_wi8_ai8` and `dynamic_wi8_afp32` (ai-edge-quantizer).
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from interleaved import inferences, interleaved
from torch import nn

from edgekit.artifact import TensorSpec
from edgekit.bundle import Manifest, read_manifest
from edgekit.inputs import generate
from edgekit.material import Material, gather
from edgekit.models.build import build
from edgekit.models.statistics import measure_batch_norms
from edgekit.models.weights import random_weights
from edgekit.network import MAX_STATISTICS_SIDE
from edgekit.numerics import compare_one
from edgekit.quant.openvino import import_nncf
from edgekit.quiet import silenced
from edgekit.reference import model_in_float64
from edgekit.runners import load

HELD_OUT = 16


def original(name: str, shape: tuple[int, ...]) -> nn.Module:
    """The network as its authors wrote it, with the weights `edgekit export` gives it."""
    model = build(name, None).eval()
    random_weights(model, 0)
    sides = tuple(min(side, MAX_STATISTICS_SIDE) for side in shape[2:])
    images = [image for (image,) in generate([TensorSpec(name="input", shape=(*shape[:2], *sides))]).values()]
    measure_batch_norms(model, torch.from_numpy(np.concatenate(images)), 0)
    return model


def onnx_defaults(model: nn.Module, material: Material, folder: Path) -> dict[str, Path]:
    """The exporter's graph, and `quantize_static` without an option."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, feeds: Iterator[Mapping[str, Any]]) -> None:
            self.feeds = feeds

        def get_next(self) -> dict[str, Any]:
            feed = next(self.feeds, None)
            return {} if feed is None else {"input": next(iter(feed.values()))}

    exact, rounded = folder / "default.fp32.onnx", folder / "default.int8.onnx"
    example = torch.zeros(material.source.shape)
    torch.onnx.export(model, (example,), exact, dynamo=True, input_names=["input"], external_data=False, verbose=False)
    quantize_static(exact, rounded, Reader(material.calibrating()))
    return {"default fp32": exact, "default static int8": rounded}


def openvino_defaults(model: nn.Module, material: Material, folder: Path) -> dict[str, Path]:
    """`convert_model`, and `nncf.quantize` without an option."""
    import openvino

    nncf = import_nncf()
    converted = openvino.convert_model(
        model, example_input=torch.zeros(material.source.shape), input=[material.source.shape]
    )
    for port in (*converted.inputs, *converted.outputs):  # which have no names, and the runner goes by names
        port.get_tensor().set_names({"input" if port in converted.inputs else "logits"})
    converted.set_rt_info("f32", ["runtime_options", "INFERENCE_PRECISION_HINT"])  # or float is bf16
    exact, rounded = folder / "default.fp32.xml", folder / "default.int8.xml"
    openvino.save_model(converted, str(exact), compress_to_fp16=False)
    dataset = nncf.Dataset([next(iter(feed.values())) for feed in material.calibrating()])
    openvino.save_model(nncf.quantize(converted, dataset), str(rounded), compress_to_fp16=False)
    return {"default fp32": exact, "default static int8": rounded}


def tflite_defaults(model: nn.Module, material: Material, folder: Path) -> dict[str, Path]:
    """`litert_torch.convert`, and the quantizer's two recipes as they come, with float inputs and outputs."""
    import litert_torch
    from ai_edge_quantizer import quantizer, recipe

    exact = folder / "default.fp32.tflite"
    litert_torch.convert(model, (torch.zeros(material.source.shape),)).export(str(exact))
    made = {"default fp32": exact}
    ports = [{"regex": ".*", "operation": each, "algorithm_key": "no_quantize"} for each in ("INPUT", "OUTPUT")]
    for name, settings in (("static", recipe.static_wi8_ai8() + ports), ("dynamic", recipe.dynamic_wi8_afp32())):
        path = folder / f"default.{name}.tflite"
        work = quantizer.Quantizer(str(exact), settings)
        data = {"serving_default": [{"args_0": next(iter(feed.values()))} for feed in material.calibrating()]}
        result = work.quantize(work.calibrate(data) if work.need_calibration else None)
        path.write_bytes(bytes(result.quantized_model or b""))
        made[f"default {name} int8"] = path
    return made


DEFAULTS: Mapping[str, Callable[[nn.Module, Material, Path], dict[str, Path]]] = {
    "onnx": onnx_defaults,
    "openvino": openvino_defaults,
    "tflite": tflite_defaults,
}


def export(arguments: argparse.Namespace, recipe: str, folder: Path) -> Manifest:
    """Our bundle."""
    options = ["--target", "host", "--data", arguments.data, "--recipe", recipe]
    options += ["--calibration", str(arguments.calibration)]
    formats = [part for name in arguments.format or DEFAULTS for part in ("--format", name)]
    sizes = ["--input", str(arguments.input)] if arguments.input else []
    asked = [arguments.model, *options, *formats, *sizes, "-o", str(folder)]
    subprocess.run([sys.executable, "-m", "edgekit", "export", *asked], check=True, stdout=subprocess.DEVNULL)
    return read_manifest(folder)


def measure(runtime: str, files: Mapping[str, Path], material: Material, exact: Any, rounds: int) -> None:
    """Prints a line for each file of one runtime."""
    images = [next(iter(feed.values())) for feed, _ in zip(material.comparing(), range(HELD_OUT), strict=False)]
    expected = np.concatenate([exact(torch.from_numpy(image))[0].numpy() for image in images])
    runners, snrs = {}, {}
    for label, path in files.items():
        try:
            with silenced():
                runner = load(runtime, path, 1)
                name = runner.inputs[0].name
                found = np.concatenate([next(iter(runner.run({name: image}).values())) for image in images])
        except Exception as error:  # noqa: BLE001 - that a default does not run is a result
            print(f"{runtime:12} {label:22} does not run: {str(error).splitlines()[0][:80]}", flush=True)
            continue
        runners[label], snrs[label] = (runner, {name: images[0]}), compare_one(expected, found).snr_db
    times = interleaved(inferences(runners), rounds) if rounds else {}
    base = next((times[label] for label in times if label.startswith("default") and "int8" in label), None)
    for label in runners:
        parts = {files[label], files[label].with_suffix(".bin")} if files[label].suffix == ".xml" else {files[label]}
        size = sum(each.stat().st_size for each in parts) / 1e6
        shown = f"{runtime:12} {label:22} {size:7.2f} MB {snrs[label]:6.1f} dB"
        if times:
            shown += f"  min {min(times[label]):8.2f} ms  median {statistics.median(times[label]):8.2f} ms"
        if base:
            shown += (
                f"  {statistics.median(old / new for old, new in zip(base, times[label], strict=True)):5.2f} x default"
            )
        print(shown, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", default="patterns")
    parser.add_argument("--format", action="append", choices=DEFAULTS)
    parser.add_argument("--input", type=int)
    parser.add_argument("--calibration", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-time", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folders = {recipe: Path(scratch) / recipe for recipe in ("int8", "static_wi8_ai8")}
        bundles = {recipe: export(arguments, recipe, folder) for recipe, folder in folders.items()}
        shared = bundles["int8"]
        material = gather(arguments.data, shared.model.preprocessing, shared.inputs, arguments.calibration)
        model = original(arguments.model, shared.model.input_shape)
        exact = model_in_float64(model)
        for name in arguments.format or DEFAULTS:
            with silenced():
                files = DEFAULTS[name](model, material, Path(scratch))
            runtime = ""
            for recipe, manifest in bundles.items():
                for member in (each for each in manifest.members if each.artifact.format == name):
                    runtime = member.artifact.runtime
                    label = member.quantization.recipe if member.quantization else "fp32"
                    files.setdefault(f"edgekit {label}", folders[recipe] / member.artifact.files[0].name)
            measure(runtime, files, material, exact, 0 if arguments.no_time else arguments.rounds)


if __name__ == "__main__":
    main()
