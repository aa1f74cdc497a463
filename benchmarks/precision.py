"""Executed instructions of float, of int8 wherever structure allows it, and of int8 where it was measured to pay.

    python benchmarks/precision.py parnet_pico_digits parcnetv2_pico_digits --data digits

For every board the network is exported for a target with a CPU like its: once with `--int8`, and once with `--int8
--smallest`, which takes int8 for whatever may be int8. All files run on one image and are counted once, with one
thread. SNRs are against the original model in float64. Where no layer is faster in int8 there is no measured file.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from edgekit.bundle import REFERENCE, read_manifest
from edgekit.numerics import compare_sampled
from edgekit.reference_file import read_reference
from edgekit.targets.device import open_device
from edgekit.targets.job import Job, Task

BOARDS = {"qemu://armv7": ("rk3288", ("tflite",)), "qemu://aarch64": ("rk3399", ("tflite", "onnx"))}
"""Board to a target with a CPU like its, and the formats counted there."""


def export(model: str, data: str, board: str, folder: Path, *options: str) -> Path:
    """A bundle with float and int8."""
    target, formats = BOARDS[board]
    asked = [model, "--target", target, "--int8", "--data", data, *options, "-o", str(folder)]
    asked += [option for name in formats for option in ("--format", name)]
    subprocess.run([sys.executable, "-m", "edgekit", "export", *asked], check=True, capture_output=True)
    return folder


def tasks_of(bundle: Path, what: str) -> list[Task]:
    """The artifacts of a bundle with one image."""
    against = read_reference(bundle / REFERENCE)
    image = dict(zip((spec.name for spec in against.inputs), against.cases[1].inputs, strict=True))
    found = []
    for member in read_manifest(bundle).whole:
        name = "float" if member.quantization is None else f"int8 {what}, {member.quantization.quantized} layers"
        files = tuple(bundle / file.name for file in member.artifact.files)
        runtime = member.artifact.runtime
        found.append(Task(key=f"{runtime} | {name}", runtime=runtime, files=files, cases=(image,)))
    return found


def report(model: str, data: str, board: str, scratch: Path) -> None:
    """Prints the lines of one network on one board."""
    measured = export(model, data, board, scratch / "measured")
    structure = export(model, data, board, scratch / "structure", "--smallest")
    tasks = {task.key: task for task in (*tasks_of(structure, "by structure"), *tasks_of(measured, "as measured"))}
    against = read_reference(measured / REFERENCE)
    with open_device(board) as device:
        record = device.run(Job(tasks=tuple(tasks.values()), measure="instructions", repeats=1, warmup=1))
    done = {each.key: each.executed.instructions for each in record.artifacts if each.executed}
    for each in sorted(record.artifacts, key=lambda each: each.key):
        if each.key not in done:
            print(f"| {model} | {board} | {each.key} | {each.failure.message if each.failure else ''} | | |")
            continue
        (output,) = each.outputs[0].values()
        snr_db = compare_sampled(against.cases[1].outputs[0].values, output).snr_db
        change = done[each.key] / done[f"{each.runtime} | float"] - 1
        count = f"{done[each.key] / 1e6:.3f} M"
        print(f"| {model} | {board} | {each.key} | {count} | {change:+.1%} | {snr_db:.0f} dB |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--board", action="append", choices=BOARDS)
    arguments = parser.parse_args()
    print("| network | board | runtime | precision | instructions | over float | SNR |")
    print("|---|---|---|---|--:|--:|--:|", flush=True)
    for model in arguments.models:
        for board in arguments.board or BOARDS:
            with tempfile.TemporaryDirectory() as scratch:
                report(model, arguments.data, board, Path(scratch))


if __name__ == "__main__":
    main()
