"""What each technique of edgekit's int8 earns, from a runtime's own default to our recipe, one at a time.

    python benchmarks/ablation.py parnet_pico_patterns --data patterns
    python benchmarks/ablation.py parnet_pico_digits --data digits --format onnx

The first row of a format is the untouched network through the format's own converter and quantizer with nothing set, as
in `benchmarks/int8.py`; each row below adds one thing to the row above, and those that begin with `or` try another way
in place of the last. Columns are the SNR of the outputs against torch, and top-1 with what it loses against torch:
points, with the 95 % interval of the paired difference. All of it on test images that nothing was calibrated with.

MODEL needs weights of its own: a demo model's, or those that code of yours comes with (`file.py:callable`).
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from int8 import DEFAULTS
from numpy.typing import NDArray
from torch import nn

from edgekit.bundle import Stage
from edgekit.candidates import write_artifact
from edgekit.clock import Clock
from edgekit.evaluation.statistics import drop_interval, points
from edgekit.exporters import Exporter
from edgekit.material import Material, gather
from edgekit.network import Network, prepare, set_weights
from edgekit.numerics import compare_one
from edgekit.passes.lower import LOWERINGS
from edgekit.passes.lower.equalise import Equalise
from edgekit.plan import Plan, Request, make_plan
from edgekit.quant import Quantizer
from edgekit.quant.base import Job
from edgekit.quant.openvino import import_nncf
from edgekit.quantize import choose
from edgekit.quiet import silenced
from edgekit.runners import load

Row = tuple[str, Callable[[Path], object]]
"""What is added, and what writes the file."""

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Image to logits."""


class Quiet:
    """Nobody watches."""

    def begin(self, stage: str) -> None:
        pass

    def end(self, stage: Stage) -> None:
        pass

    def note(self, text: str) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Answers:
    """What a network says of the test images."""

    logits: NDArray[np.float32]
    right: NDArray[np.bool_]


def trained(plan: Plan) -> nn.Module:
    """The network as its authors wrote it, with its weights."""
    built = plan.source.build(plan.request.shape, plan.kernel_policy)
    set_weights(built, plan)
    return built.model


def test_images(material: Material) -> tuple[list[Mapping[str, NDArray[np.float32]]], NDArray[np.int64]]:
    """All labelled images, and their classes."""
    pairs = list(material.answering())
    return [feed for feed, _ in pairs], np.asarray([label for _, label in pairs])


def answer(run: Run, feeds: Any, labels: Any) -> Answers:
    """One network's answers."""
    logits = np.concatenate([run(next(iter(feed.values()))) for feed in feeds])
    return Answers(logits, logits.argmax(1) == labels)


def answer_file(runtime: str, path: Path, feeds: Any, labels: Any) -> Answers:
    """An artifact's answers."""
    with silenced():
        if runtime == "tflite" and (run := in_integers(path)):
            return answer(run, feeds, labels)
        with load(runtime, path, 1) as runner:
            name = runner.inputs[0].name
            return answer(lambda image: next(iter(runner.run({name: image}).values())), feeds, labels)


def in_integers(path: Path) -> Run | None:
    """A `.tflite` file that takes and gives integers, as the quantizer's own recipe makes it; None for any other."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    if taken["dtype"] != np.int8:
        return None

    def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
        step, zero = taken["quantization"]
        interpreter.set_tensor(taken["index"], np.clip(np.rint(image / step) + zero, -128, 127).astype(np.int8))
        interpreter.invoke()
        step, zero = given["quantization"]
        return np.float32(step) * (interpreter.get_tensor(given["index"]).astype(np.float32) - zero)

    return run


def ours(source: Path, even: Path, quantizer: Quantizer, material: Material) -> Iterator[Row]:
    """The rows that our own quantizers make, of the fused and lowered graph without equalised channels and with."""
    module = quantizer.load()

    def row(path: Path, recipe: str, *also: str, **options: Any) -> Callable[[Path], object]:
        choice = choose(path, quantizer, quantizer.recipe(recipe))
        more = {name for name, reason in choice.why.items() if reason in also}
        images = len(material.calibration[1])
        job = Job(quantizer.recipe(recipe), frozenset(choice.chosen) | more, material.calibrating, images, **options)
        return partial(module.quantize, path, job)

    static, plain = "static_wi8_ai8", {"ranges": "minmax", "corrected": False}
    yield "dense layers only, ranges minmax", row(source, static, "gate", **plain)
    yield "gates float", row(source, static, **plain)
    yield "or ranges by percentile", row(source, static, ranges="percentile", corrected=False)
    yield "ranges by mse", row(source, static, ranges="mse", corrected=False)
    yield "biases corrected", row(source, static, ranges="mse")
    yield "channels equalised", row(even, static, ranges="mse")
    yield "or depthwise layers too", row(even, static, "grouped", ranges="mse")
    for other in quantizer.recipes:
        if other not in (static, "wi8_weightonly"):
            yield f"or {other}", row(even, other, ranges="mse")
            yield f"or {other}, biases as they are", row(even, other, ranges="mse", corrected=False)


def onnx_rows(source: Path, material: Material) -> Iterator[Row]:
    """`quantize_static` on the fused and lowered graph, with more and more of what we set."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds = material.calibrating()

        def get_next(self) -> dict[str, Any]:
            return dict(next(self.feeds, {}))

    def write(target: Path, **options: Any) -> None:
        quantize_static(source, target, Reader(), **options)

    yield "fused, lowered graph", write
    yield "scales per channel", partial(write, per_channel=True)
    yield "unsigned activations", partial(write, per_channel=True, activation_type=QuantType.QUInt8)


