"""Measurements and machines as tests want them: any figure can be set, the rest is quiet and plausible."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import structs

from edgekit.artifact import CaseParity, Parity
from edgekit.bench.ceiling_record import Bandwidth, Ceiling, ProductRate
from edgekit.bench.profile_record import (
    PROFILE_SCHEMA_VERSION,
    ArtifactProfile,
    OperatorRow,
    ProfileRun,
    StoredProfile,
)
from edgekit.bench.profiles import PROFILES
from edgekit.bench.record import (
    SCHEMA_VERSION,
    Core,
    Evidence,
    Execution,
    Level,
    Machine,
    Measurement,
    Memory,
    Printed,
    Profile,
    Reason,
    Round,
    Run,
    Setting,
    Subject,
    Verdict,
    WarmUp,
)
from edgekit.bench.statistics import latency
from edgekit.bench.store import write_run
from edgekit.bundle import read_manifest

BRIEF = Profile(name="brief", summary="for tests", seconds=0.05, runs=6, rounds=6, limit_seconds=60.0)
"""As short as six rounds can be, which is what an interval takes."""

ONE = Setting(threads=1)

MACHINE = Machine(
    device="local",
    architecture="armv7l",
    cores=(Core(name="Cortex-A17", count=4, highest_mhz=1800, governor="performance"),),
    memory_bytes=2 << 30,
    system="Linux",
    kernel="5.10.110",
    libc="glibc 2.31",
    python="3.11.2",
    virtual=False,
    emulated=False,
    niceness=0,
    environment={},
)

QUIET = Evidence(
    seconds=10.0,
    cores=4,
    background_cores=0.02,
    steal=0.0,
    load=0.1,
    swapped_pages=0,
    governors=("performance",),
    clock_mhz=1800.0,
    clock_residency=1.0,
    clock_trend=1.0,
    temperature_c=55.0,
    trip_c=80.0,
    trip_margin_c=25.0,
)

EXACT = Parity(max_abs=1e-6, relative=1e-6, snr_db=125.0, cosine=1.0, top1_agreement=1.0, nonfinite=0)

MEMORY = Memory(
    runtime_bytes=50 << 20,
    load_bytes=30 << 20,
    run_bytes=4 << 20,
    load_peak_bytes=82 << 20,
    peak_rss_bytes=84 << 20,
    peak_pss_bytes=70 << 20,
)


def rounds(medians: Sequence[float], runs: int = 3) -> tuple[Round, ...]:
    """Rounds with these medians, of equal samples, a second apart."""
    return tuple(
        Round(at_s=float(index), samples_ms=(median,) * runs, clock_mhz=1800.0, temperature_c=55.0)
        for index, median in enumerate(medians)
    )


def measurement(
    medians: Sequence[float],
    *,
    sha256: str = "a" * 64,
    artifact: str = "net.fp32.onnx",
    level: Level = "TRUSTED",
    **changes: Any,
) -> Measurement:
    """One artifact with these medians of its rounds."""
    taken = rounds(medians)
    reasons = () if level == "TRUSTED" else (Reason(level=level, text=f"It was {level.lower()}."),)
    subject = Subject(
        model="net",
        artifact=artifact,
        sha256=sha256,
        format="onnx",
        precision="fp32",
        runtime="onnxruntime",
        runtime_version="1.31.1",
        build="b" * 64,
        inputs=((1, 3, 32, 32),),
    )
    made = Measurement(
        subject=subject,
        setting=ONE,
        import_ms=20.0,
        load_ms=90.0,
        first_ms=6.0,
        warm_up=WarmUp(runs=10, steady=True),
        rounds=taken,
        latency=latency(taken),
        mcycles=None,
        minutes=(),
        parity=CaseParity(case="noise", output="logits", parity=EXACT, noise_db=120.0, gate_db=110.0),
        memory=MEMORY,
        evidence=QUIET,
        verdict=Verdict(level=level, reasons=reasons, unseen=()),
    )
    return structs.replace(made, **changes)


def machine_called(device: str, *, emulated: bool = False) -> Machine:
    """The machine under another address."""
    return structs.replace(MACHINE, device=device, emulated=emulated)


def execution(
    instructions: int | None,
    *,
    sha256: str = "a" * 64,
    artifact: str = "net.fp32.onnx",
    runtime: str = "onnxruntime",
    version: str = "1.31.1",
) -> Execution:
    """One artifact on an emulated board, with so many executed instructions."""
    one = measurement([1.0], sha256=sha256, artifact=artifact)
    return Execution(
        subject=structs.replace(
            one.subject, runtime=runtime, distribution=runtime, runtime_version=version, kernels="float", build=""
        ),
        setting=ONE,
        counts=() if instructions is None else (instructions, instructions),
        instructions=instructions,
        simd=None if instructions is None else instructions // 2,
        parity=one.parity,
    )


def printed(mean_ms: float | None, *, compared: bool = False, count: int | None = None) -> Printed:
    """What a program of the user's said of one artifact; without a mean it ran on an emulated board."""
    one = measurement([1.0])
    reason = Reason(level="NOISY", text="It prints no single times.")
    times = {} if mean_ms is None else {"minimum_ms": mean_ms - 1, "mean_ms": mean_ms, "maximum_ms": mean_ms + 1}
    return Printed(
        subject=structs.replace(one.subject, runtime_version="", distribution="bench"),
        setting=ONE,
        runs=20,
        parity=one.parity if compared else None,
        uncompared="" if compared else "It shows no outputs.",
        evidence=one.evidence,
        verdict=Verdict(level="NOISY", reasons=(reason,), unseen=()),
        emulated=mean_ms is None,
        instructions=count,
        **times,
    )


