"""`edgekit tune`."""

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click

from edgekit.cli.options import (
    PATH,
    Duration,
    NetworkOptions,
    complete_formats,
    complete_models_or_paths,
    json_option,
    network_options,
)

if TYPE_CHECKING:
    from edgekit.tune.run import Tuned


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
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="Threads of the runtime.")
@click.option("--budget", type=Duration(), default="5m", show_default=True, help="How long to measure, per format.")
@click.option("--save", type=PATH, metavar="FILE", help="Write the table there instead of where exports find it.")
@network_options
@json_option
def tune(
    what: str,
    device: str,
    formats: tuple[str, ...],
    threads: int,
    budget: float,
    save: Path | None,
    as_json: bool,
    **network: Unpack[NetworkOptions],
) -> None:
    """Measure every way to write the depthwise kernels of a MODEL or BUNDLE, and keep the fastest for exports to come.

    \b
    edgekit tune parcnetv2_t
    edgekit tune edgekit-out/parcnetv2_t-224-host --format tflite --budget 2m
    """
    from edgekit.cli.inspect import means_bundle
    from edgekit.cli.output import StageLines, print_json
    from edgekit.errors import MisuseError
    from edgekit.pipeline import Clock
    from edgekit.plan import Request, make_plan
    from edgekit.quiet import silenced
    from edgekit.tune.measure import open_device
    from edgekit.tune.run import tune as carry_out
    from edgekit.tuning.tables import keep, merge_into

    opened = open_device(device, threads)
    if means_bundle(what):
        raise MisuseError(f"{what} is a bundle")
    plan = make_plan(Request(model=what, target="host", formats=formats or ("onnx", "openvino", "tflite"), **network))
    with StageLines(shown=not as_json) as lines, silenced():
        results = carry_out(plan, opened, budget, Clock(lines).stage, lines.note)
    if save is not None and len(results) > 1:
        raise MisuseError("--save takes the table of one runtime. Choose it with --format.")
    places = [merge_into(each.table, save) if save else keep(each.table) for each in results]
    if as_json:
        print_json({"tuned": results, "kept": [str(place) for place in places]})
        return
    for each, place in zip(results, places, strict=True):
        show(each, place)


def show(tuned: "Tuned", place: Path) -> None:
    """Prints what each form costs, and what the whole network makes of it."""
    from edgekit.cli.output import console, decibels, mebibytes, table

    printer = console()
    rows = table(f"{tuned.runtime}: {tuned.table.describe()}", "group", ">places", "form", ">adds", "")
    for entry in tuned.table.entries:
        wrong = {each.form: each.snr_db for each in tuned.wrong if each.group == str(entry.group)}
        ranked = sorted(entry.forms, key=lambda form: form.cost)
        for index, form in enumerate(ranked):
            group, places = (str(entry.group), str(tuned.places[str(entry.group)])) if index == 0 else ("", "")
            chosen = f"chosen: {entry.why}" if form.form == entry.chosen else ""
            rows.add_row(group, places, form.form, cost_text(form.cost - entry.empty, tuned.table.unit), chosen)
        for name, snr_db in wrong.items():
            rows.add_row("", "", name, "", f"wrong ({decibels(snr_db)}), never chosen")
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
    printer.print()
    printer.print(whole)
    for group in tuned.unmeasured:
        printer.print(f"Not measured, the time was over: {group}. Allow more with --budget.")
    printer.print(f"\nKept in {place}\n", soft_wrap=True)


def cost_text(cost: float, unit: str) -> str:
    """Milliseconds, or millions of executed instructions."""
    return f"{cost:.3f} ms" if unit == "ms" else f"{cost / 1e6:.2f} M instructions"
