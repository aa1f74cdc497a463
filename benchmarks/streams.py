"""Whether ParNet's streams are worth running at the same time: on cores of their own, against splitting every operator.

    python benchmarks/streams.py parnet_l --threads 2 --rounds 20

The network is exported whole and in parts (`edgekit export --partition streams`). Then take turns, one image each a
round:

| way | what computes |
|---|---|
| one thread | the whole on one thread |
| operators | the whole, its operators split between N threads |
| parts | the parts on N threads, those that wait for each other one after another |
| runtime | ONNX Runtime's parallel executor on N threads; OpenVINO's N streams |

OpenVINO's streams take N images at a time and cannot make one image faster; their time is given per image. Printed are
minimum and median in milliseconds and, over the rounds, the median of the ratio operators / way: above 1 the way is
faster. Below stand the parts alone on one thread, and what any number of workers could make of them at best: the sum of
the parts over their time when each worker takes the next part that is ready and nothing else takes time. Splitting
operators is worth less than that only where it scales worse. The figures are this machine's.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime
import openvino
from interleaved import interleaved

from edgekit.artifact import PartsDescription
from edgekit.bundle import REFERENCE, Member, read_manifest
from edgekit.exporters import EXPORTERS
from edgekit.quiet import silenced
from edgekit.reference_file import read_reference
from edgekit.runners import load
from edgekit.runners.base import Tensors
from edgekit.runners.parts import read_description

FORMATS = ("onnx", "openvino", "tflite", "mnn", "ncnn")
WORKERS = (2, 3, 4, 8)

Ways = dict[tuple[str, str], Callable[[], Any]]


def export(model: str, side: int | None, formats: list[str], folder: Path) -> Path:
    """The bundle of a network, whole and in parts."""
    size = ["--input", str(side)] if side else []
    wanted = [option for name in formats for option in ("--format", name)]
    command = [sys.executable, "-m", "edgekit", "export", model, "--target", "host", "--partition", "streams"]
    subprocess.run([*command, *size, *wanted, "-o", str(folder / "bundle")], check=True, stdout=subprocess.DEVNULL)
    return folder / "bundle"


def ways(folder: Path, whole: Member, parts: Member, threads: int, inputs: Tensors) -> Ways:
    """Every way to run the network in one runtime; the bundle was verified when it was made."""
    runtime = whole.artifact.runtime
    path, description = (folder / each.artifact.files[0].name for each in (whole, parts))
    calls: Ways = {
        (runtime, "one thread"): partial(load(runtime, path, 1).run, inputs),
        (runtime, "operators"): partial(load(runtime, path, threads).run, inputs),
        (runtime, "parts"): partial(load(runtime, description, threads).run, inputs),
    }
    if runtime == "onnxruntime":
        calls[runtime, "runtime"] = partial(parallel_executor(path, threads).run, None, inputs)
    if runtime == "openvino":
        calls[runtime, "runtime"] = openvino_streams(path, threads, inputs)
    return calls


def parallel_executor(path: Path, threads: int) -> Any:
    """A session of ONNX Runtime that runs branches side by side."""
    options = onnxruntime.SessionOptions()
    options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    options.inter_op_num_threads, options.intra_op_num_threads, options.log_severity_level = threads, 1, 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def openvino_streams(path: Path, threads: int, inputs: Tensors) -> Callable[[], object]:
    """As many images at once as there are threads, each on one."""
    hints = {"NUM_STREAMS": threads, "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    queue = openvino.AsyncInferQueue(openvino.Core().compile_model(str(path), "CPU", hints), threads)

    def run() -> None:
        for _ in range(threads):
            queue.start_async(inputs)
        queue.wait_all()

    return run


def alone(folder: Path, described: PartsDescription, runtime: str, inputs: Tensors) -> Ways:
    """Each part as a call of its own, with the inputs it has in the whole."""
    values, calls = dict(inputs), Ways()
    for part in described.parts:
        runner = load(runtime, folder / part.files[0], 1)
        given = {name: values[name] for name in part.inputs}
        calls[runtime, part.name] = partial(runner.run, given)
        values |= runner.run(given)
    return calls


def bound(described: PartsDescription, times: Mapping[str, float], workers: int) -> float:
    """Milliseconds on this many workers, each taking the next part that is ready, where only parts take time."""
    free, ready = [0.0] * workers, {spec.name: 0.0 for spec in described.inputs}
    for part in described.parts:
        worker = min(range(workers), key=free.__getitem__)
        start = max(free[worker], *(ready[name] for name in part.inputs))
        free[worker] = start + times[part.name]
        ready |= dict.fromkeys(part.outputs, free[worker])
    return max(free)


def report(runtime: str, times: Mapping[tuple[str, str], list[float]], images: int) -> None:
    """Prints the lines of one runtime."""
    base = times[runtime, "operators"]
    for (owner, way), values in times.items():
        if owner == runtime:
            per_image = [value / (images if (runtime, way) == ("openvino", "runtime") else 1) for value in values]
            ratio = statistics.median(old / new for old, new in zip(base, per_image, strict=True))
            print(f"| {runtime} | {way} | {min(per_image):.1f} | {statistics.median(per_image):.1f} | {ratio:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--input", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--format", action="append", choices=FORMATS)
    arguments = parser.parse_args()
    formats = arguments.format or list(FORMATS)
    with tempfile.TemporaryDirectory() as scratch:
        folder = export(arguments.model, arguments.input, formats, Path(scratch))
        manifest, against = read_manifest(folder), read_reference(folder / REFERENCE)
        inputs = {against.inputs[0].name: against.cases[0].inputs[0]}
        calls, described, times = Ways(), dict[str, PartsDescription](), dict[str, dict[str, float]]()
        with silenced():
            for name in formats:
                whole, parts = (each for each in manifest.members if each.artifact.format == name)
                calls |= ways(folder, whole, parts, arguments.threads, inputs)
                described[whole.artifact.runtime] = read_description(folder / parts.artifact.files[0].name)
            taken = interleaved(calls, arguments.rounds)
            for runtime, each in described.items():
                parts_taken = interleaved(alone(folder, each, runtime, inputs), arguments.rounds)
                times[runtime] = {part: min(values) for (_, part), values in parts_taken.items()}
    print(f"{arguments.model}, {arguments.threads} threads\n\n| runtime | way | min ms | median ms | operators / way |")
    print("|---|---|--:|--:|--:|")
    for name in formats:
        report(EXPORTERS[name].runtime, taken, arguments.threads)
    print("\n| runtime | parts alone, ms | " + " | ".join(f"{count} workers" for count in WORKERS) + " |")
    print("|---|---|" + "--:|" * len(WORKERS))
    for runtime, each in described.items():
        shown = ", ".join(f"{part} {ms:.1f}" for part, ms in times[runtime].items())
        whole_ms = sum(times[runtime].values())
        bounds = (f"{whole_ms / bound(each, times[runtime], count):.2f}" for count in WORKERS)
        print(f"| {runtime} | {shown} | {' | '.join(bounds)} |", flush=True)


if __name__ == "__main__":
    main()
