"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from edgekit.artifact import Shape

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class InputShape(click.ParamType[Shape]):
    """1x3x320x256, or 320x256, or 320 for a square."""

    name = "NxCxHxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shape:
        if isinstance(value, tuple):
            return value
        sides = str(value).lower().split("x")
        if not all(side.isdecimal() and len(side) < 10 for side in sides) or len(sides) not in (1, 2, 4):
            self.fail(f"{value!r} is no input size. Write 1x3x320x256, or 320x256, or 320 for a square.", param, ctx)
        numbers = tuple(int(side) for side in sides)
        if len(numbers) == 4:
            return numbers
        return (1, 3, numbers[0], numbers[-1])


def complete_models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Model names for the shell."""
    from edgekit.models.cards import CARDS

    return [CompletionItem(name, help=card.summary) for name, card in CARDS.items() if name.startswith(incomplete)]


def complete_targets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Target names for the shell."""
    from edgekit.targets.board import board_names

    return [CompletionItem(name) for name in board_names() if name.startswith(incomplete)]


def _remember_json(ctx: click.Context, param: click.Parameter, value: bool) -> bool:  # noqa: ARG001
    ctx.meta["edgekit.json"] = value
    return value


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--json`, seen early so that errors come as JSON too."""
    return click.option(
        "--json", "as_json", is_flag=True, is_eager=True, callback=_remember_json, help="Print JSON instead of tables."
    )(command)


def network_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What settles a network: its input size, kernels and weights."""
    options: tuple[Decorator, ...] = (
        click.option("--input", "shape", type=InputShape(), help="Fixed input size, such as 1x3x320x256 or 256."),
        click.option(
            "--kernel",
            "kernel_policy",
            help="Oversized kernels at another size: interpolate (the paper, default) or keep (the released code).",
        ),
        click.option(
            "--weights",
            type=click.Path(path_type=Path),
            help="Checkpoint (.safetensors, .pth, .pt). Without it the weights are random.",
        ),
        click.option("--ema", is_flag=True, help="Take the checkpoint's moving average (state_dict_ema)."),
        click.option(
            "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of random weights."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
