"""What `edgekit bench` compares: bundles as they are named, and bundles made of models on the spot."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
from msgspec import Struct

from edgekit.bundle import MANIFEST, Progress, is_bundle, read_manifest
from edgekit.cache import StageCache, default_folder
from edgekit.cli.inspect import means_bundle, refuse_options
from edgekit.cli.options import NetworkOptions
from edgekit.errors import BundleError, UnknownNameError
from edgekit.exporters import EXPORTERS
from edgekit.measure import Bundle, Choice
from edgekit.pipeline import export
from edgekit.plan import Plan, Request, make_plan
from edgekit.runners import RUNNERS
from edgekit.targets.board import HOST

OUT = Path("edgekit-out")
"""Where bundles are by default."""

MADE_HERE = "bench"
"""The folder in there for bundles of models that were exported to be measured, apart from those asked for by name."""

APPLY_TO_BUNDLES = frozenset(
    {
        *("what", "profile_name", "seconds", "runs", "threads", "affinity", "runtimes", "formats"),
        *("devices", "governor", "natives", "no_memory", "markdown", "out", "as_json"),
    }
)
"""Options of `edgekit bench` that describe no network."""


def contenders(
    what: Sequence[str],
    choice: Choice,
    batches: Sequence[int],
    network: NetworkOptions,
    command: Sequence[str],
    progress: Progress,
    target: str = HOST,
) -> list[Bundle]:
    """The bundles to measure; models are exported for a target, which is this machine, at each batch size.

    Raises:
        BundleError: There is no bundle.
        MisuseError: Options of models were given with bundles only.
        EdgekitError: An export failed.
    """
    check_names(choice)
    folders = [newest_bundle(OUT)] if not what else [Path(one) for one in what if means_bundle(one)]
    models = [one for one in what if not means_bundle(one)]
    if not models:
        refuse_options(str(folders[0]), APPLY_TO_BUNDLES)
    plans = {
        model: plans_of(model, choice, batches, network, target) for model in models
    }  # all are checked before any runs
    made = {model: [make(plan, command, progress) for plan in each] for model, each in plans.items()}
    if not what:
        return [Bundle(folders[0], read_manifest(folders[0]))]
    return [
        bundle
        for one in what
        for bundle in (made[one] if one in made else [Bundle(Path(one), read_manifest(Path(one)))])
    ]


def check_names(choice: Choice) -> None:
    """Refuses runtimes and formats that do not exist.

    Raises:
        UnknownNameError: One does not.
    """
    for kind, names, known in (("runtime", choice.runtimes, RUNNERS), ("format", choice.formats, EXPORTERS)):
        for name in names:
            if name not in known:
                raise UnknownNameError(kind, name, known, "edgekit bench --help")


class _Dated(Struct):
    """As much of a manifest, of any version, as tells when it was made."""

    created: str


def newest_bundle(folder: Path) -> Path:
    """The bundle made last, by whatever version of edgekit; one of another version is told when it is read.

    Raises:
        BundleError: There is none.
    """
    found = {path: made_at(path) for path in folder.glob("*") if is_bundle(path)} if folder.is_dir() else {}
    if not found:
        raise BundleError(f"There is no bundle in {folder}. `edgekit export MODEL` makes one, or name one.")
    return max(found, key=lambda path: found[path])


def made_at(bundle: Path) -> str:
    """When a bundle was made; "" where its manifest does not say, which is before all others."""
    try:
        return msgspec.json.decode((bundle / MANIFEST).read_bytes(), type=_Dated).created
    except msgspec.DecodeError:
        return ""


def plans_of(
    model: str, choice: Choice, batches: Sequence[int], network: NetworkOptions, target: str = HOST
) -> list[Plan]:
    """How a model is exported for a target, once for each batch size."""
    formats = choice.formats or tuple(
        entry.format for entry in EXPORTERS.values() if choice.runtimes and entry.runtime in choice.runtimes
    )
    request = Request(model=model, target=target, formats=formats, **network)
    plan = make_plan(request)
    sizes = {spec.name: spec.shape[1:] for spec in plan.inputs}
    plans = [plan]
    if batches:
        shapes = ({name: (batch, *rest) for name, rest in sizes.items()} for batch in dict.fromkeys(batches))
        asked = [next(iter(shape.values())) if len(shape) == 1 else shape for shape in shapes]
        plans = [make_plan(replace(request, shape=shape)) for shape in asked]
    return [replace(each, out=each.out.parent / MADE_HERE / each.out.name) for each in plans]


def make(plan: Plan, command: Sequence[str], progress: Progress) -> Bundle:
    """Exports a model, from the cache where it is there."""
    progress.note(f"{plan.card.name} into {plan.out}")
    return Bundle(plan.out, export(plan, command, StageCache(default_folder()), progress))
