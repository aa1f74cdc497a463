"""What a measurement says about itself: the samples, how they were taken, on what, and how far they can be trusted.

Every word here goes into `measurements/<time>.json` of a bundle, so all of them are frozen msgspec structs. Times end
in `_ms` (milliseconds) or `_s`, sizes in `_bytes`, clocks in `_mhz`, temperatures in `_c` (degrees Celsius); shares are
between 0 and 1. None means that it could not be observed, never that it was zero.
"""

from typing import Literal

from msgspec import Struct

from edgekit.artifact import CaseParity, Shape

SCHEMA_VERSION = 1

Level = Literal["TRUSTED", "NOISY", "THROTTLED", "INVALID"]


class Profile(Struct, frozen=True, kw_only=True):
    """How long to measure: until every artifact has both its time and its inferences.

    Attributes:
        seconds: Time of counted inferences each artifact gets at least.
        runs: Counted inferences of each artifact at least.
        rounds: Turns these are spread over, so that every artifact meets every moment of the machine.
        limit_seconds: Time of one artifact, untimed inferences included, after which it is given up.
        alone: Whether artifacts are measured one after the other instead of in turns.
    """

    name: str
    summary: str
    seconds: float
    runs: int
    rounds: int
    limit_seconds: float
    alone: bool = False


class Interval(Struct, frozen=True, kw_only=True):
    """Where a figure lies, with this confidence."""

    low: float
    high: float
    confidence: float


class Latency(Struct, frozen=True, kw_only=True):
    """One artifact's latency.

    `median_ms` is the median over the rounds of each round's median; `interval` is None where there are too few rounds
    for one. `percentiles` holds those that this many runs support, by name: `p90`, `p99`, `p99.9`.
    """

    median_ms: float
    interval: Interval | None
    minimum_ms: float
    percentiles: dict[str, float]
    runs: int
    rounds: int


class Round(Struct, frozen=True, kw_only=True):
    """One artifact's turn: seconds since the first round began, its counted inferences, and the machine during it."""

    at_s: float
    samples_ms: tuple[float, ...]
    clock_mhz: float | None
    temperature_c: float | None


class Minute(Struct, frozen=True, kw_only=True):
    """One minute of a long measurement: the median of its inferences, and the machine's median during it."""

    minute: int
    runs: int
    median_ms: float
    clock_mhz: float | None
    temperature_c: float | None


class WarmUp(Struct, frozen=True, kw_only=True):
    """Inferences before those that count, and whether they had stopped becoming faster."""

    runs: int
    steady: bool


class Memory(Struct, frozen=True, kw_only=True):
    """Memory of a process that does nothing but load and run one artifact.

    The first three are resident set sizes and add up to the peak while it runs: the interpreter with the runtime before
    the artifact is opened; what loading it adds, which is its weights, packed for the processor; what running it adds
    at its peak, which is its activations, where the runtime has not reserved them with the weights. `load_peak_bytes`
    is the peak while it is loaded, which may be higher; PSS divides what processes share, such as libraries, among
    them, and is None where the kernel does not tell it.
    """

    runtime_bytes: int
    load_bytes: int
    run_bytes: int
    load_peak_bytes: int
    peak_rss_bytes: int
    peak_pss_bytes: int | None


class Core(Struct, frozen=True, kw_only=True):
    """Equal CPU cores: how many, their highest clock (0: unknown), and the governor that sets it."""

    name: str
    count: int
    highest_mhz: int
    governor: str | None


class Machine(Struct, frozen=True, kw_only=True):
    """What does not change while something is measured.

    `environment` holds the variables that runtimes read, such as `OMP_NUM_THREADS`; `niceness` is the priority the
    measuring process runs at; `virtual` says that a hypervisor is below the system.
    """

    device: str
    architecture: str
    cores: tuple[Core, ...]
    memory_bytes: int
    system: str
    kernel: str
    libc: str
    python: str
    virtual: bool
    emulated: bool
    niceness: int
    environment: dict[str, str]


class Evidence(Struct, frozen=True, kw_only=True):
    """What happened on the machine while an artifact was measured, beside the artifact itself.

    Attributes:
        seconds: How long it was watched.
        cores: Processors the system schedules on.
        background_cores: Processor time of everything that was not measuring, in processors.
        steal: Share of processor time that the hypervisor gave to others.
        quota: Share of the time in which the control group was kept waiting for having used up its processor time.
        load: Load average of the last minute when it began.
        swapped_pages: Pages moved between memory and swap.
        governors: Every governor in use.
        clock_mhz: Median clock of the processors in use.
        clock_residency: Share of the rounds in which that was the clock they are made for.
        clock_trend: Clock of the last third over that of the first.
        temperature_c: Highest temperature of any zone.
        trip_c: Where the zone that came closest to it starts to throttle.
        trip_margin_c: By how much the hottest zone stayed below; negative beyond it.
    """

    seconds: float
    cores: int
    background_cores: float | None = None
    steal: float | None = None
    quota: float | None = None
    load: float | None = None
    swapped_pages: int | None = None
    governors: tuple[str, ...] = ()
    clock_mhz: float | None = None
    clock_residency: float | None = None
    clock_trend: float | None = None
    temperature_c: float | None = None
    trip_c: float | None = None
    trip_margin_c: float | None = None


class Reason(Struct, frozen=True, kw_only=True):
    """One thing that speaks against a number, as a sentence with the figure and the limit, and how much."""

    level: Level
    text: str


