"""Exports and verifies timm architectures of many kinds, and tells in a table what failed and why.

    python scripts/timm_sweep.py                                    all architectures, onnx, at a small size
    python scripts/timm_sweep.py --sample 5 --format onnx --format openvino --format tflite
    python scripts/timm_sweep.py --only swin_tiny_patch4_window7_224 --native

Weights are random from seed 0. `--out` puts the rows into a page, where those of other architectures stay, if they were
measured with the same versions. The exit code is 1 when anything failed. timm must be installed.
"""

import argparse
import platform
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgekit.artifact import Shape
from edgekit.bundle import Stage
from edgekit.cache import StageCache
from edgekit.capture import first_line
from edgekit.errors import EdgekitError
from edgekit.pipeline import export
from edgekit.plan import Request, make_plan

KINDS = {
    "ResNet": (
        "resnet18",
        "resnet50",
        "resnetv2_50",
        "resnext50_32x4d",
        "seresnet50",
        "res2net50_26w_4s",
        "skresnet18",
    ),
    "RepVGG, MobileOne": ("repvgg_a0", "mobileone_s0", "repghostnet_100", "hgnetv2_b0"),
    "MobileNet": (
        "mobilenetv2_100",
        "mobilenetv3_large_100",
        "mobilenetv4_conv_small",
        "mobilenetv4_hybrid_medium",
        "lcnet_100",
    ),
    "EfficientNet": ("efficientnet_b0", "tf_efficientnetv2_b0", "mixnet_s", "fbnetc_100", "mnasnet_100"),
    "ConvNeXt": ("convnext_atto", "convnextv2_atto"),
    "large kernels": (
        "inception_next_atto",
        "convmixer_768_32",
        "rdnet_tiny",
        "starnet_s1",
        "mambaout_femto",
        "focalnet_tiny_srf",
    ),
    "FastViT, EdgeNeXt": ("fastvit_t8", "fastvit_mci0", "edgenext_xx_small", "repvit_m1"),
    "GhostNet, RegNet": ("ghostnet_100", "ghostnetv2_100", "regnetx_002", "regnety_002", "regnetz_005"),
    "DenseNet, DLA, HRNet": ("densenet121", "dla34", "hrnet_w18_small"),
    "Inception, VGG, VoVNet": ("inception_v3", "vgg11_bn", "ese_vovnet19b_dw", "cspdarknet53", "xception41"),
    "ViT": ("vit_tiny_patch16_224", "deit_tiny_patch16_224", "xcit_nano_12_p16_224", "levit_128s", "cait_xxs24_224"),
    "Swin": ("swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"),
    "hybrids": (
        "mobilevit_xxs",
        "mobilevitv2_050",
        "efficientformer_l1",
        "efficientvit_b0",
        "poolformer_s12",
        "pvt_v2_b0",
        "coat_tiny",
        "maxvit_tiny_rw_224",
        "tiny_vit_5m_224",
        "swiftformer_xs",
        "shvit_s1",
    ),
    "MLP": ("mixer_s32_224", "gmlp_ti16_224", "resmlp_12_224"),
}
"""Architectures by kind. A name that the installed timm lacks shows as a failure, with the closest names."""

SAMPLE = ("resnet18", "mobilenetv3_large_100", "repvgg_a0", "vit_tiny_patch16_224", "fastvit_t8")
"""What `--sample` takes first, one of each important kind."""

SMALL = 128
"""Side of the images, where the architecture takes any; it is quick and shows the same operators."""


@dataclass(frozen=True, slots=True)
class Row:
    """One architecture.

    Attributes:
        worst: Format to the lowest SNR of its inputs, in dB.
        failures: Format to why there is no artifact of it.
    """

    name: str
    kind: str
    size: str
    seconds: float
    worst: Mapping[str, float]
    failures: Mapping[str, str]


class Silent:
    """Watches an export and says nothing."""

    def begin(self, stage: str) -> None: ...

    def end(self, stage: Stage) -> None: ...

    def note(self, text: str) -> None: ...


def sweep(names: Mapping[str, str], formats: tuple[str, ...], *, native: bool) -> Iterator[Row]:
    """Exports each architecture into a folder that is thrown away."""
    for name, kind in names.items():
        started = time.perf_counter()
        shape = None if native else small(name)
        worst, failures = attempt(name, shape, formats)
        size = "x".join(map(str, shape or own_size(name)))
        yield Row(name, kind, size, time.perf_counter() - started, worst, failures)


def attempt(name: str, shape: Shape | None, formats: tuple[str, ...]) -> tuple[dict[str, float], dict[str, str]]:
    """Exports to all formats at once; when that fails, to each by itself."""
    try:
        return exported(name, shape, formats), {}
    except EdgekitError as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
    except Exception as error:  # noqa: BLE001 - the table is to show every kind of failure
        reason = f"unexpected {type(error).__name__}: {one_line(error)}"
    if len(formats) == 1:
        return {}, {formats[0]: reason}
    worst, failures = {}, {}
    for each in formats:
        alone, reasons = attempt(name, shape, (each,))
        worst |= alone
        failures |= reasons
    return worst, failures


def exported(name: str, shape: Shape | None, formats: tuple[str, ...]) -> dict[str, float]:
    """Exports and verifies; format to the worst SNR, in dB."""
    with tempfile.TemporaryDirectory() as folder:
        request = Request(model=f"timm:{name}", formats=formats, shape=shape, out=Path(folder) / "bundle")
        manifest = export(make_plan(request), ("timm_sweep",), StageCache(None), Silent())
    return {member.artifact.format: min(case.parity.snr_db for case in member.parity) for member in manifest.members}


