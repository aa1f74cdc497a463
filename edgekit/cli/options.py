"""Options that several commands share."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import click
from click.shell_completion import CompletionItem

from edgekit.artifact import Shape
from edgekit.intake.source import Asked

if TYPE_CHECKING:  # help is to load no numpy
    from edgekit.quant.recipe import Ranges

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

PATH = click.Path(path_type=Path, readable=False)
"""A path as it is written; whether it can be used is for the command to say, in its own words."""

MAX_SEED = 999_999_999
"""More than enough, and nothing that a generator or a reader of JSON stumbles over."""


class InputShape(click.ParamType[tuple[str, Shape]]):
    """1x3x320x256, or 320x256, or 320 for a square; for one of several inputs NAME=1x3x320x256, with all its sides."""

    name = "[NAME=]NxCxHxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Shape]:
        name, equals, size = str(value).rpartition("=")
        sides = size.lower().split("x")
        known = all(side.isdecimal() and len(side) < 10 for side in sides)
        if not known or (equals and not name) or (not equals and len(sides) not in (1, 2, 4)):
            self.fail(
                f"{value!r} is no input size. Write 1x3x320x256, or 320x256, or 320 for a square; for one of several "
                "inputs NAME=1x3x320x256.",
                param,
                ctx,
            )
        numbers = tuple(int(side) for side in sides)
        return name, numbers if equals or len(numbers) == 4 else (1, 3, numbers[0], numbers[-1])


class Size(click.ParamType[int]):
    """Bytes, written as 40MB, 40MiB, 800KB or 1GB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        written = re.fullmatch(r"(\d{1,9})\s*([kmg]?)(i?)b?", str(value).strip().lower())
        if written is None or int(written[1]) == 0:
            self.fail(f"{value!r} is no size. Write 40MB, 800KB or 40MiB.", param, ctx)
        step, steps = 1024 if written[3] else 1000, " kmg".index(written[2] or " ")
        return int(int(written[1]) * step**steps)


class Duration(click.ParamType[float]):
    """Seconds, written as 90, 90s, 5m or 1h."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        written = re.fullmatch(r"(\d{1,6})\s*([smh]?)", str(value).strip().lower())
        if written is None or int(written[1]) == 0:
            self.fail(f"{value!r} is no time. Write 90s, 5m or 1h.", param, ctx)
        return float(int(written[1]) * {"s": 1, "m": 60, "h": 3600}[written[2] or "s"])


class CpuList(click.ParamType[tuple[int, ...]]):
    """0,2 or 4-7, as the kernel writes lists of processors."""

    name = "LIST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        found: set[int] = set()
        for part in str(value).split(","):
            first, dash, last = part.partition("-")
            ends = (first, last if dash else first)
            if not all(end.isdecimal() and len(end) < 5 for end in ends) or int(ends[0]) > int(ends[1]):
                self.fail(f"{value!r} is no list of processors. Write 0,2 or 4-7.", param, ctx)
            found.update(range(int(ends[0]), int(ends[1]) + 1))
        return tuple(sorted(found))


class Share(click.ParamType[float]):
    """+3%, 3% or -10%."""

    name = "PERCENT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"([+-]?\d{1,4}(?:\.\d+)?) *%", str(value).strip())
        if found is None:
            self.fail(f"{value!r} is no share. Write +3%.", param, ctx)
        return float(found[1]) / 100


def asked_sizes(ctx: click.Context, param: click.Parameter, sizes: tuple[tuple[str, Shape], ...]) -> Asked:  # noqa: ARG001
    """What --input asks for: one size, or one for each name."""
    if not sizes:
        return None
    names = [name for name, _ in sizes]
    if names == [""]:
        return sizes[0][1]
    if "" in names or len(set(names)) < len(names):
        raise click.BadParameter("Give one size, or one for each input as NAME=1x3x320x256.")
    return dict(sizes)


def complete_models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Model names for the shell."""
    from edgekit.models.cards import CARDS

    return [CompletionItem(name, help=card.summary) for name, card in CARDS.items() if name.startswith(incomplete)]


