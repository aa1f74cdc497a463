"""The networks of the papers against those they are compared with there: latency and memory in every runtime, in turns.

    python benchmarks/comparison.py parcnet --profile normal --out parcnet.md
    python benchmarks/comparison.py parnet --threads 1 --threads 2
    python benchmarks/comparison.py parcnetv2_xt timm:resnet18 --input 64 --profile quick

`parcnet` is the latency and memory part of Table 7 of the ParCNetV2 paper, on this machine instead of an RK3288, and
`parnet` is ParNet-L, fused, against the ResNets of its paper. Models are exported on the way, into `--folder`; a
bundle that is there is taken as it is. One runtime at a time: all networks in it take turns, so that ratios over
the first are pairs. Weights are random, which is right for latency and memory. The page is Markdown, the samples are in
the bundles.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the tests' way of importing timm beside any torchvision

from edgekit.bench.markdown import markdown
from edgekit.bench.profiles import PROFILES
from edgekit.bench.record import Setting
from edgekit.bundle import is_bundle, read_manifest
from edgekit.cache import StageCache, default_folder
from edgekit.cli.output import StageLines
from edgekit.errors import ConverterError, ParityError
from edgekit.exporters import EXPORTERS
from edgekit.measure import Bundle, Choice, measure_bundles, store
from edgekit.pipeline import export
from edgekit.plan import Request, make_plan
from edgekit.targets.board import HOST
from tests.timm_beside_torch import import_timm

GROUPS = {
    "parcnet": (
        *("parcnetv2_t", "timm:convnext_tiny", "timm:swin_tiny_patch4_window7_224"),
        *("parcnetv2_s", "timm:convnext_small", "timm:swin_small_patch4_window7_224"),
        *("parcnetv2_b", "timm:convnext_base", "timm:swin_base_patch4_window7_224"),
    ),
    "parcnet_tiny": ("parcnetv2_t", "timm:convnext_tiny", "timm:swin_tiny_patch4_window7_224"),
    "parnet": ("parnet_l", "timm:resnet34", "timm:resnet50"),
}


def exported(model: str, side: int | None, formats: tuple[str, ...], folder: Path, lines: StageLines) -> Bundle:
    """A model's bundle, with those of the formats that it can be had in; one that is there is taken as it is."""
    place = folder / make_plan(request_of(model, side, formats)).out.name
    if is_bundle(place):
        lines.note(f"{place} is there; remove it to export again.")
        return Bundle(place, read_manifest(place))
    try:
        return carry_out(model, side, formats, folder, lines)
    except (ConverterError, ParityError) as error:
        lines.note(f"{model} cannot be had in all formats: {error}")
    return carry_out(
        model, side, tuple(name for name in formats if alone(model, side, name, folder, lines)), folder, lines
    )


def alone(model: str, side: int | None, name: str, folder: Path, lines: StageLines) -> bool:
    """Whether a model can be had in one format by itself."""
    try:
        carry_out(model, side, (name,), folder / ".one", lines)
    except (ConverterError, ParityError) as error:
        lines.note(f"{model} has no {name}: {error}")
        return False
    return True


def carry_out(model: str, side: int | None, formats: tuple[str, ...], folder: Path, lines: StageLines) -> Bundle:
    """Exports a model in these formats."""
    plan = make_plan(request_of(model, side, formats))
    plan = replace(plan, out=folder / plan.out.name)
    lines.note(f"{plan.card.name} into {plan.out}")
    return Bundle(plan.out, export(plan, sys.argv, StageCache(default_folder()), lines))


def request_of(model: str, side: int | None, formats: tuple[str, ...]) -> Request:
    """What is asked for to export a model."""
    return Request(model=model, target=HOST, formats=formats, shape=None if side is None else (1, 3, side, side))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help=f"models, or one of {', '.join(GROUPS)}")
    parser.add_argument("--profile", choices=PROFILES, default="quick")
    parser.add_argument("--threads", type=int, action="append")
    parser.add_argument("--format", dest="formats", choices=EXPORTERS, action="append")
    parser.add_argument("--input", type=int, dest="side", help="side of the square input, for a quick look")
    parser.add_argument("--folder", type=Path, default=Path("edgekit-out/comparison"))
    parser.add_argument("--out", type=Path, help="write the page here as well")
    arguments = parser.parse_args()
    import_timm()
    models = [model for named in arguments.models for model in GROUPS.get(named, (named,))]
    formats = tuple(arguments.formats or ("onnx", "openvino", "tflite"))
    settings = tuple(Setting(threads=threads) for threads in arguments.threads or [1])
    pages = []
    with StageLines(shown=True, ticks=1.0) as lines:
        bundles = [exported(model, arguments.side, formats, arguments.folder, lines) for model in models]
        for name in formats:
            able = [each for each in bundles if any(one.artifact.format == name for one in each.manifest.members)]
            outcome = measure_bundles(
                able, Choice(settings, formats=(name,)), PROFILES[arguments.profile], sys.argv, lines
            )
            store(able, outcome.runs, None)
            pages += [f"## {EXPORTERS[name].runtime}\n", markdown(outcome.runs)]
            pages += [f"- {problem.artifact}: {problem.error}\n" for problem in outcome.problems]
    page = "\n".join(pages)
    print(page)
    if arguments.out:
        arguments.out.write_text(page)


if __name__ == "__main__":
    main()
