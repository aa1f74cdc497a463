"""Executed instructions of one inference on emulated ARM boards: what the bare converters make, and what edgekit makes.

    python benchmarks/instructions.py parcnetv2_t parnet_s --board qemu://armv7 --board qemu://aarch64

The default route of a format is the module given to the format's own converter with nothing set: torch.onnx.export,
openvino.convert_model, litert_torch.convert, and pnnx. Both files of every runtime
run once on the same image for their outputs and are then counted once, with one thread. Printed are the counts, the
ratio default / edgekit, and the SNR of the outputs against the float64 model; a file that a runtime does not load, or
that crashes it, says so. Counts do not mind what else the machine does. They are no time.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from default_route import FILES, default_route
from numpy.typing import NDArray

from edgekit.bundle import REFERENCE, read_manifest
from edgekit.numerics import compare_sampled
from edgekit.quiet import silenced
from edgekit.reference_file import read_reference
from edgekit.runners import load
from edgekit.targets.device import open_device
from edgekit.targets.job import Job, Measured, Task
from edgekit.verify import Reference


def input_name(runtime: str, path: Path) -> str:
    """What the default route calls the one input."""
    if runtime == "ncnn":
        return "in0"
    with silenced(), load(runtime, path) as runner:
        return runner.inputs[0].name


def tasks_of(model: str, folder: Path) -> tuple[list[Task], Reference]:
    """Both routes' files of a network, with one image for each."""
    bundle = folder / "bundle"
    subprocess.run(
        [sys.executable, "-m", "edgekit", "export", model, "--target", "arm", "-o", str(bundle)],
        check=True,
        capture_output=True,
    )
    manifest, against = read_manifest(bundle), read_reference(bundle / REFERENCE)
    image = dict(zip((spec.name for spec in against.inputs), against.cases[1].inputs, strict=True))
    tasks = []
    for member in manifest.members:
        runtime = member.artifact.runtime
        ours = tuple(bundle / file.name for file in member.artifact.files)
        tasks.append(Task(key=f"{runtime} edgekit", runtime=runtime, files=ours, cases=(image,)))
        if runtime in FILES and (theirs := default_route(model, folder, runtime)):
            named = {input_name(runtime, theirs[0]): value for value in image.values()}
            tasks.append(Task(key=f"{runtime} default", runtime=runtime, files=theirs, cases=(named,)))
    return tasks, against


def counted(board: str, tasks: list[Task]) -> list[Measured]:
    """What a board makes of each file; one that crashes its runtime takes nothing from the others."""
    found = []
    for task in tasks:
        with open_device(board) as device:
            job = Job(tasks=(task,), measure="instructions", repeats=1, warmup=0)
            found.append(device.run(job).artifacts[0])
        print(f"{board} {task.key}: {found[-1].executed or found[-1].failure}", file=sys.stderr, flush=True)
    return found


def snr_db(outputs: Mapping[str, NDArray[np.float32]], against: Reference) -> float:
    """How far the one output is from the float64 model."""
    (output,) = outputs.values()
    return compare_sampled(against.cases[1].outputs[0].values, output).snr_db


def report(model: str, board: str, found: list[Measured], against: Reference) -> None:
    """Prints the lines of one network on one board."""
    counts = {each.key: each.executed.instructions for each in found if each.executed}
    for each in found:
        runtime, route = each.key.split()
        if each.executed is None:
            print(f"| {model} | {board} | {runtime} | {route} | {each.failure.message if each.failure else ''} | | |")
            continue
        before = counts.get(f"{runtime} default")
        ratio = f"{before / each.executed.instructions:.2f}" if before else ""
        snr = snr_db(each.outputs[0], against)
        count = f"{each.executed.instructions / 1e9:.3f} G"
        print(
            f"| {model} | {board} | {each.distribution} {each.version} | {route} | {count} | {ratio} | {snr:.0f} dB |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--board", action="append", choices=("qemu://armv7", "qemu://aarch64"))
    arguments = parser.parse_args()
    boards = arguments.board or ["qemu://armv7", "qemu://aarch64"]
    print("| network | board | runtime | route | instructions | default / edgekit | SNR |")
    print("|---|---|---|---|--:|--:|--:|", flush=True)
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(len(boards)) as pool:
            tasks, against = tasks_of(model, Path(scratch))
            for board, found in zip(boards, pool.map(partial(counted, tasks=tasks), boards), strict=True):
                report(model, board, found, against)
                sys.stdout.flush()


if __name__ == "__main__":
    main()
