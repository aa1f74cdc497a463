"""What a device told of itself, in the words of a measurement's record."""

import statistics
from collections.abc import Iterator, Mapping

from edgekit.bench.record import Condition, Core, Evidence, Level, Machine, Reason, Watch
from edgekit.targets.answer import throttled_cores
from edgekit.targets.board import core_name
from edgekit.targets.job import Facts, Record, State

_KILO = 1000


def machine_of(facts: Facts, state: State) -> Machine:
    """The machine of a run; its cores count as equal, for a device tells the processor of one of them."""
    highest = max(state.highest_khz.values(), default=0) // _KILO
    governors = " and ".join(sorted(set(state.governors.values()))) or None
    core = Core(name=core_name(facts.processor), count=facts.cores, highest_mhz=highest, governor=governors)
    return Machine(
        device=facts.address,
        architecture=facts.machine,
        cores=(core,),
        memory_bytes=facts.memory_kib << 10,
        system="Linux",
        kernel=facts.kernel,
        libc=facts.libc or "unknown",
        python=facts.python,
        virtual=False,
        emulated=facts.emulated,
        niceness=0,
        environment={},
    )


def watch_of(record: Record) -> Watch:
    """A device before and after a job."""
    return Watch(
        threads=record.threads,
        before=_condition(record.before),
        after=_condition(record.after),
        disturbances=record.disturbances,
    )


def _condition(state: State) -> Condition:
    return Condition(
        at_s=state.monotonic_s,
        clocks_mhz=_megahertz(state.clocks_khz),
        allowed_mhz=_megahertz(state.allowed_khz),
        governors=state.governors,
        temperatures_c=state.temperatures_c,
        available_bytes=state.available_kib << 10,
        load=state.load,
    )


def _megahertz(kilohertz: Mapping[str, int]) -> dict[str, float]:
    return {core: value / _KILO for core, value in kilohertz.items()}


def evidence_of(record: Record) -> Evidence:
    """What happened on a device while a job ran, as far as its state before and after tells."""
    before, after = record.before, record.after
    temperatures = [*before.temperatures_c.values(), *after.temperatures_c.values()]
    clock_mhz, full = _clock(record)
    return Evidence(
        seconds=after.monotonic_s - before.monotonic_s,
        cores=record.device.cores,
        load=before.load,
        governors=tuple(sorted({*before.governors.values(), *after.governors.values()})),
        clock_mhz=clock_mhz,
        clock_residency=full,
        temperature_c=max(temperatures, default=None),
    )


def _clock(record: Record) -> tuple[float | None, float | None]:
    """The mean clock in MHz, and the share of the time at the highest one, of the processors that were used.

    Nobody tells which those were: it counts as those that were fastest, as many as there were threads.
    """
    found = sorted(_spent(record.before, record.after), reverse=True)[: record.threads]
    if not found:
        return None, None
    return statistics.fmean(clock for _, clock in found), statistics.fmean(full for full, _ in found)


def _spent(before: State, after: State) -> Iterator[tuple[float, float]]:
    """Of each core the share of the time at its highest clock, and its mean clock in MHz, between two states."""
    for core, clocks in after.residency.items():
        since = before.residency.get(core, {})
        spent = {int(clock): ticks - since.get(clock, 0) for clock, ticks in clocks.items()}
        if total := sum(spent.values()):
            highest = after.highest_khz.get(core, max(spent))
            mean = sum(clock * ticks for clock, ticks in spent.items()) / total / _KILO
            yield sum(ticks for clock, ticks in spent.items() if clock >= highest) / total, mean


def reasons_of(record: Record) -> tuple[Reason, ...]:
    """What speaks against the times of a job, beyond what its evidence shows."""
    level: Level = "THROTTLED" if throttled_cores(record.before, record.after) else "NOISY"
    return tuple(Reason(level=level, text=f"On the device {text}.") for text in record.disturbances)
