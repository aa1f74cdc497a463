"""What edgekit's export costs over the two converters it calls.

    python benchmarks/export_overhead.py parcnetv2_t --rounds 3

Each round runs, in fresh processes and in turn, the bare converters on the captured-from-scratch module
(`torch.onnx.export`, then `litert_torch.convert`) and `edgekit export --format onnx --format tflite --no-cache`, which
also proves every pass, simplifies, and verifies both files in their runtimes. Printed are the minimum and median of
the wall times, interpreter start and imports included, the ratio of the medians, and edgekit's stages.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BARE = """
import sys, torch
from pathlib import Path
from edgekit.models.build import build
from edgekit.models.weights import random_weights
from edgekit.models.cards import card
model = build(sys.argv[1], None)
random_weights(model, 0)
example = (torch.zeros(card(sys.argv[1]).input_shape),)
torch.onnx.export(model, example, dynamo=True, verbose=False).save(str(Path(sys.argv[2]) / "bare.onnx"))
import litert_torch
litert_torch.convert(model, example).export(str(Path(sys.argv[2]) / "bare.tflite"))
"""


def timed(command: list[str]) -> float:
    """Wall time of a command in seconds."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {"bare": [], "edgekit": []}
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        formats = ["--format", "onnx", "--format", "tflite"]
        ours = [sys.executable, "-m", "edgekit", "export", arguments.model, *formats, "--no-cache", "-o", str(bundle)]
        for _ in range(arguments.rounds):
            times["bare"].append(timed([sys.executable, "-c", BARE, arguments.model, folder]))
            times["edgekit"].append(timed(ours))
        stages = json.loads((bundle / "manifest.json").read_text())["stages"]
    for name, seconds in times.items():
        print(f"{name:8} min {min(seconds):6.1f} s  median {statistics.median(seconds):6.1f} s")
    ratio = statistics.median(times["edgekit"]) / statistics.median(times["bare"])
    print(f"ratio of medians {ratio:.2f}\n\nlast edgekit run by stage:")
    for stage in stages:
        print(f"  {stage['name']:24} {stage['seconds']:6.1f} s")


if __name__ == "__main__":
    main()
