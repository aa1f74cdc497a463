"""`edgekit bench`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import click

from edgekit.cli.device import complete_devices
from edgekit.cli.options import (
    PATH,
    CpuList,
    NetworkOptions,
    complete_formats,
    complete_models_or_paths,
    complete_profiles,
    complete_runtimes,
    json_option,
    network_options,
)

if TYPE_CHECKING:
    from edgekit.errors import EdgekitError
    from edgekit.measure import Bundle, Outcome
    from edgekit.targets.native import Given


@click.command()
@click.argument("what", metavar="[MODEL|BUNDLE]...", nargs=-1, shell_complete=complete_models_or_paths)
@click.option(
    "--profile",
    "profile_name",
    default="quick",
    show_default=True,
    shell_complete=complete_profiles,
    help="How long: quick, normal, mlperf or sustained.",
)
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Another counted time of each artifact.")
@click.option("--runs", type=click.IntRange(1), help="Another number of counted inferences of each artifact.")
@click.option("--threads", type=click.IntRange(1, 1024), multiple=True, help="Threads; repeatable. Default: 1.")
@click.option("--batch", type=click.IntRange(1), multiple=True, help="Images at once, of a MODEL; repeatable.")
@click.option("--affinity", type=CpuList(), help="Processors to run on, such as 4-7 or 0,2.")
@click.option(
    "--runtime",
    "runtimes",
    multiple=True,
    shell_complete=complete_runtimes,
    help="Only in this runtime, such as openvino; repeatable.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    shell_complete=complete_formats,
    help="Only in this format, such as tflite; repeatable.",
)
@click.option(
    "--device",
    "devices",
    multiple=True,
    default=("local",),
    show_default=True,
    shell_complete=complete_devices,
    help="Where: local, qemu://armv7, qemu://aarch64, ssh://user@host or adb://SERIAL; repeatable.",
)
@click.option(
    "--governor", default="", metavar="NAME", help="The clocks' governor meanwhile, on boards; put back after."
)
@click.option(
    "--native",
    "natives",
    multiple=True,
    metavar="RUNTIME=PROGRAM",
    help="A runtime's own benchmark program for devices without Python: tflite=benchmark_model, ncnn=benchncnn or "
    "mnn=benchmark.out; RUNTIME=board:PATH where the device has it. Repeatable.",
)
@click.option("--no-memory", is_flag=True, help="Leave memory out.")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@click.option("-o", "--out", type=PATH, help="Write the figures into this JSON file instead of into the bundles.")
@network_options
@json_option
def bench(
    what: tuple[str, ...],
    profile_name: str,
    seconds: float | None,
    runs: int | None,
    threads: tuple[int, ...],
    batch: tuple[int, ...],
    affinity: tuple[int, ...] | None,
    runtimes: tuple[str, ...],
    formats: tuple[str, ...],
    devices: tuple[str, ...],
    governor: str,
    natives: tuple[str, ...],
    no_memory: bool,
    markdown: bool,
    out: Path | None,
    as_json: bool,
    **network: Unpack[NetworkOptions],
) -> None:
    """Measure latency and memory of every artifact of BUNDLEs, or of MODELs, which are exported first.

    All artifacts take turns, and every figure has an interval and a verdict that says how far it can be trusted. An
    artifact that is not its bundle's network is never timed. Alone it takes the newest bundle in ./edgekit-out.

    Several devices work at the same time. On emulated ones executed instructions are counted, which are no time.

    With --native nothing but a shell is needed on a device. What the program prints is recorded as printed: without an
    interval, never trusted, and marked where its outputs were NOT compared.

    \b
    edgekit bench edgekit-out/parcnetv2_t-224-arm --threads 1 --threads 2
    edgekit bench edgekit-out/parcnetv2_t-224-arm --device ssh://pi@board --device qemu://armv7
    edgekit bench edgekit-out/parcnetv2_t-224-arm --device ssh://root@board --native ncnn=./benchncnn
    edgekit bench parcnetv2_t timm:convnext_tiny --profile normal
    """
    from edgekit.bench.profiles import choose_profile
    from edgekit.cli.contenders import contenders
    from edgekit.cli.measuring import TICKS
    from edgekit.cli.output import StageLines
    from edgekit.errors import MisuseError
    from edgekit.fleet.native import Work, measure_natively
    from edgekit.fleet.run import measure_fleet
    from edgekit.measure import Choice, check_storage, choose_settings

    if governor and all(device == "local" for device in devices):
        raise MisuseError("--governor is for boards. Name one with --device.")
    programs = given_programs(natives, governor)
    profile = choose_profile(profile_name, seconds, runs)
    choice = Choice(choose_settings(threads, affinity), runtimes, formats, memory=not no_memory)
    command: tuple[str, ...] = click.get_current_context().meta["edgekit.command"]
    with StageLines(shown=not as_json, ticks=TICKS) as lines:
        bundles = contenders(what, choice, batch, network, command, lines, target_for(devices))
        check_storage(bundles, out)
        if programs:
            outcome = measure_natively(devices, Work(bundles, choice, profile, command, programs), lines.note)
        else:
            outcome = measure_fleet(devices, bundles, choice, profile, command, lines, governor)
    fleet = devices != ("local",) or bool(programs)
    show(bundles, outcome, out, markdown=markdown, as_json=as_json, fleet=fleet)


def given_programs(natives: tuple[str, ...], governor: str) -> "dict[str, Given]":
    """The programs of `--native` by runtime; none where none were given.

    Raises:
        MisuseError: One is not there, or of no known runtime, two are of one, or the clocks' governor is to be set.
    """
    from edgekit.errors import MisuseError
    from edgekit.targets.native import parse_given

    given = [parse_given(text) for text in natives]
    programs = {each.runtime: each for each in given}
    if len(programs) < len(given):
        raise MisuseError("--native takes one program for each runtime.")
    if programs and governor:
        raise MisuseError("--governor needs Python on the board. Leave it out with --native.")
    return programs


def target_for(devices: tuple[str, ...]) -> str:
    """What models are exported for: this machine, unless other devices only are to run them."""
    return "host" if "local" in devices else "arm"


def show(
    bundles: "list[Bundle]", outcome: "Outcome", out: Path | None, *, markdown: bool, as_json: bool, fleet: bool
) -> None:
    """Stores the figures, prints them, and ends with the error that decides the exit code."""
    from edgekit.bench.fleet_rows import fleet_markdown
    from edgekit.bench.markdown import markdown as local_markdown
    from edgekit.cli.figures import print_figures, print_fleet, problem_rows, skipped_rows
    from edgekit.cli.output import print_json
    from edgekit.measure import conclude, store

    places = store(bundles, outcome.runs, out)
    problem = conclude(outcome.problems)
    if as_json:
        content = {"runs": outcome.runs, "stored": [str(path) for path in places]}
        missing = {"problems": problem_rows(outcome.problems), "skipped": skipped_rows(outcome.skipped)}
        print_json({**content, **missing, **error_record(problem)})
        click.get_current_context().exit(problem.exit_code if problem else 0)
    if markdown:
        click.echo((fleet_markdown if fleet else local_markdown)(outcome.runs), nl=False)
    else:
        (print_fleet if fleet else print_figures)(outcome, places)
    if problem:
        raise problem


def error_record(problem: "EdgekitError | None") -> dict[str, Any]:
    """The error that decides the exit code, for JSON."""
    from edgekit.cli import Failure

    return {"error": Failure(problem, as_json=True).as_record()} if problem else {}