def openvino_rows(source: Path, material: Material) -> Iterator[Row]:
    """`nncf.quantize` on the fused and lowered graph."""
    import openvino

    def write(target: Path) -> None:
        nncf = import_nncf()
        dataset = nncf.Dataset([next(iter(feed.values())) for feed in material.calibrating()])
        made = nncf.quantize(openvino.Core().read_model(str(source)), dataset)
        openvino.save_model(made, str(target), compress_to_fp16=False)

    yield "fused, lowered graph", write


def tflite_rows(source: Path, material: Material) -> Iterator[Row]:
    """The quantizer's own recipe on the fused and lowered graph."""
    from ai_edge_quantizer import quantizer, recipe

    def write(target: Path) -> None:
        work = quantizer.Quantizer(str(source), recipe.static_wi8_ai8())
        data = {"serving_default": [dict(feed) for feed in material.calibrating()]}
        target.write_bytes(bytes(work.quantize(work.calibrate(data)).quantized_model or b""))

    yield "fused, lowered graph", write


ROWS: Mapping[str, Callable[[Path, Material], Iterator[Row]]] = {
    "onnx": onnx_rows,
    "openvino": openvino_rows,
    "tflite": tflite_rows,
}


def write(plan: Plan, entry: Exporter, folder: Path, clock: Clock, network: Network) -> Path:
    """The float file that is quantized, in a folder called `even` with its channels equalised."""
    folder.mkdir()
    lowerings = dict(LOWERINGS)
    if folder.name != "even":
        for key, lowering in LOWERINGS.items():
            kept = tuple(each for each in lowering.before if not isinstance(each, Equalise))
            lowerings[key] = replace(lowering, before=kept)
    with patch("edgekit.network.LOWERINGS", lowerings):
        member = write_artifact(plan.quantized(), entry, folder, clock, network, None)
    return folder / member.artifact.files[0].name


def report(label: str, found: Answers, exact: Answers) -> None:
    """Prints a row."""
    lost, gained = int(np.sum(exact.right & ~found.right)), int(np.sum(~exact.right & found.right))
    low, high = drop_interval(lost, gained, len(exact.right))
    snr = compare_one(exact.logits, found.logits).snr_db
    drop = points(lost, gained, len(exact.right))
    print(
        f"| {label:32} | {snr:6.1f} dB | {100 * found.right.mean():6.2f} % | {drop:6.2f} [{low:.2f}, {high:.2f}] |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", default="patterns")
    parser.add_argument("--format", action="append", choices=ROWS)
    parser.add_argument("--calibration", type=int, default=128)
    arguments = parser.parse_args()
    formats = tuple(arguments.format or ROWS)
    clock = Clock(Quiet())
    plan = make_plan(Request(arguments.model, target="host", formats=formats, recipe="int8", data=arguments.data))
    material = gather(arguments.data, plan.card.preprocessing, plan.inputs, arguments.calibration)
    feeds, labels = test_images(material)
    with silenced():
        model = trained(plan)
    with torch.no_grad():
        exact = answer(lambda image: model(torch.from_numpy(image)).numpy(), feeds, labels)
    print(f"{arguments.model}, {len(labels)} images of {arguments.data}: {exact.right.mean():.2%} in torch")
    network = prepare(plan, clock.stage)
    for entry, quantizer, _ in plan.quantizers:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            source, even = (write(plan, entry, folder / name, clock, network) for name in ("as trained", "even"))
            with silenced():
                defaults = DEFAULTS[entry.format](model, material, folder)
            print(f"\n| {entry.format:32} | SNR | top-1 | points lost |\n|---|--:|--:|--:|")
            for label, path in defaults.items():
                report(label, answer_file(quantizer.runtime, path, feeds, labels), exact)
            rows = (*ROWS[entry.format](source, material), *ours(source, even, quantizer, material))
            for label, make in rows:
                target = folder / f"row{quantizer.suffix}"
                try:
                    with silenced():
                        make(target)
                    found = answer_file(quantizer.runtime, target, feeds, labels)
                except Exception as error:  # noqa: BLE001 - that a way does not run is a result
                    print(f"| {label:32} | does not run: {str(error).splitlines()[0][:80]} |")
                    continue
                report(label, found, exact)


if __name__ == "__main__":
    main()