def counted(bundle: Path, instructions: int, device: str = "qemu://armv7", no_memory: str = "", **changes: Any) -> None:
    """Stores a run in which a bundle's one artifact executes so many instructions on an emulated board."""
    (member,) = read_manifest(bundle).members
    one = execution(instructions, sha256=member.artifact.sha256, **changes)
    machine = machine_called(device, emulated=True)
    write_run(run_of(run="counted", machine=machine, executions=(one,), no_memory=no_memory), bundle)


def timed(bundle: Path, factor: float = 1.0, *, level: Level = "TRUSTED", run: str = "one") -> None:
    """Stores a run in which a bundle's one artifact takes so many times 10 ms."""
    (member,) = read_manifest(bundle).members
    medians = [factor * each for each in (10.0, 10.1, 10.0, 10.2, 10.1, 10.0)]
    write_run(run_of(measurement(medians, sha256=member.artifact.sha256, level=level), run=run), bundle)


def run_of(*measurements: Measurement, run: str = "one", **changes: Any) -> Run:
    """A run with these measurements."""
    made = Run(
        schema_version=SCHEMA_VERSION,
        run=run,
        bundle="bundle",
        created="2026-11-21T12:00:00+00:00",
        edgekit_version="0.1.0",
        command=("edgekit", "bench"),
        profile=PROFILES["quick"],
        machine=MACHINE,
        measurements=measurements,
    )
    return structs.replace(made, **changes)


CEILING = Ceiling(
    threads=1,
    rounds=20,
    products=(
        ProductRate(runtime="onnxruntime", precision="fp32", computes_in="fp32", side=512, gmacs=50.0),
        ProductRate(runtime="onnxruntime", precision="int8", computes_in="int8", side=512, gmacs=150.0),
    ),
    bandwidths=(
        Bandwidth(runtime="onnxruntime", size=1 << 15, gbytes=100.0),
        Bandwidth(runtime="onnxruntime", size=1 << 26, gbytes=10.0),
    ),
    versions={"onnxruntime": "1.31.1"},
)


def operator_row(name: str, module: str, ms: float, macs: int, kind: str = "Conv") -> OperatorRow:
    """An operator that reads and writes 64 KiB."""
    fastest = CEILING.fastest_ms(macs, 1 << 16)
    return OperatorRow(
        name=name, kind=kind, module=module, nodes=(name,), ms=ms, macs=macs, bytes=1 << 16, fastest_ms=fastest
    )


