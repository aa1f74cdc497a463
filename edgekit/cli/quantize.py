"""`edgekit quantize`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from edgekit.cli.options import PATH, complete_targets, json_option, quantizing_options

if TYPE_CHECKING:
    from edgekit.plan import Request
    from edgekit.quant.recipe import Ranges
    from edgekit.quantize_file import QuantizedFile, Wish


@click.command()
@click.argument("what", metavar="BUNDLE|FILE", type=PATH)
@quantizing_options
@click.option(
    "--target", default="arm", show_default=True, shell_complete=complete_targets, help="Kind of board a FILE is for."
)
@click.option("-o", "--out", type=PATH, help="Folder of the new bundle, or the new file.")
@click.option("--no-cache", is_flag=True, help="Of a bundle: compute every stage anew.")
@json_option
def quantize(
    what: Path,
    recipe: str,
    data: str | None,
    calibration: int,
    ranges: "Ranges | None",
    keep_float: tuple[str, ...],
    max_drop: float | None,
    smallest: bool,
    target: str,
    out: Path | None,
    no_cache: bool,
    as_json: bool,
) -> None:
    """Quantize a BUNDLE's network, or an .onnx, .tflite, .xml, .mnn or .param FILE, and compare it on images held out.

    A bundle gets quantized artifacts beside its float ones, each lowered as its runtime wants it for its arithmetic.
    Recipe fp16 stores weights as half floats and computes in float32.

    \b
    edgekit quantize edgekit-out/parcnetv2_t-224-arm --data imagenet/val
    edgekit quantize edgekit-out/parcnetv2_t-224-arm --data imagenet/val --recipe fp16
    edgekit quantize detector.onnx --data photos/ --recipe static_wi8_ai8 -o detector.int8.onnx
    """
    from edgekit.bundle import is_bundle
    from edgekit.errors import MisuseError
    from edgekit.quant.recipe import BEST, DEFAULT_RECIPE
    from edgekit.quantize_file import Wish

    if data is None:
        raise MisuseError("Quantizing needs images. Give them with --data: a folder, an .npz file, digits or patterns.")
    asked = recipe if recipe != DEFAULT_RECIPE else BEST
    if is_bundle(what):
        refuse_target(what)
        wanted = replace(
            request_of_bundle(what),
            recipe=asked,
            data=data,
            calibration=calibration,
            keep_float=keep_float,
            max_drop=max_drop,
            smallest=smallest,
            ranges=ranges,
            out=out or what,
        )
        export_again(wanted, as_json=as_json, no_cache=no_cache)
    else:
        wish = Wish(data, asked, calibration, keep_float, max_drop, ranges, target, smallest)
        of_file(what, wish, out, as_json=as_json)


def refuse_target(folder: Path) -> None:
    """Refuses a target beside a bundle, which was exported for one.

    Raises:
        MisuseError: One was given.
    """
    from edgekit.errors import MisuseError

    if click.get_current_context().get_parameter_source("target") is ParameterSource.COMMANDLINE:
        raise MisuseError(
            f"{folder} is a bundle, which was exported for a target. Leave --target out, or export again."
        )


def request_of_bundle(folder: Path) -> "Request":
    """What a bundle's export asked for.

    Raises:
        MisuseError: The bundle was not made by an export.
    """
    from edgekit.bundle import read_manifest
    from edgekit.cli.export import request_of

    return request_of(read_manifest(folder).command)


def export_again(request: "Request", *, as_json: bool, no_cache: bool) -> None:
    """Exports with quantized artifacts; what was exported before comes from the cache."""
    from edgekit.cache import StageCache, default_folder
    from edgekit.cli.export import run, show_result
    from edgekit.cli.output import print_json
    from edgekit.plan import make_plan

    plan = make_plan(request)
    manifest = run(plan, StageCache(None if no_cache else default_folder()), as_json=as_json)
    if as_json:
        print_json({"bundle": str(plan.out), "manifest": manifest})
    else:
        show_result(manifest, plan.out)


def of_file(path: Path, wish: "Wish", out: Path | None, *, as_json: bool) -> None:
    """Quantizes a file of the user's own."""
    from edgekit.cli.output import print_json
    from edgekit.models.cards import IMAGENET
    from edgekit.quantize_file import quantize_file

    made = quantize_file(path, wish, IMAGENET, out)
    if as_json:
        print_json({"files": [str(file) for file in made.files], "quantization": made.record, "assumed": made.assumed})
    else:
        show_file(made)


def show_file(made: "QuantizedFile") -> None:
    """Prints what was written, how it compares, and why operators stay float."""
    from edgekit.cli.output import console, decibels, quantized_text, reasons_table
    from edgekit.precision_text import speed_note

    printer = console()
    printer.print(reasons_table(made.record))
    if note := speed_note(made.record):
        printer.print(f"\n{note[:1].upper()}{note[1:]}.", soft_wrap=True)
    held_out = made.record.held_out
    printer.print(
        f"\n{made.files[0]}: {quantized_text(made.record)}; {decibels(held_out.snr_db)} against the float file on "
        f"{made.record.held_out_images} images held out, the same decision on {held_out.top1_agreement:.1%}.",
        soft_wrap=True,
    )
    if made.assumed:
        printer.print("The file does not say how images are prepared: ImageNet's mean, deviation and crop are assumed.")
    for warning in made.record.warnings:
        printer.print(warning, soft_wrap=True)
