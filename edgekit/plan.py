"""The plan: everything about an export that can be decided before any framework is loaded.

A plan is what `--dry-run` prints. It is also where cache keys come from, so a stage whose inputs have not changed is
found without building the network.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from edgekit.artifact import ModelCard, Origin, Shape, TensorSpec
from edgekit.cache import source_hash, stage_key, tool_versions
from edgekit.errors import MissingExtraError, MisuseError, UnknownNameError, WeightsError
from edgekit.exporters import EXPORTERS, Exporter
from edgekit.files import sha256
from edgekit.intake import resolve
from edgekit.intake.fetch import check_address, check_hash, is_url
from edgekit.intake.source import Asked, Source
from edgekit.models.cards import check_input, check_kernel_policy, text
from edgekit.models.shipped import weights_path
from edgekit.places import DEFAULT_TARGET, place, precisions
from edgekit.quant import QUANTIZERS, Quantizer, float_only
from edgekit.quant.recipe import BEST, DEFAULT_RECIPE, Ranges, Recipe
from edgekit.quant.recipe import check as check_recipe
from edgekit.quant.recipe import parse as parse_recipe
from edgekit.targets.board import load_board
from edgekit.tuning.choose import Chooser, parse_overrides
from edgekit.tuning.precision import PrecisionChooser
from edgekit.tuning.tables import Tuning, own_tables, shipped_tables
from edgekit.version import __version__

PRECISION_KEY = "edgekit.precision"
"""Where an artifact's metadata has its precision."""

_NETWORK_PACKAGES = ("torch", "numpy", "safetensors")


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for, as written."""

    model: str
    target: str = DEFAULT_TARGET
    formats: tuple[str, ...] = ()
    precision: str = DEFAULT_RECIPE
    shape: Asked = None
    features: bool = False
    kernel_policy: str | None = None
    weights: Path | str | None = None
    sha256: str | None = None
    ema: bool = False
    seed: int | None = None
    out: Path | None = None
    trust: bool = False
    only: tuple[str, ...] = ()
    no_fuse: tuple[str, ...] = ()
    lowering: tuple[str, ...] = ()
    max_bytes: int | None = None
    partition: str | None = None
    recipe: str = DEFAULT_RECIPE
    data: str | None = None
    calibration: int = 128
    keep_float: tuple[str, ...] = ()
    max_drop: float | None = None
    smallest: bool = False
    ranges: Ranges | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done.

    Attributes:
        source: Where the network comes from.
        shipped: The package's own weights, where they are used.
        network_key: Cache key of the network: captured, materialised, with its reference outputs. None until the
            network is captured, where only its fingerprint can tell what it is.
        artifact_keys: Cache key of each artifact, by format; empty as long.
    """

    request: Request
    source: Source
    card: ModelCard
    inputs: tuple[TensorSpec, ...]
    kernel_policy: str | None
    shipped: Path | None
    weights_sha256: str | None
    exporters: tuple[Exporter, ...]
    out: Path
    metadata: dict[str, str]
    network_key: str | None
    artifact_keys: dict[str, str]
    tools: dict[str, str]
    tuning: Tuning

    @property
    def stem(self) -> str:
        """File name of the artifacts without its ending."""
        return f"{self.card.name}.{self.request.precision}"

    @property
    def lowering(self) -> str:
        """The precision whose lowering the artifacts get: that of their arithmetic."""
        asked = self.request.precision
        return DEFAULT_RECIPE if asked != BEST and parse_recipe(asked).exact else BEST

    @property
    def partition(self) -> str | None:
        """The modules at which artifacts are cut into parts: `streams` is short for `streams.*`."""
        asked = self.request.partition
        return asked if asked is None or set(asked) & set("*?[") else f"{asked}.*"

    @property
    def quantizers(self) -> tuple[tuple[Exporter, Quantizer, Recipe], ...]:
        """What is quantized beside the float artifacts, and how."""
        if self.request.recipe == DEFAULT_RECIPE:
            return ()
        recipe = self.request.recipe
        known = [(entry, QUANTIZERS[entry.format]) for entry in self.exporters if entry.format in QUANTIZERS]
        return tuple((entry, each, each.recipe(recipe)) for entry, each in known if each.offers(recipe))

    def quantized(self) -> "Plan":
        """The plan of the float files that are quantized: the same network, lowered and described as theirs."""
        request = replace(self.request, precision=self.request.recipe, max_bytes=None)
        return replace(self, request=request, metadata={**self.metadata, PRECISION_KEY: request.precision})

    @property
    def origin(self) -> Origin:
        """What the network is built from, for the manifest."""
        request = self.request
        return Origin(
            model=request.model,
            features=request.features,
            weights=None if request.weights is None else str(request.weights),
            weights_sha256=self.weights_sha256,
            ema=request.ema,
            seed=request.seed,
            only=request.only,
            no_fuse=request.no_fuse,
        )

    def keyed(self, identity: dict[str, str]) -> "Plan":
        """The plan with its cache keys, given what decides the network."""
        fusing = (self.request.only, self.request.no_fuse)
        named = {**identity, "inputs": " ".join(spec.name for spec in self.inputs)}
        key = stage_key("network", source_hash(), tool_versions(_NETWORK_PACKAGES), self.metadata, fusing, named)
        keys = {
            entry.format: stage_key(
                *("artifact", key, entry.format, tool_versions(entry.packages), self.tuning.identity(entry.runtime)),
                *(place(load_board(self.request.target), entry.format), self.request.lowering, self.request.max_bytes),
            )
            for entry in self.exporters
        }
        return replace(self, network_key=key, artifact_keys=keys)

    def precision_chooser(self, exporter: Exporter) -> PrecisionChooser:
        """What decides between int8 and float in an artifact."""
        return precisions(
            *(self.request.target, exporter.runtime, exporter.format, self.tuning), smallest=self.request.smallest
        )

    def parts_key(self, format_: str) -> str:
        """Cache key of a format's artifact in parts, once the plan has its keys."""
        return stage_key("parts", self.artifact_keys[format_], self.partition)

    def chooser(self, exporter: Exporter, max_bytes: int | None = None) -> Chooser:
        """What decides the forms of depthwise kernels in an artifact whose constants may take so many bytes."""
        return Chooser(
            runtime=exporter.runtime,
            place=place(load_board(self.request.target), exporter.format),
            own=self.tuning.own,
            rules=self.tuning.rules,
            overrides=parse_overrides(self.request.lowering),
            max_bytes=max_bytes,
        )