def complete_models_or_paths(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Model names and, for a bundle, whatever is in the folder, for the shell."""
    return [*complete_models(ctx, param, incomplete), CompletionItem(incomplete, type="file")]


def complete_targets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Target names for the shell."""
    from edgekit.targets.board import board_names

    return [CompletionItem(name) for name in board_names() if name.startswith(incomplete)]


def complete_recipes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Recipes for the shell."""
    from edgekit.quant.recipe import BEST, RECIPES

    return [CompletionItem(name) for name in (BEST, *RECIPES) if name.startswith(incomplete)]


def complete_formats(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Export formats for the shell."""
    from edgekit.exporters import EXPORTERS

    return [CompletionItem(name) for name in EXPORTERS if name.startswith(incomplete)]


def complete_runtimes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Runtimes for the shell."""
    from edgekit.runners import RUNNERS

    return [CompletionItem(name) for name in RUNNERS if name.startswith(incomplete)]


def complete_profiles(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Measuring profiles for the shell."""
    from edgekit.bench.profiles import PROFILES

    return [CompletionItem(name, help=one.summary) for name, one in PROFILES.items() if name.startswith(incomplete)]


def complete_kernel_policies(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Kernel policies of any model for the shell."""
    from edgekit.models.cards import CARDS

    known = dict.fromkeys(policy for card in CARDS.values() for policy in card.kernel_policies)
    return [CompletionItem(name) for name in known if name.startswith(incomplete)]


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--json`; errors are printed as JSON with it too, see `edgekit.cli.Commands`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")(command)


def measuring_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What a comparison needs to measure on its way."""
    options: tuple[Decorator, ...] = (
        click.option("--measure", is_flag=True, help="Measure both now, in turns, and store the figures in them."),
        click.option(
            "--profile",
            "profile_name",
            default="quick",
            show_default=True,
            shell_complete=complete_profiles,
            help="How long then: quick, normal, mlperf or sustained.",
        ),
        click.option("--threads", type=click.IntRange(1, 1024), multiple=True, help="Threads then; repeatable."),
    )
    for option in reversed(options):
        command = option(command)
    return command


class NetworkOptions(TypedDict):
    """What `network_options` gives a command: fields of `edgekit.plan.Request`, by their names there."""

    shape: Asked
    features: bool
    kernel_policy: str | None
    weights: str | None
    sha256: str | None
    trust: bool
    no_fuse: tuple[str, ...]
    only: tuple[str, ...]
    ema: bool
    seed: int | None


class ExportOptions(NetworkOptions):
    """What `network_options` and `quantizing_options` give a command."""

    recipe: str
    data: str | None
    calibration: int
    ranges: "Ranges | None"
    keep_float: tuple[str, ...]
    max_drop: float | None
    smallest: bool


def quantizing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What settles how artifacts are quantized beside the float ones."""
    options: tuple[Decorator, ...] = (
        click.option(
            "--recipe",
            default="fp32",
            show_default=True,
            shell_complete=complete_recipes,
            help="Quantize as well: int8, static_wi8_ai8, dynamic_wi8, mixed_wi8_ai8, wi8_weightonly, or fp16.",
        ),
        click.option("--int8", "recipe", flag_value="int8", help="The recipe each runtime is best with."),
        click.option("--data", metavar="DATA", help="Images: a folder, an .npz file, digits or patterns."),
        click.option(
            "--calibration",
            type=click.IntRange(2, 100_000),
            default=128,
            show_default=True,
            help="How many images ranges are measured on.",
        ),
        click.option(
            "--ranges",
            type=click.Choice(("minmax", "percentile", "mse")),
            help="How fixed ranges are chosen: extremes, a percentile, or the least error. Default: by format.",
        ),
        click.option("--float", "keep_float", metavar="PATTERN", multiple=True, help="Modules that stay float."),
        click.option(
            "--max-drop",
            metavar="POINTS",
            type=click.FloatRange(0.0, 100.0),
            help="Most points of top-1 that may be lost: operators go back to float until it is kept.",
        ),
        click.option("--smallest", is_flag=True, help="Make int8 also what is no faster in it: the smallest file."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def network_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What settles a network: its input size, kernels and weights."""
    options: tuple[Decorator, ...] = (
        click.option(
            "--input",
            "shape",
            type=InputShape(),
            multiple=True,
            callback=asked_sizes,
            metavar=InputShape.name,
            help="Fixed input size, such as 1x3x320x256 or 256; for several inputs one NAME=SIZE each.",
        ),
        click.option("--features", is_flag=True, help="The maps a backbone finds, one for each resolution."),
        click.option(
            "--kernel",
            "kernel_policy",
            shell_complete=complete_kernel_policies,
            help="Oversized kernels at another size: interpolate (the paper, default) or keep (the released code).",
        ),
        click.option(
            "--weights",
            metavar="FILE|URL",
            help="Checkpoint (.safetensors, .pth, .pt). Without it the weights are random, or those MODEL comes with.",
        ),
        click.option("--sha256", help="What the checkpoint must hash to; needed for a URL."),
        click.option("--trust", is_flag=True, help="Read a .pt2 that could run code while it is read."),
        click.option(
            "--no-fuse", metavar="PATTERN", multiple=True, help="Leave modules like this as they are; repeatable."
        ),
        click.option("--only", metavar="PATTERN", multiple=True, help="Fuse in modules like this only; repeatable."),
        click.option("--ema", is_flag=True, help="Take the checkpoint's moving average (state_dict_ema)."),
        click.option(
            "--seed",
            type=click.IntRange(0, MAX_SEED),
            help="Seed of random weights, 0 unless given; given, a model with trained ones gets random ones too.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
