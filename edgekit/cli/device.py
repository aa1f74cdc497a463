"""`edgekit device` and `edgekit devices`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from edgekit.cli.options import json_option

if TYPE_CHECKING:
    from edgekit.targets.address import Address
    from edgekit.targets.doctor import Diagnosis
    from edgekit.targets.link import Progress

DEFAULT_RUNTIMES = ("tflite", "ncnn")
"""What an ARMv7 board can have at all."""


def complete_devices(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
    """Addresses of known devices for the shell."""
    from edgekit.targets.known import known_devices

    return [CompletionItem(each.address) for each in known_devices() if each.address.startswith(incomplete)]


def split_runtimes(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:  # noqa: ARG001
    """Names from `--runtime a,b --runtime c`."""
    names = tuple(dict.fromkeys(name.strip() for text in given for name in text.split(",") if name.strip()))
    return names or DEFAULT_RUNTIMES


@click.command()
@json_option
def devices(as_json: bool) -> None:
    """List the devices one can name; nothing is connected to."""
    from edgekit.cli.output import console, print_json, table
    from edgekit.targets.known import known_devices

    found = known_devices()
    if as_json:
        print_json({"devices": found})
        return
    listing = table("Devices", "address", "kind", "note")
    for each in found:
        listing.add_row(each.address, each.kind, each.note)
    console().print(listing)
    console().print("\nAny board with Python 3.7 or newer: ssh://user@host[:port], or adb://SERIAL")


@click.command()
@click.argument("action", type=click.Choice(["setup", "doctor", "remove"]))
@click.argument("address", shell_complete=complete_devices)
@click.option(
    "--runtime",
    "runtimes",
    multiple=True,
    callback=split_runtimes,
    metavar="NAME[,NAME]",
    help="What `setup` brings: tflite, ncnn, onnxruntime, openvino or mnn; tflite and ncnn by default.",
)
@json_option
def device(action: str, address: str, runtimes: tuple[str, ...], as_json: bool) -> None:
    """Prepare a board, ask how it is, or take everything off it again.

    \b
    edgekit device doctor ssh://pi@board                    what it has, lacks and could run
    edgekit device setup ssh://pi@board --runtime ncnn      fetches wheels here and sends them
    edgekit device remove ssh://pi@board                    leaves no trace

    ADDRESS is local, qemu://armv7, qemu://aarch64, ssh://user@host[:port] or adb://SERIAL.
    """
    from edgekit.cli.output import StageLines
    from edgekit.targets.address import parse_address

    parsed = parse_address(address)
    with StageLines(shown=not as_json) as lines:
        actions: dict[str, Callable[[], dict[str, Any]]] = {
            "setup": lambda: set_up(parsed, runtimes, lines.note),
            "doctor": lambda: examine(parsed, lines.note),
            "remove": lambda: clear(parsed, lines.note),
        }
        answer = actions[action]()
    show(answer, as_json=as_json)


def set_up(address: "Address", runtimes: tuple[str, ...], progress: "Progress") -> dict[str, Any]:
    """Brings runtimes to a board, and examines it."""
    from edgekit.targets.care import set_up_device

    return {"diagnosis": set_up_device(address, runtimes, progress)}


def examine(address: "Address", progress: "Progress") -> dict[str, Any]:
    """Asks a device how it is."""
    from edgekit.targets.care import examine_device

    return {"diagnosis": examine_device(address, progress)}


def clear(address: "Address", progress: "Progress") -> dict[str, Any]:
    """Takes everything off a device."""
    from edgekit.targets.care import clear_device

    return {"removed": clear_device(address, progress)}


def show(answer: dict[str, Any], *, as_json: bool) -> None:
    """Prints the answer, and ends with exit code 1 where nothing would run."""
    from edgekit.cli.output import console, print_json

    diagnosis = answer.get("diagnosis")
    if as_json:
        print_json(answer)
    elif diagnosis is None:
        console().print(answer["removed"])
    else:
        show_diagnosis(diagnosis)
    if diagnosis is not None and not diagnosis.usable:
        click.get_current_context().exit(1)


def show_diagnosis(diagnosis: "Diagnosis") -> None:
    """Prints what a device is, has and could have."""
    from edgekit.cli.output import console, styled, table
    from edgekit.targets.board import core_name

    printer, board = console(), diagnosis.device
    kind = " (EMULATED)" if board.emulated else ""
    called = ", ".join(filter(None, (board.model, core_name(board.processor)))) or board.machine
    printer.print(styled(f"{board.address}{kind}: ", "bold") + called)
    system = f"{diagnosis.state.available_kib >> 10} of {board.memory_kib >> 10} MiB free, kernel {board.kernel}"
    borrowed = " (both this machine's)" if board.address.startswith("qemu") else ""
    printer.print(f"{board.cores} cores, {board.machine}, {board.bits} bit, {system}{borrowed}")
    printer.print(f"Python {board.python}, numpy {board.numpy or 'missing'}, {board.libc or 'unknown C library'}\n")
    listing = table("Runtimes", "runtime", "from", "version", "verdict", "remark")
    for each in diagnosis.runtimes:
        listing.add_row(each.runtime, each.distribution, each.version, each.verdict, each.remark)
    printer.print(listing)
    for concern in diagnosis.concerns:
        printer.print(f"- {concern}")
    installable = [each.runtime for each in diagnosis.runtimes if each.verdict == "installable"]
    if installable and board.address == "local":
        printer.print("\nTo install: pip install 'edgekit[all]'")
    elif installable and board.address.startswith(("ssh", "adb")):
        printer.print(f"\nTo install: edgekit device setup {board.address} --runtime {','.join(installable)}")
    if diagnosis.usable:
        printer.print(f"\nTo measure there: edgekit bench BUNDLE --device {board.address}")
