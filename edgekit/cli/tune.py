"""`edgekit tune`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from edgekit.cli.options import (
    PATH,
    Duration,
    NetworkOptions,
    complete_formats,
    complete_models_or_paths,
    complete_recipes,
    json_option,
    network_options,
)

if TYPE_CHECKING:
    from edgekit.plan import Request
    from edgekit.tune.run import Tuned

OWN_OPTIONS = ("what", "device", "formats", "recipe", "threads", "budget", "groups_only", "save", "as_json")
"""The options that say how to measure, and not what."""


@click.command()
@click.argument("what", metavar="MODEL|BUNDLE", shell_complete=complete_models_or_paths)
@click.option("--device", default="local", show_default=True, help="Where to measure.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    shell_complete=complete_formats,
    help="onnx, openvino or tflite; repeatable. Default: all that the device runs.",
)
@click.option(
    "--recipe",
    default="fp32",
    show_default=True,
    shell_complete=complete_recipes,
    help="Measure every layer in float against int8 of this recipe instead: int8, static_wi8_ai8, dynamic_wi8 or "
    "mixed_wi8_ai8.",
)
@click.option("--int8", "recipe", flag_value="int8", help="The recipe each runtime is best with.")
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Threads of the runtime.")
@click.option("--budget", type=Duration(), default="5m", show_default=True, help="How long to measure, per format.")
@click.option("--groups-only", is_flag=True, help="Leave the network as a whole out.")
@click.option("--save", type=PATH, metavar="FILE", help="Write the table there instead of where exports find it.")
@network_options
@json_option
def tune(
    what: str,
    device: str,
    formats: tuple[str, ...],
    recipe: str,
    threads: int,
    budget: float,
    groups_only: bool,
    save: Path | None,
    as_json: bool,
    **network: Unpack[NetworkOptions],
) -> None:
    """Measure every way to write the depthwise kernels of a MODEL or BUNDLE, and keep the fastest for exports to come.

    With --int8 or --recipe each distinct layer is measured in float and in int8 instead, and exports to come quantize
    what gets faster by it. On an emulated device instructions are counted instead of time.

    \b
    edgekit tune parcnetv2_t
    edgekit tune parcnetv2_t --int8
    edgekit tune parcnetv2_t --device qemu://aarch64 --format tflite
    edgekit tune edgekit-out/parcnetv2_t-224-host --format tflite --budget 2m
    """
    from edgekit.cli.output import StageLines, print_json
    from edgekit.cli.precision_table import show_precision
    from edgekit.clock import Clock
    from edgekit.errors import MisuseError
    from edgekit.plan import make_plan
    from edgekit.quant.recipe import DEFAULT_RECIPE
    from edgekit.tune.measure import open_bench
    from edgekit.tune.precision import TunedPrecision, tune_precision
    from edgekit.tune.run import tune as carry_out
    from edgekit.tuning.tables import keep, merge_into

    precise, asked = recipe != DEFAULT_RECIPE, requested(what, network)
    with StageLines(shown=not as_json) as lines, open_bench(device, threads, lines.note) as bench:
        able = chosen_formats(formats, bench.scene.runtimes, device)
        plan = make_plan(replace(asked, formats=quantizable(able, formats, recipe) if precise else able))
        if save is not None and len(plan.exporters) > 1:
            raise MisuseError("--save takes the table of one runtime. Choose it with --format.")
        stage, whole = Clock(lines).stage, not groups_only
        results: list[Tuned | TunedPrecision] = []
        if precise:
            results += tune_precision(plan, recipe, bench, budget, stage, lines.note, whole=whole)
        else:
            results += carry_out(plan, bench, budget, stage, lines.note, whole=whole)
    places = [merge_into(each.table, save) if save else keep(each.table) for each in results]
    if as_json:
        print_json({"tuned": results, "kept": [str(place) for place in places]})
        return
    for tuned, place in zip(results, places, strict=True):
        if isinstance(tuned, TunedPrecision):
            show_precision(tuned, place)
        else:
            show(tuned, place)


def requested(what: str, network: NetworkOptions) -> "Request":
    """What is to be tuned: a model, or the model that a bundle was made from, with the options it was made with.

    Raises:
        MisuseError: An option that describes a network, beside a bundle.
        BundleError: The folder is no bundle.
    """
    from edgekit.bundle import read_manifest
    from edgekit.cli.export import request_of
    from edgekit.cli.inspect import means_bundle, refuse_options
    from edgekit.plan import Request

    if not means_bundle(what):
        return Request(model=what, target="host", **network)
    refuse_options(what, OWN_OPTIONS)
    return replace(request_of(read_manifest(Path(what)).command), target="host")


def chosen_formats(asked: tuple[str, ...], runtimes: frozenset[str], device: str) -> tuple[str, ...]:
    """The formats asked for, else those that a device runs.

    Raises:
        EnvironmentProblemError: It has no runtime for one of them, or none at all.
        MisuseError: There is nothing to choose in one of them.
    """
    from edgekit.errors import EnvironmentProblemError, MisuseError
    from edgekit.exporters import EXPORTERS
    from edgekit.passes.lower import LOWERINGS

    able = [name for name, entry in EXPORTERS.items() if entry.runtime in runtimes]
    tunable = [name for name in able if LOWERINGS[EXPORTERS[name].runtime, "fp32"].kernels]
    lacking = [name for name in asked if name in EXPORTERS and name not in able]
    if lacking or not tunable:
        what = f"runtime for {lacking[0]}" if lacking else "runtime"
        raise EnvironmentProblemError(f"{device} has no {what}. It runs: {', '.join(able) or 'nothing'}.")
    if fixed := [name for name in asked if name in able and name not in tunable]:
        raise MisuseError(f"{fixed[0]} keeps the kernels as trained. Choose from {', '.join(tunable)}.")
    return asked or tuple(tunable)


def quantizable(able: tuple[str, ...], asked: tuple[str, ...], recipe: str) -> tuple[str, ...]:
    """The formats in which a recipe can be carried out.

    Raises:
        MisuseError: There is none, or one was asked for that cannot.
    """
    from edgekit.errors import MisuseError
    from edgekit.quant import QUANTIZERS
    from edgekit.quant.recipe import BEST, parse

    if recipe != BEST and parse(recipe).exact:
        raise MisuseError(f"Recipe {recipe!r} computes in float, so there is nothing to measure against it.")
    found = tuple(name for name in able if name in QUANTIZERS and QUANTIZERS[name].rounds(recipe))
    if lacking := [name for name in asked if name not in found]:
        others = ", ".join(found) or "other recipes"
        raise MisuseError(f"{lacking[0]} has no recipe {recipe!r} that computes in integers. Choose from {others}.")
    if not found:
        raise MisuseError(f"No runtime of the device has recipe {recipe!r}. Choose int8, or another device.")
    return found


def show(tuned: "Tuned", place: Path) -> None:
    """Prints what each form costs, and what the whole network makes of it."""
    from edgekit.cli.output import console, decibels, mebibytes, table
    from edgekit.tuning.words import cost_text

    printer = console()
    rows = table(f"{tuned.runtime}: {tuned.table.describe()}", "group", ">places", "form", ">adds", "")
    for entry in tuned.table.entries:
        refused = {each.form: each.reason for each in tuned.refused if each.group == str(entry.group)}
        ranked = sorted(entry.forms, key=lambda form: form.cost)
        for index, form in enumerate(ranked):
            group, places = (str(entry.group), str(tuned.places[str(entry.group)])) if index == 0 else ("", "")
            chosen = f"chosen: {entry.why}" if form.form == entry.chosen else ""
            rows.add_row(group, places, form.form, cost_text(form.cost - entry.empty, tuned.table.unit), chosen)
        for name, reason in refused.items():
            rows.add_row("", "", name, "", f"never chosen: {reason}")
    printer.print(rows)
    whole = table("The whole network", "", ">cost", ">saved", ">predicted", ">file", ">SNR")
    for variant in tuned.variants:
        costs = (variant.cost, variant.saved, variant.predicted)
        whole.add_row(
            variant.name,
            *(cost_text(each, tuned.table.unit) for each in costs),
            mebibytes(variant.bytes),
            decibels(variant.parity.snr_db),
        )
    if tuned.variants:
        printer.print()
        printer.print(whole)
    for group in tuned.unmeasured:
        printer.print(f"Not measured: {group}. Allow more with --budget, or leave the machine alone meanwhile.")
    printer.print(f"\nKept in {place}\n", soft_wrap=True)
