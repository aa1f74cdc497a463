"""`edgekit inspect`."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import click
from click.core import ParameterSource

from edgekit.cli.options import (
    PATH,
    NetworkOptions,
    complete_models_or_paths,
    complete_targets,
    json_option,
    network_options,
)

if TYPE_CHECKING:
    from edgekit.artifact import Certificate, RegionCertificate
    from edgekit.bundle import Manifest
    from edgekit.inspection import Inspection
    from edgekit.plan import Request
    from edgekit.tuning.words import KernelChoice


@click.command()
@click.argument("what", metavar="MODEL|BUNDLE", shell_complete=complete_models_or_paths)
@network_options
@click.option("--depth", type=click.IntRange(1), default=2, show_default=True, help="Parts of a module path to sum by.")
@click.option("--kernels", type=PATH, help="Draw the large kernels into this PNG.")
@click.option("--fusion", is_flag=True, help="Show every fused region and every refusal with its reason.")
@click.option("--lowering", is_flag=True, help="Show every way to write the large kernels, and which one exports take.")
@click.option("--target", default="arm", show_default=True, shell_complete=complete_targets, help="Kind of board.")
@json_option
def inspect(
    what: str,
    depth: int,
    kernels: Path | None,
    fusion: bool,
    lowering: bool,
    target: str,
    as_json: bool,
    **network: Unpack[NetworkOptions],
) -> None:
    """Show what a MODEL computes after materialising, or what a BUNDLE holds and how it came to be.

    \b
    edgekit inspect parcnetv2_t --kernels kernels.png
    edgekit inspect parcnetv2_t --lowering --target rk3288
    edgekit inspect edgekit-out/parcnetv2_t-224-arm
    """
    from edgekit.bundle import read_manifest
    from edgekit.cli.kernel_table import show_choices
    from edgekit.cli.output import print_json
    from edgekit.plan import Request

    if means_bundle(what):
        manifest = read_manifest(Path(what))
        refuse_options(what, ("what", "fusion", "lowering", "as_json"))
        if as_json:
            print_json({"manifest": manifest})
        elif lowering:
            show_choices({member.artifact.runtime: member.kernels for member in manifest.members})
        elif fusion:
            show_fusion(manifest.passes, manifest.regions)
        else:
            show_bundle(manifest)
        return
    request = Request(model=what, target=target, **network)
    if lowering:
        choices = look_at_choices(request, quiet=as_json)
        print_json({"lowering": choices}) if as_json else show_choices(choices)
        return
    found = look(request, depth, kernels, quiet=as_json)
    if as_json:
        print_json({"inspection": found})
    elif fusion:
        show_fusion(found.passes, found.regions)
    else:
        show_network(what, found)


def means_bundle(what: str) -> bool:
    """Whether the argument is a folder; one that holds no bundle does not hide the model it has the name of."""
    from edgekit.bundle import MANIFEST
    from edgekit.models.cards import CARDS

    # os.path says no where pathlib raises, as for a folder that another user closed.
    has_manifest = os.path.isfile(os.path.join(what, MANIFEST))  # noqa: PTH113, PTH118
    return has_manifest or (os.path.isdir(what) and what not in CARDS)  # noqa: PTH112


def refuse_options(bundle: str, kept: Collection[str]) -> None:
    """Refuses all options but some, which describe a network: what a bundle holds is settled.

    Raises:
        MisuseError: One was given.
    """
    from edgekit.errors import MisuseError

    context = click.get_current_context()
    given = [
        option.opts[0]
        for option in context.command.params
        if option.name not in kept and context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
    ]
    if given:
        raise MisuseError(f"{bundle} is a bundle, which {given[0]} does not apply to. Name a model, or leave it out.")


def look(request: "Request", depth: int, kernels: Path | None, *, quiet: bool) -> "Inspection":
    """Builds the network and describes it, drawing its kernels where asked to."""
    from edgekit.cli.output import StageLines
    from edgekit.pipeline import inspect as carry_out
    from edgekit.plan import make_plan

    with StageLines(shown=not quiet) as lines:
        return carry_out(make_plan(request), depth, kernels, lines)


def look_at_choices(request: "Request", *, quiet: bool) -> "dict[str, tuple[KernelChoice, ...]]":
    """Builds the network and chooses the forms of its kernels for each runtime of the target."""
    from edgekit.cli.output import StageLines
    from edgekit.pipeline import kernel_choices
    from edgekit.plan import make_plan

    with StageLines(shown=not quiet) as lines:
        return kernel_choices(make_plan(request), lines)


def show_fusion(passes: "tuple[Certificate, ...]", regions: "tuple[RegionCertificate, ...]") -> None:
    """Prints what was fused and how it was proved, then what was left and why."""
    from edgekit.cli.output import console, decibels, sizes_text, table

    fused = table("Fused", "module", "rule", "what was there", "what is left", ">max |Δ|", ">of its bound", ">SNR")
    for region in regions:
        left_over = sizes_text(region.after)
        if region.reordered:
            left_over = f"{left_over}; in the weights of {', '.join(region.reordered)}"
        fused.add_row(
            *(region.site, region.rule, sizes_text(region.before), left_over, f"{region.max_abs:.1e}"),
            *(f"{region.used:.0%}", decibels(region.snr_db)),
        )
    left = table("Left as it is", "module", "rule", "reason")
    for certificate in passes:
        for refusal in certificate.declined:
            left.add_row(refusal.site, refusal.rule, refusal.reason)
    printer = console()
    printer.print(fused)
    printer.print()
    printer.print(left)


def show_network(name: str, found: "Inspection") -> None:
    """Prints a network's operators, modules, large kernels and passes."""
    from edgekit.cli.output import certificate_table, console, count, styled, table
    from edgekit.models.cards import text

    printer = console()
    totals = found.totals
    printer.print(
        styled(name, "bold"),
        f"after materialising: {count(totals.operators)} operators, {count(totals.parameters)} parameters,",
        f"{count(totals.macs)} MACs\n",
    )
    operators = table("Operators", "operator", ">nodes", ">MACs", ">share", ">parameters")
    for row in found.operators:
        share = f"{row.macs / totals.macs:.1%}" if totals.macs else ""
        operators.add_row(row.operator, count(row.nodes), count(row.macs), share, count(row.parameters))
    modules = table("Modules", "module", "output", ">operators", ">MACs", ">parameters")
    for module in found.modules:
        modules.add_row(
            *(module.module, text(module.output), count(module.operators), count(module.macs), count(module.parameters))
        )
    large = table("Large depthwise kernels", "module", ">taps", ">channels", "slides over", ">taps that meet data")
    for kernel in found.kernels:
        large.add_row(
            *(kernel.module, text(kernel.taps), count(kernel.channels), text(kernel.input), f"{kernel.useful_taps:.0%}")
        )
    for listing in (operators, modules, large, certificate_table("Passes", found.passes)):
        printer.print(listing)
        printer.print()