class Verdict(Struct, frozen=True, kw_only=True):
    """How far a number can be trusted: the worst of the reasons against it, and what could not be observed."""

    level: Level
    reasons: tuple[Reason, ...]
    unseen: tuple[str, ...]


class Setting(Struct, frozen=True, kw_only=True):
    """How an artifact is run: threads, and the processors it may use (None: all that the process may)."""

    threads: int
    affinity: tuple[int, ...] | None = None


class Subject(Struct, frozen=True, kw_only=True):
    """What was measured: one artifact, by its file's name and the hash of all its files, in one build of a runtime.

    `build` is the SHA-256 over the hashes of the files of the runtime's package; "" on a device that is not this
    machine, which says instead by which `distribution` it ran and with which `kernels`.
    """

    model: str
    artifact: str
    sha256: str
    format: str
    precision: str
    runtime: str
    runtime_version: str
    build: str
    inputs: tuple[Shape, ...]
    distribution: str = ""
    kernels: str = ""

    @property
    def batch(self) -> int:
        """Images of one inference."""
        return self.inputs[0][0] if self.inputs and self.inputs[0] else 1


class Measurement(Struct, frozen=True, kw_only=True):
    """One artifact in one setting.

    `load_ms` is with the file in the system's cache, `import_ms` that of the runtime before it; a device does not tell
    them apart, and its `load_ms` is both. `mcycles` is the median latency in millions of clock cycles, where the clock
    is known. `parity` is the comparison with the original model that came closest to its gate, made in the measured
    process before the first counted inference.
    """

    subject: Subject
    setting: Setting
    import_ms: float | None
    load_ms: float
    first_ms: float
    warm_up: WarmUp
    rounds: tuple[Round, ...]
    latency: Latency
    mcycles: float | None
    minutes: tuple[Minute, ...]
    parity: CaseParity
    memory: Memory | None
    evidence: Evidence
    verdict: Verdict


class Execution(Struct, frozen=True, kw_only=True):
    """One artifact on an emulated board: that it computes the right thing, and what that takes. It has no time.

    Attributes:
        counts: Executed instructions of each measured inference; empty where the emulator cannot count.
        instructions: The lowest of them, for what a runtime's other threads do meanwhile can only add; None likewise.
        simd: How many of those were vector or floating-point ones.
        memory: Of a process on a whole emulated machine; a lone process under an emulator holds that one too.
        emulated: That it is no figure of a board, wherever this record is read.
    """

    subject: Subject
    setting: Setting
    counts: tuple[int, ...]
    instructions: int | None
    simd: int | None
    parity: CaseParity
    memory: Memory | None = None
    emulated: Literal[True] = True


class Printed(Struct, frozen=True, kw_only=True):
    """What a benchmark program of the user's, which is not edgekit's, said of one artifact on a device.

    It is kept apart from what edgekit measures: there are no single times, hence no interval and no pairs of rounds,
    and it enters no comparison and no gate.

    Attributes:
        subject: The artifact; `distribution` is the program, `build` its SHA-256, "" for one that the device has.
        runs: Inferences that count.
        parity: The comparison that came closest to its gate; None where the outputs were NOT compared.
        uncompared: Why they were not.
        emulated: That it is no figure of a board, wherever this record is read.
        minimum_ms, mean_ms, maximum_ms: Of these runs; None on an emulated device, whose time is none.
        median_ms, load_ms, first_ms: Where the program says them.
        instructions: Executed by one inference, where the device counts.
    """

    subject: Subject
    setting: Setting
    runs: int
    parity: CaseParity | None
    uncompared: str
    evidence: Evidence
    verdict: Verdict
    emulated: bool = False
    minimum_ms: float | None = None
    mean_ms: float | None = None
    maximum_ms: float | None = None
    median_ms: float | None = None
    load_ms: float | None = None
    first_ms: float | None = None
    instructions: int | None = None


class Condition(Struct, frozen=True, kw_only=True):
    """A device's state at one moment: clocks and governors by core, temperatures by zone, and its load average.

    `at_s` is on the device's own steady clock. What the device does not tell is missing.
    """

    at_s: float
    clocks_mhz: dict[str, float]
    allowed_mhz: dict[str, float]
    governors: dict[str, str]
    temperatures_c: dict[str, float]
    available_bytes: int
    load: float | None


class Watch(Struct, frozen=True, kw_only=True):
    """A device before and after it measured with so many threads, and what happened in between, as sentences."""

    threads: int
    before: Condition
    after: Condition
    disturbances: tuple[str, ...] = ()


class Run(Struct, frozen=True, kw_only=True):
    """One measuring of one bundle, by its folder's name; those with the same `run` took turns, so rounds are pairs.

    Times are in `measurements`. Of an emulated device there are none: `executions` holds what it computed and executed.
    `watches` are of a device that is not this machine, of which every figure carries its own evidence. `no_memory` says
    why memory was wanted and is not there for any of them. What programs of the user's said is in `printed`.
    """

    schema_version: int
    run: str
    bundle: str
    created: str
    edgekit_version: str
    command: tuple[str, ...]
    profile: Profile
    machine: Machine
    measurements: tuple[Measurement, ...]
    executions: tuple[Execution, ...] = ()
    watches: tuple[Watch, ...] = ()
    no_memory: str = ""
    printed: tuple[Printed, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing in it is of any artifact."""
        return not (self.measurements or self.executions or self.printed)
