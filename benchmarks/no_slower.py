"""Whether a network becomes slower by the forms that were measured for its kernels: with them and as trained, in turn.

    python benchmarks/no_slower.py --out no_slower.md
    python benchmarks/no_slower.py parcnetv2_t timm:convnext_tiny --format tflite --rounds 40

Each network is asked what `edgekit export` writes differently from what was trained (`edgekit inspect --lowering`);
where that is nothing, a runtime has the same file either way and there is nothing to time. Elsewhere both files are
made, and take turns. Printed are the median of the paired ratios, ours over as trained, and its interval; it ends with
1 where a ratio is surely above 1.02. Without names it takes the zoo, and the networks of timm in the table `OF_TIMM`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from interleaved import inferences, interleaved

from edgekit.bench.record import Interval
from edgekit.bench.statistics import median_interval
from edgekit.bundle import read_manifest
from edgekit.exporters import EXPORTERS
from edgekit.kernel_group import DEPTHWISE
from edgekit.models.cards import CARDS
from edgekit.quiet import silenced
from edgekit.runners import load
from edgekit.runners.base import Runner, Tensors
from edgekit.tuning.choose import AUTO

LIMIT = 1.02

HEAD = ("| network | runtime | kernels are written as | ours / as trained | 95 % interval |", "|---|---|---|--:|---|")

WAYS = (AUTO, DEPTHWISE)
"""What `--lowering` is given: the measured choice, and as trained."""

OF_TIMM = (
    *("timm:mobilenetv3_small_100", "timm:mobilenetv4_conv_small", "timm:efficientnet_b0", "timm:mixnet_s"),
    *("timm:mnasnet_100", "timm:lcnet_100", "timm:tinynet_e", "timm:ghostnet_100", "timm:starnet_s1"),
    *("timm:convnext_atto", "timm:convnextv2_atto", "timm:inception_next_atto", "timm:convmixer_768_32"),
    *("timm:edgenext_xx_small", "timm:fastvit_t8", "timm:repvit_m0_9", "timm:poolformer_s12", "timm:mambaout_femto"),
    *("timm:resnet18", "timm:repvgg_a0"),
)
"""Networks whose depthwise kernels of more than nine taps can be written in several ways, and two that have none."""

LAUNCHER = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from tests.timm_beside_torch import import_timm
import_timm()
from edgekit.__main__ import main
main()
"""
"""`edgekit`, with the tests' way of importing timm beside any torchvision."""


@dataclass(frozen=True, slots=True)
class Row:
    """A network in a runtime; no ratio where nothing is written differently."""

    model: str
    runtime: str
    forms: str
    ratio: float | None = None
    interval: Interval | None = None

    @property
    def slower(self) -> bool:
        return self.interval is not None and self.interval.low > LIMIT

    def __str__(self) -> str:
        if self.ratio is None:
            return f"| {self.model} | {self.runtime} | {self.forms} | | |"
        span = f"{self.interval.low:.3f} to {self.interval.high:.3f}" if self.interval else ""
        return f"| {self.model} | {self.runtime} | {self.forms} | {self.ratio:.3f} | {span} |"


def edgekit(*arguments: str) -> str:
    """Runs the command, and gives back what it prints."""
    command = [sys.executable, "-c", LAUNCHER, str(Path(__file__).parents[1]), *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it said nothing")
    return done.stdout


def forms(model: str, formats: Sequence[str]) -> dict[str, str]:
    """Runtime to the forms its groups get, without those that stay as trained."""
    choices = json.loads(edgekit("inspect", model, "--lowering", "--json", "--target", "host"))["lowering"]
    written = {}
    for name in formats:
        runtime = EXPORTERS[name].runtime
        groups = choices.get(runtime, ())
        found = dict.fromkeys(group["form"] for group in groups if group["form"] != DEPTHWISE)
        written[runtime] = ", ".join(found)
    return written


def loaded(bundle: Path) -> dict[str, tuple[Runner, Tensors]]:
    """Runtime to its artifact with an input."""
    found = {}
    for member in read_manifest(bundle).members:
        runner = load(member.artifact.runtime, bundle / member.artifact.files[0].name, 1)
        draw = np.random.default_rng(0)
        inputs = {spec.name: draw.standard_normal(spec.shape, np.float32) for spec in runner.inputs}
        found[member.artifact.runtime] = (runner, inputs)
    return found


def rows(model: str, formats: Sequence[str], rounds: int) -> Iterator[Row]:
    """A line for each runtime of a network."""
    written = forms(model, formats)
    yield from (Row(model, runtime, "as trained") for runtime, each in written.items() if not each)
    differing = [name for name in formats if written[EXPORTERS[name].runtime]]
    if differing:
        yield from timed_or_alone(model, differing, written, rounds)


def timed_or_alone(model: str, formats: Sequence[str], written: Mapping[str, str], rounds: int) -> Iterator[Row]:
    """All formats of one export, or each by itself where one cannot be had."""
    try:
        yield from timed(model, formats, written, rounds)
    except RuntimeError as error:
        if len(formats) > 1:
            for name in formats:
                yield from timed_or_alone(model, (name,), written, rounds)
        else:
            runtime = EXPORTERS[formats[0]].runtime
            yield Row(model, runtime, f"{written[runtime]}; not to be had: {error}")


def timed(model: str, formats: Sequence[str], written: Mapping[str, str], rounds: int) -> list[Row]:
    """Both files of a network in each format, in turn."""
    found = []
    with tempfile.TemporaryDirectory() as scratch, silenced():
        asked = [part for name in formats for part in ("--format", name)]
        for way in WAYS:
            edgekit("export", model, "--target", "host", *asked, "--lowering", way, "-o", str(Path(scratch) / way))
        both = [loaded(Path(scratch) / way) for way in WAYS]
        for runtime in both[0]:
            taken = interleaved(inferences(dict(zip(WAYS, (each[runtime] for each in both), strict=True))), rounds)
            ratios = [ours / trained for ours, trained in zip(*taken.values(), strict=True)]
            found.append(Row(model, runtime, written[runtime], statistics.median(ratios), median_interval(ratios)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--format", dest="formats", choices=EXPORTERS, action="append")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, help="write the table here as well, line by line")
    arguments = parser.parse_args()
    formats = arguments.formats or [name for name in EXPORTERS if name != "pt2"]
    lines = [
        "| network | runtime | kernels are written as | ours / as trained | 95 % interval |",
        "|---|---|---|--:|---|",
    ]
    print("\n".join(lines), flush=True)
    slower = []
    for model in arguments.models or [*CARDS, *OF_TIMM]:
        for row in rows(model, formats, arguments.rounds):
            print(row, flush=True)
            lines.append(str(row))
            slower += [row] if row.slower else []
            if arguments.out:
                arguments.out.write_text("\n".join(lines) + "\n")
    sys.exit(f"{len(slower)} slower than {LIMIT} times what was trained." if slower else 0)


if __name__ == "__main__":
    main()
