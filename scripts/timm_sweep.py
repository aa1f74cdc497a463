"""Exports and verifies timm architectures of many kinds, and tells in a table what failed and why.

    python scripts/timm_sweep.py                                    forty architectures, onnx, at a small size
    python scripts/timm_sweep.py --sample 5 --format onnx --format openvino --format tflite
    python scripts/timm_sweep.py --only swin_tiny_patch4_window7_224 --native

Weights are random from seed 0. The exit code is 1 when anything failed. timm must be installed.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from edgekit.artifact import Shape
from edgekit.bundle import Stage
from edgekit.cache import StageCache
from edgekit.errors import EdgekitError
from edgekit.pipeline import export
from edgekit.plan import Request, make_plan

KINDS = {
    "ResNet": ("resnet18", "resnet50", "resnetv2_50", "resnext50_32x4d", "seresnet50", "res2net50_26w_4s"),
    "RepVGG, MobileOne": ("repvgg_a0", "mobileone_s0"),
    "MobileNet": ("mobilenetv2_100", "mobilenetv3_large_100", "mobilenetv4_conv_small", "mobilenetv4_hybrid_medium"),
    "EfficientNet": ("efficientnet_b0", "tf_efficientnetv2_b0", "mixnet_s", "fbnetc_100", "mnasnet_100"),
    "ConvNeXt": ("convnext_atto", "convnextv2_atto"),
    "large kernels": ("inception_next_tiny", "convmixer_768_32", "starnet_s1", "mambaout_femto", "focalnet_tiny_srf"),
    "FastViT, EdgeNeXt": ("fastvit_t8", "edgenext_xx_small", "repvit_m1"),
    "GhostNet, RegNet": ("ghostnet_100", "regnetx_002", "regnety_002"),
    "DenseNet, DLA, HRNet": ("densenet121", "dla34", "hrnet_w18_small"),
    "ViT": ("vit_tiny_patch16_224", "deit_tiny_patch16_224", "xcit_nano_12_p16_224", "levit_128s", "cait_xxs24_224"),
    "Swin": ("swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"),
    "hybrids": (
        "mobilevit_xxs",
        "mobilevitv2_050",
        "efficientformer_l1",
        "poolformer_s12",
        "coat_tiny",
        "maxvit_tiny_rw_224",
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
    """One architecture: how each format did, or why there is none."""

    name: str
    kind: str
    size: str
    seconds: float
    parity: str
    failure: str = ""


class Silent:
    """Watches an export and says nothing."""

    def begin(self, stage: str) -> None: ...

    def end(self, stage: Stage) -> None: ...

    def note(self, text: str) -> None: ...


def sweep(names: dict[str, str], formats: tuple[str, ...], *, native: bool) -> list[Row]:
    """Exports each architecture into a folder that is thrown away."""
    rows = []
    for name, kind in names.items():
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            try:
                size, parity = attempt(name, formats, Path(folder), native=native)
                row = Row(name, kind, size, time.perf_counter() - started, parity)
            except EdgekitError as error:
                row = Row(name, kind, "", time.perf_counter() - started, "", f"{type(error).__name__}: {error}")
            except Exception as error:  # noqa: BLE001 - the table is to show every kind of failure
                row = Row(
                    name, kind, "", time.perf_counter() - started, "", f"unexpected {type(error).__name__}: {error}"
                )
        print(line(row), flush=True)
        rows.append(row)
    return rows


def attempt(name: str, formats: tuple[str, ...], folder: Path, *, native: bool) -> tuple[str, str]:
    """Exports one architecture; its input size, and the worst SNR of each format."""
    request = Request(
        model=f"timm:{name}", formats=formats, shape=None if native else small(name), out=folder / "bundle"
    )
    plan = make_plan(request)
    manifest = export(plan, ("timm_sweep",), StageCache(None), Silent())
    worst = {member.artifact.format: min(case.parity.snr_db for case in member.parity) for member in manifest.members}
    return "x".join(map(str, plan.input.shape)), ", ".join(f"{name} {snr:.0f} dB" for name, snr in worst.items())


def small(name: str) -> Shape | None:
    """A small input where the architecture takes any size."""
    import timm

    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return None if config is None or config.fixed_input_size else (1, 3, SMALL, SMALL)


def line(row: Row) -> str:
    """A row of the Markdown table."""
    result = row.parity or f"**failed**: {' '.join(row.failure.split())[:400]}"
    return f"| {row.name} | {row.kind} | {row.size} | {row.seconds:.1f} | {result} |"


def declare_missing_operators() -> object:
    """Makes timm importable beside a torchvision that was built for another torch; gives back what must stay alive."""
    try:
        import torchvision  # noqa: F401 - asks whether it imports
    except ModuleNotFoundError:
        return None
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--format", dest="formats", action="append", help="onnx, openvino or tflite; repeatable")
    parser.add_argument("--sample", type=int, help="only this many")
    parser.add_argument("--only", action="append", help="only this architecture; repeatable")
    parser.add_argument("--native", action="store_true", help="at each architecture's own input size")
    chosen = parser.parse_args()
    kept = declare_missing_operators()
    every = {name: kind for kind, names in KINDS.items() for name in names}
    if chosen.only:
        every = {name: every.get(name, "") for name in chosen.only}
    elif chosen.sample:
        order = [*SAMPLE, *(name for name in every if name not in SAMPLE)]
        every = {name: every[name] for name in order[: chosen.sample]}
    print("| architecture | kind | input | seconds | result |\n|---|---|---|---|---|")
    rows = sweep(every, tuple(chosen.formats or ("onnx",)), native=chosen.native)
    failed = [row for row in rows if row.failure]
    print(f"\n{len(rows) - len(failed)} of {len(rows)} exported and verified.")
    del kept
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
