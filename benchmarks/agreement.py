"""How far `edgekit bench` can be relied on: against each runtime's own tool, and against itself.

    python benchmarks/agreement.py edgekit-out/parcnetv2_t-224-host --repeats 5 --profile quick

For every artifact of a bundle `edgekit bench` and the runtime's own tool take turns: OpenVINO's benchmark_app,
LiteRT's litert-benchmark, and onnxruntime_perf_test where it is installed, all with one thread and for about the same
time. Printed are both medians of every repeat and the median of their ratios; then whether the repeats agree within the
intervals that each of them states, and every verdict that is not TRUSTED. Run it on a machine that does nothing else.
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

from edgekit.bench.profiles import PROFILES
from edgekit.bench.record import Measurement, Profile
from edgekit.bundle import Stage, read_manifest
from edgekit.measure import Bundle, Choice, conclude, measure_bundles
from edgekit.runners import RUNNERS

Tool = Callable[[Path, Profile, float], float | None]
"""(artifact, profile, milliseconds an inference is likely to take) to its median in milliseconds; None: not there."""


class Silent:
    """Nobody watches."""

    def begin(self, stage: str) -> None: ...

    def end(self, stage: Stage) -> None: ...

    def note(self, text: str) -> None: ...


def found(name: str) -> str | None:
    """A program of this environment, or of the system."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def output_of(command: list[str]) -> str:
    process = subprocess.run(command, check=False, capture_output=True, text=True)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{process.stdout[-1000:]}{process.stderr[-1000:]}")
    return process.stdout


def benchmark_app(path: Path, profile: Profile, expected_ms: float) -> float | None:  # noqa: ARG001
    if (program := found("benchmark_app")) is None:
        return None
    one_thread = ["-d", "CPU", "-hint", "none", "-nstreams", "1", "-nthreads", "1", "-api", "sync"]
    in_float32 = ["-infer_precision", "f32"]
    text = output_of([program, "-m", str(path), *one_thread, *in_float32, "-t", f"{profile.seconds:.0f}"])
    match = re.search(r"Median:\s+([\d.]+) ms", text)
    return float(match[1]) if match else None


def litert_benchmark(path: Path, profile: Profile, expected_ms: float) -> float | None:
    if (program := found("litert-benchmark")) is None:
        return None
    runs = max(profile.runs, round(1e3 * profile.seconds / expected_ms))
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        options = ["--num_threads", "1", "--warmup_runs", "10", "--num_runs", str(runs), "--result_json", str(result)]
        output_of([program, "--model", str(path), *options])
        return float(json.loads(result.read_text())["latency"]["median_ms"])


def onnxruntime_perf_test(path: Path, profile: Profile, expected_ms: float) -> float | None:  # noqa: ARG001
    if (program := found("onnxruntime_perf_test")) is None:
        return None
    options = ["-m", "times", "-x", "1", "-y", "1", "-I", "-r", str(profile.runs), "-e", "cpu"]
    match = re.search(r"P50 Latency: ([\d.]+) s", output_of([program, *options, str(path)]))
    return 1e3 * float(match[1]) if match else None


TOOLS: dict[str, Tool] = {
    "openvino": benchmark_app,
    "tflite": litert_benchmark,
    "onnxruntime": onnxruntime_perf_test,
}


def measured(bundle: Bundle, runtime: str, profile: Profile) -> Measurement:
    outcome = measure_bundles([bundle], Choice(runtimes=(runtime,), memory=False), profile, sys.argv, Silent())
    if problem := conclude(outcome.problems):
        raise problem
    return outcome.runs[0].measurements[0]


def overlap(first: Measurement, second: Measurement) -> bool:
    """Whether the intervals of two repeats have a value in common."""
    one, other = first.latency.interval, second.latency.interval
    return one is not None and other is not None and one.low <= other.high and other.low <= one.high


def report(runtime: str, ours: list[Measurement], theirs: list[float | None]) -> None:
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True), start=1):
        interval = one.latency.interval
        span = f"[{interval.low:.3f}, {interval.high:.3f}]" if interval else ""
        tool = "" if other is None else f"  own tool {other:9.3f} ms  ratio {one.latency.median_ms / other:.3f}"
        print(f"{runtime:12} {number}  edgekit {one.latency.median_ms:9.3f} ms {span}{tool}  {one.verdict.level}")
    pairs = list(combinations(ours, 2))
    agreeing = sum(overlap(*pair) for pair in pairs)
    print(f"{runtime:12} {agreeing} of {len(pairs)} pairs of repeats agree within their intervals")
    known = [one.latency.median_ms / other for one, other in zip(ours, theirs, strict=True) if other is not None]
    if known:
        print(f"{runtime:12} edgekit / own tool: {statistics.median(known):.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--profile", choices=PROFILES, default="quick")
    parser.add_argument("--runtime", choices=RUNNERS, action="append", help="only these; repeatable")
    arguments = parser.parse_args()
    bundle, profile = Bundle(arguments.bundle, read_manifest(arguments.bundle)), PROFILES[arguments.profile]
    for member in bundle.manifest.members:
        runtime, path = member.artifact.runtime, arguments.bundle / member.artifact.files[0].name
        if arguments.runtime and runtime not in arguments.runtime:
            continue
        ours: list[Measurement] = []
        theirs: list[float | None] = []
        for _ in range(arguments.repeats):
            ours.append(measured(bundle, runtime, profile))
            tool = TOOLS.get(runtime)
            theirs.append(tool(path, profile, ours[-1].latency.median_ms) if tool else None)
        report(runtime, ours, theirs)


if __name__ == "__main__":
    main()
