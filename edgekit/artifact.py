"""The words that stages share: cards, tensors, certificates, parity, artifacts.

Every word here goes into `manifest.json`, so all of them are frozen msgspec structs and none holds a framework object.
"""

import hashlib
from typing import Literal

from msgspec import Struct

Shape = tuple[int, ...]


class TensorSpec(Struct, frozen=True, kw_only=True):
    """One input or output of a network, at its one fixed shape."""

    name: str
    shape: Shape
    dtype: str = "float32"
    layout: str = ""


class Preprocessing(Struct, frozen=True, kw_only=True):
    """How an 8-bit image becomes the input tensor: resize the short side, crop the centre, scale to 0..1, normalise.

    `crop_fraction` is the crop's side over the resized short side; mean and std are per channel, on the 0..1 scale.
    """

    interpolation: Literal["bilinear", "bicubic"]
    crop_fraction: float
    channel_order: Literal["RGB", "BGR"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class SizeRule(Struct, frozen=True, kw_only=True):
    """Which input heights and widths a network can take, in pixels."""

    minimum: int = 1
    multiple_of: int = 1
    square: bool = False
    maximum: int | None = None

    def nearest(self, side: int) -> tuple[int, ...]:
        """The allowed sides just below and just above a side, in pixels."""
        step = self.multiple_of
        floor = -(-self.minimum // step) * step
        ceiling = max(side + step, floor) if self.maximum is None else self.maximum
        near = (side // step * step, -(-side // step) * step)
        return tuple(sorted({min(max(each, floor), ceiling) for each in near}))

    def allows(self, side: int) -> bool:
        """Whether the network takes this side."""
        inside = side >= self.minimum and (self.maximum is None or side <= self.maximum)
        return inside and side % self.multiple_of == 0


class ModelCard(Struct, frozen=True, kw_only=True):
    """The data sheet of a model, without its weights.

    `parameters` and `macs` (multiply-accumulates of convolutions, linears and matmuls, padding taps counted) hold for
    `input_shape`, before any pass. `kernel_policies` are the ways its kernels can follow the input size, the default
    first; it is empty where they do not.
    """

    name: str
    family: str
    summary: str
    paper: str
    input_shape: Shape
    size_rule: SizeRule
    preprocessing: Preprocessing
    classes: int
    parameters: int
    macs: int
    kernel_policies: tuple[str, ...] = ()
    weights_licence: str = "none published"
    notes: tuple[str, ...] = ()


class WeightsSource(Struct, frozen=True, kw_only=True):
    """Where a model's weights came from.

    `seed` is set for random weights, the other fields for a file, the user's or one `shipped` with edgekit; `section`
    is the dictionary entry they were under, and `notes` tell what loading them settled, such as converted precisions.
    Weights that came with the network, `model`, have only the SHA-256 over all of its tensors.
    """

    kind: Literal["random", "file", "model", "shipped"]
    seed: int | None = None
    file_name: str | None = None
    sha256: str | None = None
    section: str | None = None
    notes: tuple[str, ...] = ()


class Origin(Struct, frozen=True, kw_only=True):
    """What a network was built from, as it was asked for; with the bundle's inputs enough to build it again."""

    model: str
    features: bool
    weights: str | None
    weights_sha256: str | None
    ema: bool
    seed: int | None
    only: tuple[str, ...]
    no_fuse: tuple[str, ...]


class GraphStats(Struct, frozen=True, kw_only=True):
    """Size of a program: operator nodes, parameters (elements of all constants) and MACs."""

    operators: int
    parameters: int
    macs: int


class Parity(Struct, frozen=True, kw_only=True):
    """Agreement of one output with a reference; the worst case over all inputs compared.

    `relative` is max |difference| over max |reference|; `snr_db` is 10 log10(sum ref^2 / sum diff^2), 400 when equal
    and -400 when there is a NaN; `top1_agreement` is the share of argmax decisions along axis 1 that agree;
    `nonfinite` counts NaN and infinite values, which the other figures leave out.
    """

    max_abs: float
    relative: float
    snr_db: float
    cosine: float
    top1_agreement: float
    nonfinite: int


class CaseParity(Struct, frozen=True, kw_only=True):
    """One output on one case: how an artifact did, how torch float32 does (`noise_db`), and the SNR required."""

    case: str
    output: str
    parity: Parity
    noise_db: float
    gate_db: float

    @property
    def passed(self) -> bool:
        """Whether the SNR reaches the gate with every value finite."""
        return self.parity.nonfinite == 0 and self.parity.snr_db >= self.gate_db


class Refusal(Struct, frozen=True, kw_only=True):
    """A place where a rule looked and declined, with the reason."""

    rule: str
    site: str
    reason: str


class Certificate(Struct, frozen=True, kw_only=True):
    """What one pass did to a program, and the measured proof that it is still the same network.

    `fired` counts rewrites by rule; `parity` compares float64 runs before and after, in the output that comes closest
    to the SNR it must reach, `gate_db`.
    """

    name: str
    fired: dict[str, int]
    declined: tuple[Refusal, ...]
    before: GraphStats
    after: GraphStats
    parity: Parity
    gate_db: float


class RegionSize(Struct, frozen=True, kw_only=True):
    """Operators by name, elements of their constants, MACs at the program's size."""

    operators: tuple[str, ...]
    parameters: int
    macs: int


class RegionCertificate(Struct, frozen=True, kw_only=True):
    """One region of linear operators that was fused, or one permutation of channels that was taken out.

    Attributes:
        rule: What it became: `convolution`, `linear`, `affine`, `sum` or `identity`; `permutation` for those.
        site: Module path of the node that gives its result.
        source_line: File and line of the user's code, with its text; "" where it is not known.
        decision: Why this form was written.
        max_abs: Largest |difference| over all inputs.
        snr_db: Lowest signal-to-noise ratio over the inputs.
        bound: The bound on the difference at the element where the difference comes closest to it.
        used: Largest share of its bound that any element's difference takes; at most 1.
        reordered: Of a permutation, the modules whose weights are in its order instead.
    """

    rule: str
    site: str
    source_line: str
    decision: str
    before: RegionSize
    after: RegionSize
    max_abs: float
    snr_db: float
    bound: float
    used: float
    reordered: tuple[str, ...] = ()


class OperatorPrecision(Struct, frozen=True, kw_only=True):
    """What became of one operator that could be quantized: its name in the float file, and why it stayed float.

    `reason` is empty where it was quantized, else one of these:

        grouped   a depthwise or grouped convolution, slower in int8 than in float
        product   a product of two maps, or with one matrix per channel, slower in int8 or not to be had; in fp16 only
                  the former, which has no weights
        gate      it makes a squeeze-excitation gate, whose rounding scales whole channels
        recipe    the recipe leaves operators of this kind alone
        range     its weights are too large for half floats, or so small that these keep too few of their digits
        asked     it was asked to stay float
        slower    it is measured to be no faster in int8 where the artifact is for
        wrong     its runtime there computes it wrongly in int8, or not at all
        sensitive with it in int8 the drop in accuracy would not stay inside the budget
        runtime   the quantizer left it, against what was asked

    Attributes:
        alone_db: The SNR of the outputs with only this operator quantized, where that was measured.
        layer: What it is, in the words of `edgekit.dense_layer`; empty of what is no dense layer.
        source: What decided between int8 and float: where that was measured, or `structure`; empty where it could only
            be float.
        saved: What int8 saves of an inference, in `unit`, between float neighbours; negative where it costs, None where
            that is not known.
    """

    name: str
    module: str | None
    kind: str
    macs: int
    precision: Literal["int8", "fp16", "fp32"]
    reason: str = ""
    alone_db: float | None = None
    layer: str = ""
    source: str = ""
    saved: float | None = None
    unit: str = ""


class Trial(Struct, frozen=True, kw_only=True):
    """One mix of precisions that was tried for a budget, on so many labelled images that its network had not seen.

    `drop` and `interval`, with 95 % confidence, are points of top-1 against the float file; `decision` compares the
    interval with the budget.
    """

    quantized: int
    images: int
    top1: float
    drop: float
    interval: tuple[float, float]
    decision: Literal["within", "over", "undecided"]


class CalibrationRecord(Struct, frozen=True, kw_only=True):
    """The images that ranges of activations were measured on: the set, its content's digest, how many."""

    data: str
    digest: str
    images: int


class QuantRecord(Struct, frozen=True, kw_only=True):
    """How an artifact was quantized, and how its outputs compare with the float file's on images it was not made with.

    `recipe` is the full name of what was carried out, where the artifact's precision may be an alias such as `int8`.
    `held_out` compares all outputs of `held_out_images` images at once. `trials` are the mixes of precisions that were
    tried to keep the drop within `max_drop` points, in their order; the last that is within is this artifact. `ranges`
    says how the ends of the ranges of activations were chosen, None where every run finds them or was not told.
    """

    recipe: str
    calibration: CalibrationRecord
    operators: tuple[OperatorPrecision, ...]
    held_out_images: int
    held_out: Parity
    floor_db: float
    warnings: tuple[str, ...] = ()
    max_drop: float | None = None
    trials: tuple[Trial, ...] = ()
    ranges: str | None = None

    @property
    def quantized(self) -> int:
        """How many operators are int8 or fp16."""
        return sum(each.precision != "fp32" for each in self.operators)

    @property
    def precision(self) -> str:
        """What those are."""
        return next((each.precision for each in self.operators if each.precision != "fp32"), "fp32")


class PartRow(Struct, frozen=True, kw_only=True):
    """A part of a network: its size, and the bytes that go into it and come out of it."""

    name: str
    size: GraphStats
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    input_bytes: int
    output_bytes: int


class PartitionCertificate(Struct, frozen=True, kw_only=True):
    """What a program was cut into, and the measured proof that together the parts are the whole, in float64."""

    pattern: str
    parts: tuple[PartRow, ...]
    parity: Parity
    gate_db: float


class PartFiles(Struct, frozen=True, kw_only=True):
    """One part as an artifact: its files, the loadable one first, and the values it takes and gives, by name."""

    name: str
    files: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class PartsDescription(Struct, frozen=True, kw_only=True):
    """What a `.parts.json` file says: the parts, in an order in which they can run one after another.

    `returns` are the values that come back as `outputs`.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    returns: tuple[str, ...]
    parts: tuple[PartFiles, ...]
    metadata: dict[str, str]


class FileHash(Struct, frozen=True, kw_only=True):
    """A file beside the manifest: its name, size in bytes and SHA-256."""

    name: str
    size: int
    sha256: str


class Artifact(Struct, frozen=True, kw_only=True):
    """One network in one format and precision, its files with the loadable one first."""

    format: str
    runtime: str
    precision: str
    files: tuple[FileHash, ...]
    notes: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """What tells these bytes from all others: the SHA-256 of the one file, or that of the hashes of several."""
        if len(self.files) == 1:
            return self.files[0].sha256
        return hashlib.sha256("\n".join(file.sha256 for file in self.files).encode()).hexdigest()
