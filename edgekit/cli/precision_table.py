"""Float or int8 for each layer as tables: what it saves, and what is made of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.tuning.words import cost_text

if TYPE_CHECKING:
    from rich.table import Table

    from edgekit.artifact import OperatorPrecision, QuantRecord
    from edgekit.tune.precision import TunedPrecision


def show_precision(tuned: "TunedPrecision", place: Path) -> None:
    """Prints what int8 saves of each layer, and what the whole network makes of it."""
    from edgekit.cli.output import console, decibels, mebibytes, styled, table

    printer, unit = console(), tuned.table.unit
    reasons = {each.layer: each.reason for each in tuned.wrong}
    title = f"{tuned.runtime}, {tuned.recipe}: {tuned.table.describe()}"  # above, or it is broken as the table is
    printer.print(styled(title, "bold"), soft_wrap=True)
    rows = table("", "layer", ">places", ">int8 saves", ">between int8", "")
    for entry in tuned.table.layers:
        name = str(entry.layer)
        between = cost_text(entry.between[0] - entry.between[1], unit) if entry.between else ""
        saved = "" if entry.why == "wrong" else cost_text(entry.saved, unit)
        chosen = f"{entry.precision}: {reasons.get(name, entry.why)}"
        rows.add_row(name, str(tuned.places.get(name, 0)), saved, between, chosen)
    printer.print(rows)
    whole = table("The whole network", "", ">layers", ">cost", ">saved", ">predicted", ">file", ">SNR")
    for variant in tuned.variants:
        costs = (cost_text(each, unit) for each in (variant.cost, variant.saved, variant.predicted))
        size = mebibytes(variant.bytes)
        whole.add_row(variant.name, str(variant.layers), *costs, size, decibels(variant.snr_db))
    if tuned.variants:
        printer.print()
        printer.print(whole)
    measured = {str(entry.layer) for entry in tuned.table.layers}
    for name, reason in reasons.items():
        if name not in measured:
            printer.print(f"Not measured: {name}. {reason}", soft_wrap=True)
    for name in tuned.unmeasured:
        printer.print(f"Not measured: {name}. Allow more with --budget, or leave the machine alone meanwhile.")
    printer.print(f"\nKept in {place}\n", soft_wrap=True)


def layers_table(record: "QuantRecord") -> "Table | None":
    """Every distinct layer of a quantized file that might be int8: what int8 saves, and what it costs in accuracy."""
    from edgekit.cli.output import decibels, table

    rows: dict[tuple[str, str, str, str], list[OperatorPrecision]] = {}
    for each in record.operators:
        if each.saved is not None:
            rows.setdefault((each.layer, each.precision, each.reason, each.source), []).append(each)
    if not rows:
        return None
    listing = table("Layers, measured", "layer", ">places", "precision", "reason", ">int8 saves", ">alone", "by")
    short = short_sources([source for *_, source in rows])
    for (layer, precision, reason, source), found in rows.items():
        alone = min((each.alone_db for each in found if each.alone_db is not None), default=None)
        listing.add_row(
            *(layer, str(len(found)), precision, reason, cost_text(found[0].saved or 0.0, found[0].unit)),
            *("" if alone is None else decibels(alone), short[source]),
        )
    return listing


def short_sources(sources: list[str]) -> Mapping[str, str]:
    """What decided in few words: where it was measured, and the layer that stood for another one."""
    found = {}
    for source in sources:
        where, _, rest = source.partition(":")
        like = rest.partition(", by ")[2]
        found[source] = f"{where}, by {like}" if like else where
    return found