def one_line(error: Exception) -> str:
    """What a table has room for of a message."""
    return first_line(error)[:400].replace("|", "/")


def own_size(name: str) -> Shape:
    """The input size an architecture was made for."""
    import timm

    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return (1, *config.input_size) if config else ()


def small(name: str) -> Shape | None:
    """A small input where the architecture takes any size."""
    import timm

    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return None if config is None or config.fixed_input_size else (1, 3, SMALL, SMALL)


def head(formats: tuple[str, ...]) -> str:
    """The head of the Markdown table."""
    columns = ("architecture", "kind", "input", *formats, "seconds")
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def line(row: Row, formats: tuple[str, ...]) -> str:
    """A row of the Markdown table."""
    cells = [f"{row.worst[name]:.0f} dB" if name in row.worst else "failed" for name in formats]
    return f"| {' | '.join((row.name, row.kind, row.size, *cells, f'{row.seconds:.0f}'))} |"


def reasons(rows: Iterable[Row]) -> list[str]:
    """A list of what failed and why; formats that failed alike share a line."""
    lines = []
    for row in rows:
        formats: dict[str, list[str]] = {}
        for name, reason in row.failures.items():
            formats.setdefault(reason, []).append(name)
        lines += [f"- `{row.name}`, {', '.join(names)}: {reason}" for reason, names in formats.items()]
    return lines


def document(rows: Iterable[Row], formats: tuple[str, ...], command: str) -> str:
    """The table as a page of its own: when, with what, how many, which, and why not the others."""
    rows = list(rows)
    verified = ", ".join(f"{sum(name in row.worst for row in rows)} of {len(rows)} in {name}" for name in formats)
    parts = [
        "# Architectures of timm",
        f"Measured on {date.today().isoformat()} with `{command}`, {versions()}, on {platform.machine()}.",
        f"Verified: {verified}.",
        "Weights are random from seed 0. A number is the lowest SNR against the original model in float64 over the "
        "inputs that are compared. An artifact below the gate, which float32's own error on the same input sets, "
        "counts as failed. A row may be of a later run than its neighbours, with the same versions. The seconds are "
        "those of all formats together, and of everything before them, on a busy machine.",
        "\n".join([head(formats), *(line(row, formats) for row in rows)]),
    ]
    if failures := reasons(rows):
        parts += ["## What failed, and why", "\n".join(failures)]
    return "\n\n".join(parts) + "\n"


def versions() -> str:
    """Everything that decides the numbers."""
    packages = (
        "edgekit",
        "timm",
        "torch",
        "onnx",
        "onnxruntime",
        "onnxscript",
        "openvino",
        "litert-torch",
        "mnn",
        "ncnn",
        "pnnx",
    )
    return ", ".join(f"{name} {version(name)}" for name in packages if installed(name))


def measured(page: Path, formats: tuple[str, ...]) -> dict[str, Row]:
    """What a page says of each architecture; nothing where it was measured with other versions or other formats."""
    text = page.read_text() if page.is_file() else ""
    if versions() not in text or head(formats) not in text:
        return {}
    failures: dict[str, dict[str, str]] = {}
    for name, failed, reason in re.findall(r"^- `(.+?)`, (.+?): (.+)$", text, re.MULTILINE):
        failures.setdefault(name, {}).update(dict.fromkeys(failed.split(", "), reason))
    rows = {}
    for found in re.findall(r"^\| (.+) \|$", text.partition(head(formats))[2], re.MULTILINE):
        name, kind, size, *cells, seconds = found.split(" | ")
        worst = {each: float(cell.split()[0]) for each, cell in zip(formats, cells, strict=True) if cell != "failed"}
        rows[name] = Row(name, kind, size, float(seconds), worst, failures.get(name, {}))
    return rows


def installed(name: str) -> bool:
    """Whether a distribution is there to ask for its version."""
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def chosen_names(only: list[str] | None, sample: int | None) -> dict[str, str]:
    """Architecture to kind, of those that were asked for."""
    every = {name: kind for kind, names in KINDS.items() for name in names}
    if only:
        return {name: every.get(name, "") for name in only}
    order = [*SAMPLE, *(name for name in every if name not in SAMPLE)] if sample else list(every)
    return {name: every[name] for name in order[:sample]}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--format", dest="formats", action="append", help="onnx, openvino, tflite, mnn or ncnn; repeatable"
    )
    parser.add_argument("--sample", type=int, help="only this many")
    parser.add_argument("--only", action="append", help="only this architecture; repeatable")
    parser.add_argument("--native", action="store_true", help="at each architecture's own input size")
    parser.add_argument("--out", type=Path, help="keep the table there: replaces the rows of what was run")
    chosen = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.timm_beside_torch import import_timm

    import_timm()
    formats = tuple(chosen.formats or ("onnx",))
    print(head(formats))
    page: Path | None = chosen.out
    known = measured(page, formats) if page else {}
    rows: list[Row] = []
    for row in sweep(chosen_names(chosen.only, chosen.sample), formats, native=chosen.native):
        print("\n".join([line(row, formats), *reasons([row])]), flush=True)
        rows.append(row)
        known[row.name] = row
        if page:
            ordered = [known[name] for name in {**chosen_names(None, None), **known} if name in known]
            options = "".join(f" --format {name}" for name in formats) + " --native" * chosen.native
            page.write_text(document(ordered, formats, f"python scripts/timm_sweep.py{options}"))
    failed = [row for row in rows if row.failures]
    print(f"\n{len(rows) - len(failed)} of {len(rows)} exported and verified in all of {', '.join(formats)}.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
