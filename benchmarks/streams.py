"""Whether ParNet's streams are worth running at the same time: on cores of their own, against splitting every operator.

    python benchmarks/streams.py parnet_l --threads 2 --rounds 20

The network is exported whole and cut at its streams (`edgekit.passes.partition`), for ONNX Runtime, OpenVINO and
TFLite. Then take turns, one image each a round:

| way | what computes |
|---|---|
| one thread | the whole on one thread |
| operators | the whole, its operators split between N threads |
| runtime | the whole on N threads as the runtime itself runs branches: ONNX Runtime's parallel executor |
| parts | the parts on N Python threads, each as soon as its inputs are there, one thread in each |

OpenVINO's way of its own are N streams, which take N images at a time and cannot make one image faster; it is given per
image. Printed are minimum and median in milliseconds and, over the rounds, the median of the ratio operators / way:
above 1 the way is faster. Below stand the parts alone on one thread, and what any number of workers could make of
them at best: the sum of the parts over their time when each worker takes the next part that is ready and nothing else
takes time. Splitting operators is worth less than that only where it scales worse. The figures are this machine's.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
from interleaved import interleaved
from numpy.typing import NDArray

from edgekit.artifact import TensorSpec
from edgekit.exporters import EXPORTERS
from edgekit.exporters.base import ExportSpec
from edgekit.network import Network, lower, prepare
from edgekit.passes.partition import Partition, certify, partition, results
from edgekit.plan import Request, make_plan
from edgekit.program import Program, placeholders
from edgekit.quiet import silenced
from edgekit.runners import load
from edgekit.runners.base import Runner

PATTERN = "streams.*"
FORMATS = ("onnx", "openvino", "tflite")
WORKERS = (2, 3, 4, 8)

Tensors = dict[str, NDArray[np.float32]]
Ways = dict[tuple[str, str], Callable[[], Any]]


def export(program: Program, name: str, folder: Path, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Path:
    """Writes a program in a format, its tensors named as asked for."""
    given, returned = map(described, inputs, placeholders(program)), map(described, outputs, results(program))
    spec = ExportSpec(tuple(given), tuple(returned), {})
    (candidate, *_) = EXPORTERS[name].load()(program, spec, folder, "net")
    return candidate.files[0]


def described(name: str, node: Any) -> TensorSpec:
    """A tensor under a name that every format takes."""
    return TensorSpec(name=name, shape=tuple(node.meta["val"].shape))


class Parts:
    """The parts of a network in one runtime, and the threads they run on."""

    def __init__(self, cut: Partition, files: Mapping[str, Path], runtime: str, workers: int) -> None:
        self.cut = cut
        self.runners: dict[str, Runner] = {name: load(runtime, path, 1) for name, path in files.items()}
        self.pool = ThreadPoolExecutor(workers)

    def run(self, inputs: Tensors) -> Tensors:
        """Runs every part as soon as what it takes is there."""
        values, waiting = dict(inputs), list(self.cut.parts)
        running: set[Future[Tensors]] = set()
        while waiting or running:
            for part in [part for part in waiting if values.keys() >= {*part.inputs}]:
                waiting.remove(part)
                given = {name: values[name] for name in part.inputs}
                running.add(self.pool.submit(self.runners[part.name].run, given))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each in done:
                values |= each.result()
        return {name: values[name] for name in self.cut.outputs}

    def alone(self, inputs: Tensors) -> Ways:
        """Each part as a call of its own, with the inputs it has in the whole."""
        values = dict(inputs)
        calls: Ways = {}
        for part in self.cut.parts:
            given = {name: values[name] for name in part.inputs}
            calls["part", part.name] = partial(self.runners[part.name].run, given)
            values |= self.runners[part.name].run(given)
        return calls

    def bound(self, times: Mapping[str, float], workers: int) -> float:
        """Milliseconds on this many workers, each taking the next part that is ready, where only parts take time."""
        free, ready = [0.0] * workers, dict.fromkeys(self.cut.inputs, 0.0)
        for part in self.cut.parts:
            worker = min(range(workers), key=free.__getitem__)
            start = max(free[worker], *(ready[name] for name in part.inputs))
            free[worker] = start + times[part.name]
            ready |= dict.fromkeys(part.outputs, free[worker])
        return max(free)


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


def ways(network: Network, name: str, folder: Path, threads: int, inputs: Tensors) -> tuple[Ways, Parts]:
    """Every way to run the network in one runtime, all proved to give the same."""
    runtime = EXPORTERS[name].runtime
    program = lower(network, runtime, "fp32").program
    cut = partition(program, PATTERN)
    certify(program, cut, PATTERN, network.probes[:1])
    whole = export(program, name, made(folder / name / "whole"), cut.inputs, cut.outputs)
    files = {
        part.name: export(part.program, name, made(folder / name / part.name), part.inputs, part.outputs)
        for part in cut.parts
    }
    given = dict(zip(cut.inputs, inputs.values(), strict=True))
    one, several, parts = load(runtime, whole, 1), load(runtime, whole, threads), Parts(cut, files, runtime, threads)
    calls: Ways = {
        (runtime, "one thread"): partial(one.run, given),
        (runtime, "operators"): partial(several.run, given),
        (runtime, "parts"): partial(parts.run, given),
    }
    expected, found = one.run(given), parts.run(given)
    for output in cut.outputs:
        np.testing.assert_allclose(found[output], expected[output], rtol=1e-3, atol=1e-5)
    if runtime == "onnxruntime":
        calls[runtime, "runtime"] = partial(parallel_executor(whole, threads).run, None, given)
    if runtime == "openvino":
        calls[runtime, "runtime"] = openvino_streams(whole, threads, given)
    return calls, parts


def made(folder: Path) -> Path:
    """A folder that is there."""
    folder.mkdir(parents=True)
    return folder


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
    shape = (1, 3, arguments.input, arguments.input) if arguments.input else None
    plan = make_plan(Request(model=arguments.model, shape=shape, formats=("onnx",)))
    with tempfile.TemporaryDirectory() as scratch, silenced():
        network = prepare(plan, lambda _: nullcontext())
        case = network.reference.cases[0]
        inputs = {spec.name: image for spec, image in zip(plan.inputs, case.inputs, strict=True)}
        calls, parts = Ways(), dict[str, Parts]()
        for name in arguments.format or FORMATS:
            more, parts[name] = ways(network, name, Path(scratch), arguments.threads, inputs)
            calls |= more
        times = interleaved(calls, arguments.rounds)
        alone = {}
        for name, each in parts.items():
            given = dict(zip(each.cut.inputs, inputs.values(), strict=True))
            alone[name] = {
                key: min(values) for (_, key), values in interleaved(each.alone(given), arguments.rounds).items()
            }
    print(f"{arguments.model}, {arguments.threads} threads\n\n| runtime | way | min ms | median ms | operators / way |")
    print("|---|---|--:|--:|--:|")
    for name in parts:
        report(EXPORTERS[name].runtime, times, arguments.threads)
    print("\n| runtime | parts alone, ms | " + " | ".join(f"{count} workers" for count in WORKERS) + " |")
    print("|---|---|" + "--:|" * len(WORKERS))
    for name, each in parts.items():
        shown = ", ".join(f"{part} {ms:.1f}" for part, ms in alone[name].items())
        whole = sum(alone[name].values())
        bounds = (f"{whole / each.bound(alone[name], count):.2f}" for count in WORKERS)
        print(f"| {EXPORTERS[name].runtime} | {shown} | {' | '.join(bounds)} |", flush=True)


if __name__ == "__main__":
    main()