def make_plan(request: Request) -> Plan:
    """Checks a request against everything edgekit knows and settles what is open.

    Raises:
        MisuseError: A name, size or option that does not exist or does not fit.
        MissingExtraError: A format needs a package that is not installed.
    """
    for written in (request.model, request.weights, request.out):
        check_text(str(written))
    source = resolve(request.model, trust=request.trust, features=request.features)
    model = source.card(request.shape)
    inputs = source.inputs(request.shape)
    if len(inputs) == 1:
        check_input(model, inputs[0].shape)
    policy = check_kernel_policy(model, request.kernel_policy)
    exporters = choose_exporters(request)
    check_quantizing(request, exporters)
    parse_overrides(request.lowering)
    shipped = shipped_weights(request, source)
    weights_sha256 = hash_weights(shipped) if shipped else settle_weights(request)
    if request.weights and source.weights == "fixed":
        raise WeightsError(f"{source.text} brings its own weights, which --weights cannot replace. Leave it out.")
    if request.ema and request.weights is None:
        raise MisuseError("--ema chooses a section of a checkpoint; give the checkpoint with --weights.")
    weights: dict[str, object] = {"sha256": weights_sha256, "ema": request.ema}
    if request.weights is None and shipped is None:
        own = source.weights in ("own", "fixed")
        weights = {"model": source.text} if own else {"seed": request.seed or 0}
    metadata = describe(source.text, model, inputs, policy, weights, request.precision)
    tools = tool_versions((*_NETWORK_PACKAGES, *(name for entry in exporters for name in entry.packages)))
    if request.recipe != DEFAULT_RECIPE:
        quantizing = (QUANTIZERS[entry.format].packages for entry in exporters if entry.format in QUANTIZERS)
        tools |= tool_versions(tuple(name for packages in quantizing for name in packages))
    plan = Plan(
        request=request,
        source=source,
        card=model,
        inputs=inputs,
        kernel_policy=policy,
        shipped=shipped,
        weights_sha256=weights_sha256,
        exporters=exporters,
        out=request.out or default_out(request, model.name, inputs[0].shape, policy),
        metadata=metadata,
        network_key=None,
        artifact_keys={},
        tools=tools,
        tuning=Tuning(own_tables(), shipped_tables()),
    )
    identity = source.identity()
    return plan if identity is None else plan.keyed(identity)


def runs_user_code(model: str) -> bool:
    """Whether a MODEL is code of the user's, which building it runs.

    Raises:
        MisuseError: It is no MODEL, or it names a file that is not there.
    """
    return resolve(model).identity() is None


def choose_exporters(request: Request) -> tuple[Exporter, ...]:
    """The formats asked for, else those a runtime of the target loads.

    Raises:
        UnknownNameError: No such target or format.
        MisuseError: The target has no runtime that loads a format edgekit makes.
        MissingExtraError: A format's packages are not installed.
    """
    board = load_board(request.target)
    for name in request.formats:
        if name not in EXPORTERS:
            raise UnknownNameError("format", name, EXPORTERS, "edgekit export --help")
    wanted = request.formats or board.formats
    chosen = tuple(entry for entry in EXPORTERS.values() if entry.format in wanted)
    if not chosen:
        raise MisuseError(f"No runtime is known for target {board.name!r}. Choose formats with --format.")
    for entry in chosen:
        missing = [package for package in entry.packages if package not in tool_versions(entry.packages)]
        if missing and entry.extra:
            raise MissingExtraError(missing[0], entry.extra, f"{entry.format} export")
    return chosen


