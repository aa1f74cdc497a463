"""`edgekit export`."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import click

from edgekit.cli.options import (
    PATH,
    ExportOptions,
    Size,
    complete_formats,
    complete_models,
    complete_targets,
    json_option,
    network_options,
    quantizing_options,
)

if TYPE_CHECKING:
    from edgekit.bundle import Manifest
    from edgekit.cache import StageCache
    from edgekit.exporters import Exporter
    from edgekit.plan import Plan, Request


@click.command()
@click.argument("model", shell_complete=complete_models)
@click.option("--target", default="arm", show_default=True, shell_complete=complete_targets, help="Kind of board.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    shell_complete=complete_formats,
    help="onnx, openvino, tflite, mnn, ncnn or pt2; repeatable. Default: by target.",
)
@quantizing_options
@click.option(
    "--lowering",
    metavar="[PATTERN=]FORM",
    multiple=True,
    help="Form of depthwise kernels, for modules like this: depthwise, toeplitz, pieces, rows, polyphase, dense, "
    "matmul or auto.",
)
@click.option("--max-size", "max_bytes", type=Size(), help="Most an artifact may take, such as 40MB: smaller forms.")
@click.option(
    "--partition", metavar="MODULES", help="Also cut at these branches, such as streams, into parts that run apart."
)
@network_options
@click.option("-o", "--out", type=PATH, help="Folder of the bundle.")
@click.option("--no-cache", is_flag=True, help="Compute every stage anew.")
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@json_option
def export(
    model: str,
    target: str,
    formats: tuple[str, ...],
    lowering: tuple[str, ...],
    max_bytes: int | None,
    partition: str | None,
    out: Path | None,
    no_cache: bool,
    dry_run: bool,
    as_json: bool,
    **network: Unpack[ExportOptions],
) -> None:
    """Export MODEL for a target: every format its runtimes load, each verified against the original in float64.

    \b
    edgekit export parcnetv2_t --target arm
    edgekit export parcnetv2_t --weights parcnetv2_t.pth.tar --input 1x3x320x256 --kernel keep
    edgekit export parcnetv2_t --weights parcnetv2_t.safetensors --int8 --data imagenet/val
    edgekit export parnet_pico_patterns --recipe fp16 --data patterns
    edgekit export parcnetv2_t --target host --lowering 'stages.0.*=toeplitz' --max-size 110MB
    """
    from edgekit.bundle import check_place
    from edgekit.cache import StageCache, default_folder
    from edgekit.plan import Request, make_plan

    request = Request(
        model=model,
        target=target,
        formats=formats,
        lowering=lowering,
        max_bytes=max_bytes,
        partition=partition,
        out=out,
        **network,
    )
    plan = make_plan(request)
    cache = StageCache(None if no_cache else default_folder())
    if dry_run:
        check_place(plan.out)
        show_plan(plan, cache, as_json=as_json)
        return
    manifest = run(plan, cache, as_json=as_json)
    if as_json:
        from edgekit.cli.output import print_json

        print_json({"bundle": str(plan.out), "manifest": manifest})
    else:
        show_result(manifest, plan.out)


def request_of(command: Sequence[str]) -> "Request":
    """What a bundle's command line asked for.

    Raises:
        MisuseError: The bundle was not made by this command, or by another version of it.
    """
    from edgekit.errors import MisuseError
    from edgekit.plan import Request

    if list(command[:2]) != ["edgekit", "export"]:
        raise MisuseError(f"The bundle was made by {shlex.join(command)!r}, no export. Name the model instead.")
    try:
        given = export.make_context("export", list(command[2:])).params
    except click.UsageError as error:
        raise MisuseError(
            f"The bundle's command, {shlex.join(command)}, is not understood: {error.format_message()} Name the model."
        ) from error
    return Request(**{name: value for name, value in given.items() if name in Request.__dataclass_fields__})


def run(plan: "Plan", cache: "StageCache", *, as_json: bool) -> "Manifest":
    """Exports, with progress on standard error."""
    from edgekit.cli.output import StageLines
    from edgekit.pipeline import export as carry_out

    command: tuple[str, ...] = click.get_current_context().meta["edgekit.command"]
    with StageLines(shown=not as_json) as lines:
        return carry_out(plan, command, cache, lines)


def show_plan(plan: "Plan", cache: "StageCache", *, as_json: bool) -> None:
    """Prints what would be done."""
    from edgekit.cli.output import console, print_json, table
    from edgekit.plan import inputs_text

    steps: list[dict[str, Any]] = [
        {
            "stage": "network",
            "makes": "captured, materialised",
            "cached": plan.network_key is not None and cache.holds(plan.network_key),
        }
    ]
    for entry in plan.exporters:
        files = [f"{plan.stem}{suffix}" for suffix in entry.suffixes]
        steps.append(
            {
                "stage": entry.format,
                "makes": " ".join(files),
                "cached": cache.holds(plan.artifact_keys.get(entry.format, "")),
            }
        )
    for entry in plan.exporters if plan.partition else ():
        makes = f"{plan.stem}.{entry.format}.parts.json, cut at {plan.partition}"
        steps.append({"stage": f"{entry.format} parts", "makes": makes, "cached": holds_parts(plan, entry, cache)})
    for entry, _, recipe in plan.quantizers:  # which images they are decides, and those are not looked at here
        files = [f"{plan.quantized().stem}{suffix}" for suffix in entry.suffixes]
        steps.append({"stage": f"{entry.format} {recipe.name}", "makes": " ".join(files), "cached": False})
    if as_json:
        print_json({"bundle": str(plan.out), "input": inputs_text(plan.inputs), "stages": steps})
        return
    listing = table("", "stage", "makes", "")
    for step in steps:
        listing.add_row(step["stage"], step["makes"], "in cache" if step["cached"] else "to do")
    printer = console()
    title = f"Plan: {plan.card.name} at {inputs_text(plan.inputs)} into {plan.out}"
    printer.print(title, style="bold", soft_wrap=True)
    printer.print(listing)


def holds_parts(plan: "Plan", entry: "Exporter", cache: "StageCache") -> bool:
    """Whether an artifact in parts is in the cache."""
    return bool(plan.artifact_keys) and cache.holds(plan.parts_key(entry.format))


def show_result(manifest: "Manifest", out: Path) -> None:
    """Prints the artifacts and how each compares with the original."""
    from edgekit.cli.output import WIDE, console, parity_table, weights_text

    printer = console()
    printer.print()
    printer.print(parity_table(manifest.members, wide=printer.width >= WIDE))
    printer.print(f"\nWeights: {weights_text(manifest.weights)}")
    printer.print(f"Bundle:  {out}", soft_wrap=True)
    printer.print(f"Check it anywhere: edgekit verify {shlex.quote(str(out))}", soft_wrap=True)
