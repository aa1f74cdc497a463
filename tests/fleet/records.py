"""Answers of devices as tests want them."""

from typing import Any

from msgspec import structs

from edgekit.targets.job import Facts, Measured, Record, State

FACTS = Facts(
    address="ssh://board",
    emulated=False,
    machine="armv7l",
    bits=32,
    model="Board",
    processor="0x41:0xc0d",
    features=("neon",),
    cores=4,
    memory_kib=2 << 20,
    kernel="4.4.0",
    libc="glibc 2.36",
    python="3.11.2",
    numpy="1.24.2",
    runtimes={"ncnn": "1.0"},
)

QUIET = State(
    wall_s=1000.0,
    monotonic_s=10.0,
    clocks_khz={"cpu0": 1_800_000},
    highest_khz={"cpu0": 1_800_000},
    allowed_khz={"cpu0": 1_800_000},
    governors={"cpu0": "performance"},
    residency={},
    temperatures_c={"thermal_zone0 soc": 50.0},
    available_kib=1 << 20,
    load=0.1,
)


def state(**changes: Any) -> State:
    """A quiet board, in some ways another."""
    return structs.replace(QUIET, **changes)


def record_of(
    *,
    before: State = QUIET,
    after: State | None = None,
    threads: int = 1,
    disturbances: tuple[str, ...] = (),
    **samples_ms: tuple[float, ...],
) -> Record:
    """An answer with these times of artifacts."""
    return Record(
        device=FACTS,
        measure="latency",
        threads=threads,
        artifacts=tuple(
            Measured(key=key, runtime="ncnn", distribution="ncnn", version="1.0", samples_ms=samples)
            for key, samples in samples_ms.items()
        ),
        before=before,
        after=after or state(wall_s=1020.0, monotonic_s=30.0),
        peak_kib=0,
        disturbances=disturbances,
    )