def show_bundle(manifest: "Manifest") -> None:
    """Prints where a bundle came from, its artifacts and its certificates."""
    from edgekit.cli.output import (
        WIDE,
        certificate_table,
        console,
        count,
        parity_table,
        reasons_table,
        table,
        weights_text,
    )
    from edgekit.cli.precision_table import layers_table
    from edgekit.models.cards import text

    printer = console()
    facts = table(f"{manifest.model.name} for {manifest.target}", "", "")
    rows = {
        "made by": f"edgekit {manifest.edgekit_version} on {manifest.created}: {' '.join(manifest.command)}",
        "weights": weights_text(manifest.weights),
        "inputs": ", ".join(f"{spec.name} {text(spec.shape)} {spec.layout}".rstrip() for spec in manifest.inputs)
        + ", this size only",
        "outputs": ", ".join(f"{spec.name} {text(spec.shape)}" for spec in manifest.outputs),
        "kernels": manifest.kernel_policy or "as they are",
        "captured": f"{count(manifest.captured.operators)} operators, {count(manifest.captured.parameters)} parameters,"
        f" {count(manifest.captured.macs)} MACs",
        "tools": ", ".join(f"{name} {version}" for name, version in manifest.tools.items()),
    }
    for key, value in rows.items():
        facts.add_row(key, value)
    printer.print(facts)
    printer.print()
    printer.print(parity_table(manifest.members, wide=printer.width >= WIDE))
    printer.print()
    printer.print(certificate_table("Passes, shared", manifest.passes))
    for member in manifest.members:
        printer.print()
        printer.print(certificate_table(f"Lowering for {member.artifact.runtime}", member.lowering))
        for note in member.artifact.notes:
            printer.print(f"- {note}")
        if member.quantization is not None:
            printer.print()
            printer.print(reasons_table(member.quantization))
            if (layers := layers_table(member.quantization)) is not None:
                printer.print()
                printer.print(layers)
