"""A device: opened by its address, probed, and given jobs."""

from collections.abc import Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Self

import msgspec

from edgekit.errors import DeviceError, MisuseError
from edgekit.targets.adb import AdbShell
from edgekit.targets.address import Address, parse_address
from edgekit.targets.answer import Answer
from edgekit.targets.job import Facts, Job, Record
from edgekit.targets.link import Link, Order, Progress
from edgekit.targets.local import LocalShell
from edgekit.targets.parcel import pack
from edgekit.targets.qemu import QemuLink
from edgekit.targets.served import ServedLink
from edgekit.targets.ssh import SshShell

PROBE_SECONDS = 120.0

Connect = Callable[[Address, Progress], Link]

LINKS: Mapping[str, Connect] = MappingProxyType(
    {
        "adb": lambda address, progress: ServedLink(AdbShell(address), progress),
        "local": lambda address, progress: ServedLink(LocalShell(address), progress),
        "qemu": QemuLink,
        "ssh": lambda address, progress: ServedLink(SshShell(address), progress),
    }
)
"""Kind of address to what connects."""


def _silent(line: str) -> None:
    """Says nothing of what is being done."""


def open_device(address: str, progress: Progress = _silent) -> "Device":
    """Connects to a device; a context manager that leaves nothing behind on it.

    Args:
        address: Such as `local`, `qemu://armv7` or `ssh://user@board`.
        progress: Gets a line for each thing that takes its time, such as building an emulated board.

    Raises:
        MisuseError: The address is none.
        EnvironmentProblemError: This machine lacks what it takes to reach the device.
        DeviceError: The device cannot be reached.
    """
    return Device(connect(parse_address(address), progress))


def connect(address: Address, progress: Progress) -> Link:
    """The connection under a device.

    Raises:
        EnvironmentProblemError: This machine lacks what it takes to reach the device.
        DeviceError: The device cannot be reached.
    """
    return LINKS[address.kind](address, progress)


class Device:
    """A session on a device. Files are sent once per session, however many jobs need them."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._there: set[str] = set()
        self._jobs = 0

    @property
    def address(self) -> str:
        """By which the device is known."""
        return self._link.address.text

    @property
    def counts(self) -> bool:
        """Whether it can count instructions."""
        return self._link.counts

    @property
    def no_memory(self) -> str:
        """Why the memory of a process there says nothing; "" where it does."""
        return self._link.no_memory

    def probe(self) -> Facts:
        """What the device is, and which runtimes it has.

        Raises:
            DeviceError: It does not answer.
        """
        (event,) = self._link.run("probe", order=Order(timeout_s=PROBE_SECONDS))
        return self.describe(event["facts"])

    def run(self, job: Job, begun: Callable[[], object] = int) -> Record:
        """Carries out a job; `begun` is called when its artifacts are loaded and the first round begins.

        Raises:
            MisuseError: The job cannot be meant as it is.
            DeviceError: The device was lost, or the runner died. One artifact that does not run is no such error: its
                answer holds the failure.
        """
        if job.measure == "instructions" and not self.counts:
            raise MisuseError(
                f"{self.address} cannot count instructions; an emulated board can, such as qemu://aarch64."
            )
        folder = self._send(job)
        marks = f"{folder}/marks" if job.measure == "instructions" else ""
        answer = Answer(job)
        order = Order(timeout_s=job.timeout_s, marks=marks, governor=job.governor)
        try:
            for event in self._link.run("run", folder, "blobs", order=order):
                answer.take(event)
                if event["event"] == "measuring":
                    begun()
        except DeviceError as error:
            raise DeviceError(f"{error} It was busy with {answer.busy_with}.") from error
        if marks:
            answer.take_marks(self._link.fetch(marks).decode())
        results = self._link.fetch(f"{folder}/results") if job.outputs else b""
        return answer.record(self.describe(answer.begun.get("facts")), results)

    def _send(self, job: Job) -> str:
        """Brings a job to the device, and tells in which folder it is."""
        blobs, description = pack(job)
        self._jobs += 1
        folder = f"job{self._jobs}"
        missing = {f"blobs/{digest}": content for digest, content in blobs.items() if digest not in self._there}
        self._link.push({**missing, f"{folder}/job.json": description})
        self._there |= set(blobs)
        return folder

    def describe(self, content: object) -> Facts:
        """What the runner says of the device, as this side knows it."""
        described = msgspec.convert(content, dict[str, Any])
        emulated = self._link.emulated or described["emulated"]
        return msgspec.convert({**described, "address": self.address, "emulated": emulated}, Facts)

    def close(self) -> None:
        """Ends the session and removes what it left on the device."""
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()
