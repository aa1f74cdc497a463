"""What fusing is worth: a network fused against the same network unfused, in every runtime.

    python benchmarks/fusion.py parnet_l --threads 1 --threads 2 --rounds 15

Both are exported in this run; then all artifacts of one thread count take turns, one inference each a round, so that
drift of the machine hits all alike. Printed are minimum and median in milliseconds, and the median of the ratios
unfused / fused of each round. The figures are this machine's; only the ratios mean anything elsewhere.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from interleaved import inferences, interleaved

from edgekit.bundle import REFERENCE, read_manifest
from edgekit.quiet import silenced
from edgekit.reference_file import read_reference
from edgekit.runners import load
from edgekit.runners.base import Runner, Tensors

VARIANTS = {"unfused": ["--no-fuse", "*"], "fused": []}


def export(model: str, options: list[str], folder: Path) -> None:
    """Exports a network into a bundle."""
    command = [sys.executable, "-m", "edgekit", "export", model, *options, "-o", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def measure(folders: dict[str, Path], threads: int, rounds: int) -> None:
    """Times every artifact of every variant in turn and prints a line for each runtime."""
    against = read_reference(folders["fused"] / REFERENCE)
    inputs = {spec.name: image for spec, image in zip(against.inputs, against.cases[1].inputs, strict=True)}
    runners: dict[tuple[str, str], tuple[Runner, Tensors]] = {}
    with silenced():
        for variant, folder in folders.items():
            for member in read_manifest(folder).members:
                path = folder / member.artifact.files[0].name
                runners[member.artifact.runtime, variant] = load(member.artifact.runtime, path, threads), inputs
    times = interleaved(inferences(runners), rounds)
    for runtime in dict.fromkeys(runtime for runtime, _ in runners):
        before, after = (times[runtime, variant] for variant in VARIANTS)
        ratio = statistics.median(old / new for old, new in zip(before, after, strict=True))
        shown = "  ".join(
            f"{name} min {min(values):7.1f} median {statistics.median(values):7.1f}"
            for name, values in (("unfused", before), ("fused", after))
        )
        print(f"{threads} thread{'s' if threads > 1 else ' '} {runtime:12} {shown}  ratio {ratio:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, action="append")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: Path(scratch) / name for name in VARIANTS}
        for name, options in VARIANTS.items():
            export(arguments.model, options, folders[name])
        for threads in arguments.threads or [1]:
            measure(folders, threads, arguments.rounds)


if __name__ == "__main__":
    main()
