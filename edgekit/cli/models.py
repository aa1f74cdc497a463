"""`edgekit models`."""

from typing import TYPE_CHECKING

import click

from edgekit.cli.options import complete_models, json_option

if TYPE_CHECKING:
    from edgekit.artifact import ModelCard


@click.command()
@click.argument("name", required=False, shell_complete=complete_models)
@click.option("--features", is_flag=True, help="The backbones, as `export --features` makes them.")
@json_option
def models(name: str | None, features: bool, as_json: bool) -> None:
    """List the models, or print the card of one."""
    from edgekit.cli.output import print_json
    from edgekit.models.cards import CARDS, card
    from edgekit.models.feature_cards import SIZES, features_card

    known, find = (SIZES, features_card) if features else (CARDS, card)
    cards = [find(name)] if name else [find(each) for each in known]
    if as_json:
        print_json({"models": cards})
    elif name:
        show_card(cards[0])
    else:
        show_list(cards)


def show_list(cards: "list[ModelCard]") -> None:
    """Prints one row per model."""
    from edgekit.cli.output import WIDE, console, count, table
    from edgekit.models.cards import text

    printer = console()
    wide = printer.width >= WIDE
    listing = table("Models", "name", ">parameters", ">MACs", "input", *(("weights", "what it is") if wide else ()))
    for card in cards:
        figures = (count(card.parameters), count(card.macs), text(card.input_shape))
        listing.add_row(card.name, *figures, *((card.weights_licence, card.summary) if wide else ()))
    printer.print(listing)


def show_card(card: "ModelCard") -> None:
    """Prints everything a card says."""
    from edgekit.cli.output import console, count, table
    from edgekit.models.cards import rule_text, text

    pre = card.preprocessing
    rows = {
        "what it is": card.summary,
        "paper": card.paper,
        "input": f"{text(card.input_shape)} (N x C x H x W), float32",
        "sizes": f"sides are {rule_text(card.size_rule)}",
        "parameters": count(card.parameters),
        "MACs": f"{count(card.macs)} at {text(card.input_shape)}",
        "classes": count(card.classes) if card.classes else "none: feature maps",
        "resize and crop": f"{pre.interpolation}, centre crop {pre.crop_fraction:g} of the short side",
        "channels": f"{pre.channel_order}, scaled to 0..1, mean {pre.mean}, std {pre.std}",
        "kernel policies": " (default), ".join(card.kernel_policies) or "none to choose",
        "weights": card.weights_licence,
    }
    listing = table(card.name, "", "")
    for key, value in rows.items():
        listing.add_row(key, value)
    for note in card.notes:
        listing.add_row("note", note)
    console().print(listing)
