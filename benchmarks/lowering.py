"""What edgekit's lowerings are worth: its artifacts against what the bare converters make of the same network.

    python benchmarks/lowering.py parcnetv2_t parcnetv2_xt --rounds 20

For each network and runtime the default route (the module given to the format's own converter) and edgekit's export
are made in this run and take turns, together with the kernels of `edgekit.bench.ceiling`: large float32 products in
ONNX Runtime and in OpenVINO, whose better rate is the ceiling. Printed are minimum and median in milliseconds, the
median over the rounds of the ratio default / edgekit, the share of the ceiling that the network's MACs reach at the
minimum, and how far each file is from the original model in float64. The figures are this machine's; only the ratios
mean anything elsewhere.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from default_route import default_route
from interleaved import inferences, interleaved

from edgekit.bench.ceiling import conclude
from edgekit.bench.ceiling_record import Ceiling
from edgekit.bench.microbenchmarks import kernels
from edgekit.bundle import REFERENCE, Manifest, read_manifest
from edgekit.numerics import compare_sampled
from edgekit.quiet import silenced
from edgekit.reference_file import read_reference
from edgekit.runners import load
from edgekit.runners.base import Runner, Tensors

WITH_A_DEFAULT = ("onnxruntime", "openvino", "tflite")
"""Runtimes whose default route gives the network. ncnn's does not load, see `tests/exporters/test_ncnn.py`."""

Loaded = dict[tuple[str, str], tuple[Runner, Tensors]]
Times = dict[tuple[str, str], list[float]]


def export(model: str, folder: Path) -> Manifest:
    """Makes edgekit's files of a network."""
    command = [sys.executable, "-m", "edgekit", "export", model, "--target", "host", "-o", str(folder / "bundle")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return read_manifest(folder / "bundle")


def loaded(folder: Path, manifest: Manifest, threads: int) -> tuple[Loaded, dict[tuple[str, str], float]]:
    """Every artifact with its input, and its worst SNR over the reference's cases in dB."""
    against = read_reference(folder / "bundle" / REFERENCE)
    runners: Loaded = {}
    quality = {}
    for member in manifest.members:
        runtime = member.artifact.runtime
        ours = folder / "bundle" / member.artifact.files[0].name
        theirs = default_route(manifest.model.name, folder, runtime)[:1] if runtime in WITH_A_DEFAULT else ()
        for route, path in (*(("default", path) for path in theirs), ("edgekit", ours)):
            runner = load(runtime, path, threads)
            name = runner.inputs[0].name
            cases = [(case.outputs[0].values, runner.run({name: case.inputs[0]})) for case in against.cases]
            quality[runtime, route] = min(
                compare_sampled(expected, next(iter(result.values()))).snr_db for expected, result in cases
            )
            runners[runtime, route] = (runner, {name: against.cases[1].inputs[0]})
    return runners, quality


def measure(runners: Loaded, threads: int, rounds: int) -> tuple[Times, Ceiling]:
    """Times every artifact, and the machine's ceiling in the same rounds."""
    made = kernels(threads)
    beside = {number: kernel.call for number, kernel in enumerate(made)}
    taken = interleaved({**inferences(runners), **beside}, rounds)
    times = {key: values for key, values in taken.items() if not isinstance(key, int)}
    return times, conclude(threads, made, {number: taken[number] for number in beside})


def report(model: str, macs: int, times: Times, ceiling: Ceiling, quality: dict[tuple[str, str], float]) -> None:
    """Prints the lines of one network."""
    rate = ceiling.gmacs("fp32")
    fastest = 1e-6 * macs / rate
    print(f"\n{model}: ceiling {rate:.0f} GMAC/s, {fastest:.1f} ms for its {macs / 1e9:.3f} G MACs")
    print("| runtime | route | min ms | median ms | default / edgekit | of the ceiling | SNR dB |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for (runtime, route), values in times.items():
        pairs = zip(times.get((runtime, "default"), []), values, strict=False)
        ratios = [before / after for before, after in pairs]
        cells = (
            f"{min(values):.1f}",
            f"{statistics.median(values):.1f}",
            f"{statistics.median(ratios):.2f}" if ratios else "",
            f"{fastest / min(values):.0%}",
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
                times, ceiling = measure(runners, arguments.threads, arguments.rounds)
            report(model, manifest.model.macs, times, ceiling, quality)


if __name__ == "__main__":
    main()
