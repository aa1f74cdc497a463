"""Which wheels of inference runtimes there are for which board, as the package index had them in November 2026."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgekit.errors import MisuseError, UnknownNameError
from edgekit.targets.job import Facts

Version = tuple[int, int]

NUMPY = "numpy<2"
"""tflite-runtime was built for numpy 1, and all the others take it too."""


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A distribution's wheels for Linux with glibc.

    Attributes:
        requirement: As it is given to pip.
        pythons: By architecture, the oldest and the newest Python there are wheels for.
        glibc: The oldest C library they run with.
        note: What there is to know about it.
    """

    distribution: str
    requirement: str
    pythons: Mapping[str, tuple[Version, Version]]
    glibc: Version
    note: str = ""


WHEELS: Mapping[str, tuple[Wheel, ...]] = MappingProxyType(
    {
        "tflite": (
            Wheel(
                distribution="ai-edge-litert",
                requirement="ai-edge-litert==2.3.0",
                pythons={"aarch64": ((3, 10), (3, 14))},
                glibc=(2, 27),
            ),
            Wheel(
                distribution="tflite-runtime",
                requirement="tflite-runtime==2.14.0",
                pythons={"aarch64": ((3, 8), (3, 11)), "armv7l": ((3, 8), (3, 11))},
                glibc=(2, 34),
                note="its wheel for armv7l is built without XNNPACK",
            ),
        ),
        "onnxruntime": (
            Wheel(
                distribution="onnxruntime",
                requirement="onnxruntime==1.31.1",
                pythons={"aarch64": ((3, 11), (3, 14))},
                glibc=(2, 28),
            ),
        ),
        "openvino": (
            Wheel(
                distribution="openvino",
                requirement="openvino==2026.4.1",
                pythons={"aarch64": ((3, 10), (3, 14))},
                glibc=(2, 35),
            ),
        ),
        "ncnn": (
            Wheel(
                distribution="ncnn",
                requirement="ncnn==1.0.20261020",
                pythons={"aarch64": ((3, 7), (3, 15)), "armv7l": ((3, 9), (3, 15))},
                glibc=(2, 31),
            ),
        ),
        "mnn": (
            Wheel(
                distribution="mnn",
                requirement="MNN==3.6.1",
                pythons={"aarch64": ((3, 8), (3, 14))},
                glibc=(2, 17),
            ),
        ),
    }
)
"""edgekit's word for a runtime to its distributions, the preferred first."""


def architecture(board: Facts) -> str:
    """What wheels call a board's architecture; a 32-bit Python on a 64-bit system loads 32-bit wheels."""
    return "armv7l" if board.machine in ("aarch64", "armv8l") and board.bits == 32 else board.machine


def python_of(board: Facts) -> Version:
    """The board's Python, to the minor version."""
    major, minor, *_ = board.python.split(".")
    return int(major), int(minor)


def glibc_of(board: Facts) -> Version:
    """The board's C library; (0, 0) for another one than glibc."""
    name, _, number = board.libc.partition(" ")
    major, _, minor = number.partition(".")
    return (int(major), int(minor)) if name == "glibc" and minor.isdecimal() else (0, 0)


def obstacle(wheel: Wheel, board: Facts) -> str:
    """Why a wheel does not install on a board; "" when it does."""
    machine = architecture(board)
    if machine not in wheel.pythons:
        return f"no wheel for {machine} is known"
    oldest, newest = wheel.pythons[machine]
    if not oldest <= python_of(board) <= newest:
        return f"its wheels for {machine} are for Python {_text(oldest)} to {_text(newest)}, not {board.python}"
    if glibc_of(board) < wheel.glibc:
        return f"its wheels need glibc {_text(wheel.glibc)}, and the board has {board.libc or 'none'}"
    return ""


def choose_wheel(runtime: str, board: Facts) -> Wheel:
    """The wheel that brings a runtime to a board.

    Raises:
        UnknownNameError: There is no such runtime.
        MisuseError: No wheel of it installs there.
    """
    if runtime not in WHEELS:
        raise UnknownNameError("runtime", runtime, WHEELS, see="edgekit device doctor")
    obstacles = {wheel.distribution: obstacle(wheel, board) for wheel in WHEELS[runtime]}
    for wheel in WHEELS[runtime]:
        if not obstacles[wheel.distribution]:
            return wheel
    reasons = "; ".join(f"{name}: {reason}" for name, reason in obstacles.items())
    raise MisuseError(f"{runtime} does not install on {board.address}. {reasons}.")


def runtimes_on(board: Facts) -> frozenset[str]:
    """The runtimes that a board has, in edgekit's words."""
    return frozenset(
        runtime for runtime, wheels in WHEELS.items() if any(wheel.distribution in board.runtimes for wheel in wheels)
    )


def advice(runtime: str, board: Facts) -> str:
    """What brings a runtime to a board that has none: a command, or why nothing does."""
    if runtime not in WHEELS:
        return f"{runtime} runs on this machine only."
    try:
        wheel = choose_wheel(runtime, board)
    except MisuseError as error:
        return str(error)
    if board.address.startswith(("ssh", "adb")):
        return f"{board.address} has no {runtime}. Run: edgekit device setup {board.address} --runtime {runtime}"
    return f"{board.address} has no {runtime}. Install it there: {wheel.requirement}"


def _text(version: Version) -> str:
    return ".".join(map(str, version))