def check_quantizing(request: Request, exporters: tuple[Exporter, ...]) -> None:
    """Checks what was asked for beside float artifacts.

    Raises:
        MisuseError: There is no such recipe, no data to carry it out with, or a format it cannot be had in.
        MissingExtraError: A quantizer is not installed.
    """
    if check_recipe(request.recipe) == DEFAULT_RECIPE:
        wishes = (request.data, request.keep_float, request.max_drop, request.smallest, request.ranges)
        if any(wish not in (None, (), False) for wish in wishes):
            raise MisuseError(
                "--data, --float, --ranges, --max-drop and --smallest are for quantizing. Ask with --int8 or --recipe."
            )
        return
    if request.data is None:
        raise MisuseError(
            f"Recipe {request.recipe!r} needs images: to calibrate with, and others to compare on. Give them with "
            "--data: a folder in ImageNet's layout or of images alone, an .npz file, digits or patterns."
        )
    able = [each for entry in exporters if (each := QUANTIZERS.get(entry.format)) and each.offers(request.recipe)]
    if not able:
        others = [each.format for each in QUANTIZERS.values() if each.offers(request.recipe)]
        raise MisuseError(
            f"{float_only(entry.format for entry in exporters)}. {', '.join(others)} can be had in {request.recipe}: "
            "choose one of these with --format, or leave --int8 out."
        )
    for quantizer in able:
        quantizer.recipe(request.recipe)
        missing = [package for package in quantizer.packages if package not in tool_versions(quantizer.packages)]
        if missing:
            raise MissingExtraError(missing[0], quantizer.extra or "all", f"quantizing {quantizer.format}")


def settle_weights(request: Request) -> str | None:
    """SHA-256 of the checkpoint, which one at an address must come with; nothing is fetched here.

    Raises:
        MisuseError: An address of a kind that is not fetched, or without a hash; a hash without a file.
        WeightsError: The file cannot be read, or has another hash than the one given.
    """
    if request.weights is None:
        if request.sha256:
            raise MisuseError("--sha256 is the hash of a checkpoint; give the checkpoint with --weights.")
        return None
    if is_url(str(request.weights)):
        check_address(str(request.weights))
        return check_hash(str(request.weights), request.sha256)
    found = hash_weights(Path(request.weights))
    if request.sha256 and found != check_hash(str(request.weights), request.sha256):
        raise WeightsError(f"{request.weights} has SHA-256 {found}, not {request.sha256}. It is another file.")
    return found


def shipped_weights(request: Request, source: Source) -> Path | None:
    """The package's own weights of a model that has some, unless others or random ones are asked for."""
    others = request.weights is not None or request.sha256 is not None or request.seed is not None
    return None if others or source.weights != "shipped" else weights_path(source.text)


def hash_weights(path: Path) -> str:
    """SHA-256 of a checkpoint.

    Raises:
        WeightsError: The file cannot be read.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited on for ever, a device read for ever
            kind = "a folder" if path.is_dir() else "no regular file"
            raise WeightsError(f"{path} is {kind}. Give a checkpoint with --weights PATH.")
        return sha256(path)
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read: {error.strerror}. Give a checkpoint with --weights PATH."
        ) from error


def check_text(written: str) -> None:
    """Refuses a name that is no text: neither the manifest nor JSON can hold it.

    Raises:
        MisuseError: It has bytes that are no UTF-8.
    """
    try:
        written.encode()
    except UnicodeEncodeError as error:
        raise MisuseError(f"{written!a} is not UTF-8. Use a name of letters and digits.") from error


def describe(
    named: str,
    model: ModelCard,
    inputs: tuple[TensorSpec, ...],
    policy: str | None,
    weights: dict[str, object],
    precision: str,
) -> dict[str, str]:
    """What every artifact says about itself, in its own metadata."""
    sizes = inputs_text(inputs)
    entries = {
        "model": model.name,
        "input": sizes,
        "layout": ", ".join(spec.layout or "none" for spec in inputs),
        "precision": precision,
        "preprocessing": msgspec.json.encode(model.preprocessing).decode(),
        "weights": msgspec.json.encode(weights).decode(),
        "version": __version__,
        "resolution": f"locked to {sizes}; for another size: edgekit export {named} --input NxCxHxW",
    }
    if policy is not None:
        entries["kernel_policy"] = policy
    return {f"edgekit.{key}": value for key, value in entries.items()}


def inputs_text(inputs: tuple[TensorSpec, ...]) -> str:
    """The size of the one input, or of each input by its name."""
    if len(inputs) == 1:
        return text(inputs[0].shape)
    return " ".join(f"{spec.name}={text(spec.shape)}" for spec in inputs)


def default_out(request: Request, name: str, shape: Shape, policy: str | None) -> Path:
    """`edgekit-out/<model>-<size>-<target>`, with what differs from the usual added."""
    size = text(shape)
    if len(shape) == 4:
        size = str(shape[2]) if shape[2] == shape[3] else text(shape[2:])
    batch = f"-n{shape[0]}" if shape[0] > 1 else ""
    kernel = f"-{policy}" if request.kernel_policy else ""
    return Path("edgekit-out") / f"{name}-{size}{batch}{kernel}-{request.target}"
