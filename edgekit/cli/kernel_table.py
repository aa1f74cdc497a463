"""The forms of depthwise kernels as tables: what each candidate costs, and which one is taken."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgekit.tuning.words import cost_text

if TYPE_CHECKING:
    from edgekit.tuning.words import CandidateCost, KernelChoice


def show_choices(choices: "Mapping[str, Sequence[KernelChoice]]") -> None:
    """Prints the candidates of every group of kernels, for each runtime."""
    from edgekit.cli.output import console, mebibytes, table

    printer = console()
    for runtime, chosen in choices.items():
        rows = table(f"Depthwise kernels in {runtime}", "group", ">places", "form", ">adds", ">constants", "")
        for choice in chosen:
            for index, way in enumerate(choice.candidates):
                group, places = (choice.group, str(len(choice.sites))) if index == 0 else ("", "")
                why = f"taken: {choice.source}" if way.form == choice.form else ""
                rows.add_row(group, places, way.form, way_text(way, choice.unit), mebibytes(way.bytes), why)
        if chosen:
            printer.print(rows)
        else:
            printer.print(f"No depthwise kernel of the network is written in another form for {runtime}.")
        printer.print()


def way_text(way: "CandidateCost", unit: str) -> str:
    """What a candidate adds to an inference, or how it compares with the best one; nothing where neither is known."""
    if way.added is not None:
        return cost_text(way.added, unit)
    return f"{way.ratio:.2f} x" if way.ratio is not None else "not measured"
