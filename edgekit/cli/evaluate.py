"""`edgekit eval`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekit.cli.options import PATH, complete_formats, json_option

if TYPE_CHECKING:
    from edgekit.bench.record import Measurement
    from edgekit.evaluate import Outcome
    from edgekit.kept_float import Kept


@click.command("eval")
@click.argument("bundle", type=PATH)
@click.option(
    "--data",
    required=True,
    metavar="DATA",
    help="digits, patterns, patterns:N, a folder, FILE.npz, or module:callable or file.py:callable.",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    default=0.5,
    show_default=True,
    help="Most points of top-1 that an artifact may lose.",
)
@click.option("--images", type=click.IntRange(1), help="Only so many of the images, evenly spread.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    shell_complete=complete_formats,
    help="Only in this format, such as tflite; repeatable.",
)
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Threads to compute on.")
@click.option("--trust", is_flag=True, help="Run the code that the bundle's network was built from once more.")
@click.option("--operators", is_flag=True, help="Time the operators of quantized artifacts that stayed float.")
@click.option("--no-cache", is_flag=True, help="Ask every network anew, and keep no answers.")
@click.option("--markdown", is_flag=True, help="Print Markdown.")
@json_option
def evaluate(
    bundle: Path,
    data: str,
    max_drop: float,
    images: int | None,
    formats: tuple[str, ...],
    threads: int,
    trust: bool,
    operators: bool,
    no_cache: bool,
    markdown: bool,
    as_json: bool,
) -> None:
    """Show what each step from the trained network to the artifacts of a BUNDLE costs in accuracy, on images of yours.

    Steps are compared image by image: a drop has its interval. The exit code is 1 where all of an interval is beyond
    --max-drop; where only its middle is, the step is undecided, and the report says how many images would decide.
    Interrupted, it goes on from there the next time.

    \b
    edgekit eval edgekit-out/parcnetv2_pico_digits-64-arm --data digits
    edgekit eval edgekit-out/parcnetv2_t-224-arm --data imagenet/val --images 5000 --max-drop 1
    """
    from edgekit.bundle import read_manifest
    from edgekit.cache import StageCache, default_folder
    from edgekit.cli.output import StageLines
    from edgekit.data.sources import open_dataset
    from edgekit.evaluate import Options, check_storage, latencies
    from edgekit.evaluate import evaluate as carry_out
    from edgekit.kept_float import kept_float

    context = click.get_current_context()
    manifest = read_manifest(bundle)
    check_storage(bundle)
    latency = latencies(bundle, manifest)
    options = Options(max_drop, images, threads, formats, trust)
    context.meta["edgekit.interrupted"] = "Interrupted. " + (
        "Nothing was left behind." if no_cache else "What was answered is kept; the same command goes on from there."
    )
    with StageLines(shown=not as_json) as lines:
        cache = StageCache(None if no_cache else default_folder())
        dataset = open_dataset(data, "test")
        outcome = carry_out(bundle, manifest, dataset, options, context.meta["edgekit.command"], cache, lines)
    extras = Extras(
        {sha256: latency_cell(each) for sha256, each in latency.items()},
        kept_float(bundle, manifest, formats, threads, timed=operators),
    )
    show(bundle, outcome, extras, markdown=markdown, as_json=as_json)


def latency_cell(measured: "Measurement") -> str:
    """A latency, with its threads where these are several."""
    from edgekit.bench.markdown import latency_text

    threads = measured.setting.threads
    return latency_text(measured) + (f", {threads} threads" if threads > 1 else "")


@dataclass(frozen=True, slots=True)
class Extras:
    """What is shown beside an evaluation: latencies in words by SHA-256, and what stayed float."""

    latency: Mapping[str, str]
    kept: "list[Kept]"


def show(bundle: Path, outcome: "Outcome", extras: Extras, *, markdown: bool, as_json: bool) -> None:
    """Stores the evaluation, prints it, and ends with the error that decides the exit code."""
    from edgekit.cli import Failure
    from edgekit.cli.accuracy import kept_markdown, print_evaluation
    from edgekit.cli.output import print_json
    from edgekit.evaluate import conclude
    from edgekit.evaluation.markdown import markdown as as_markdown
    from edgekit.evaluation.store import write_evaluation

    place = write_evaluation(outcome.evaluation, bundle)
    error = conclude(outcome)
    if as_json:
        problems = [{"artifact": each.artifact, "message": str(each.error)} for each in outcome.problems]
        content = {"evaluation": outcome.evaluation, "latency": extras.latency, "kept_float": extras.kept}
        content |= {"stored": str(place), "problems": problems}
        print_json({**content, **({"error": Failure(error, as_json=True).as_record()} if error else {})})
        click.get_current_context().exit(error.exit_code if error else 0)
    if markdown:
        texts = (as_markdown(outcome.evaluation, extras.latency), *map(kept_markdown, extras.kept))
        click.echo("".join(texts), nl=False)
    else:
        print_evaluation(outcome, extras.latency, extras.kept, place)
    if error:
        raise error