def profile_run_of(*sha256: str, artifact: str = "net.fp32.onnx") -> ProfileRun:
    """Profiles of artifacts with these hashes: two convolutions, and a sum that multiplies nothing."""
    found = ArtifactProfile(
        artifact=artifact,
        runtime="onnxruntime",
        runs=10,
        latency_ms=2.0,
        fastest_ms=1.9,
        profiled_ms=2.2,
        inside=0.9,
        ceiling=CEILING,
        operators=(
            operator_row("stem", "stem.conv", 0.5, 10_000_000),
            operator_row("deep", "stages.0.conv", 1.0, 20_000_000, "Gemm"),
            operator_row("sum", "stages.0", 0.3, 0, "Add"),
        ),
    )
    return ProfileRun(
        schema_version=PROFILE_SCHEMA_VERSION,
        created="2026-11-21T13:00:00+00:00",
        edgekit_version="0.1.0",
        command=("edgekit", "profile", "net"),
        machine=MACHINE,
        measurements=tuple(StoredProfile(sha256=each, profile=found) for each in sha256),
    )


class FakeMachine:
    """A `/proc` and a `/sys` of a board with equal cores, to be written as a test wants them."""

    def __init__(self, root: Path, cores: int = 4) -> None:
        self.root = root
        self.cores = cores
        self.cpu_times()
        self.put("proc/loadavg", "0.10 0.20 0.30 1/100 4711\n")
        self.put("proc/vmstat", "pgfault 1000\npswpin 10\npswpout 20\n")
        self.put("proc/meminfo", "MemTotal: 2097152 kB\nMemAvailable: 1048576 kB\n")
        self.put("proc/cpuinfo", "\n".join(f"processor\t: {cpu}\nmodel name\t: Fake A17\n" for cpu in range(cores)))

    def put(self, name: str, text: object) -> None:
        """Writes a file."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}")

    def cpu_times(self, busy: int = 1000, idle: int = 9000, stolen: int = 0) -> None:
        """Ticks of all processors together."""
        lines = [f"cpu  {busy} 0 0 {idle} 0 0 0 {stolen} 0 0"]
        lines += [f"cpu{cpu} 0 0 0 0 0 0 0 0 0 0" for cpu in range(self.cores)]
        self.put("proc/stat", "\n".join([*lines, "intr 1", ""]))

    def process(self, pid: int, ticks: int, name: str = "python") -> None:
        """A process that took so many ticks."""
        self.put(f"proc/{pid}/stat", f"{pid} ({name}) S 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0")

    def clock(
        self, mhz: float, *, highest: float = 1800, governor: str = "performance", cpu: int | None = None
    ) -> None:
        """The clock of one processor, or of all."""
        for each in range(self.cores) if cpu is None else (cpu,):
            folder = f"sys/devices/system/cpu/cpu{each}/cpufreq"
            self.put(f"{folder}/scaling_cur_freq", f"{1000 * mhz:.0f}\n")
            self.put(f"{folder}/cpuinfo_max_freq", f"{1000 * highest:.0f}\n")
            self.put(f"{folder}/scaling_governor", f"{governor}\n")

    def zone(self, number: int, celsius: float, *, kind: str = "soc-thermal", passive: float | None = None) -> None:
        """A thermal zone."""
        folder = f"sys/class/thermal/thermal_zone{number}"
        self.put(f"{folder}/type", f"{kind}\n")
        self.put(f"{folder}/temp", f"{1000 * celsius:.0f}\n")
        self.put(f"{folder}/trip_point_0_type", "critical\n")
        self.put(f"{folder}/trip_point_0_temp", "115000\n")
        if passive is not None:
            self.put(f"{folder}/trip_point_1_type", "passive\n")
            self.put(f"{folder}/trip_point_1_temp", f"{1000 * passive:.0f}\n")
