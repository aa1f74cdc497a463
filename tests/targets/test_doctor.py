"""Which wheel fits which board, and what a device's state gives cause for."""

import msgspec
import pytest

from edgekit.errors import MisuseError, UnknownNameError
from edgekit.targets.answer import disturbances
from edgekit.targets.doctor import concerns, diagnose
from edgekit.targets.job import Facts, State
from edgekit.targets.wheels import choose_wheel

BOARD = Facts(
    address="ssh://board",
    emulated=False,
    machine="armv7l",
    bits=32,
    model="Rockchip RK3288",
    processor="0x41:0xc0d",
    features=("neon",),
    cores=4,
    memory_kib=2 << 20,
    kernel="6.1",
    libc="glibc 2.36",
    python="3.11.2",
    numpy="1.24.2",
    runtimes={},
)
QUIET = State(
    wall_s=1000.0,
    monotonic_s=10.0,
    clocks_khz={"cpu0": 1608000},
    highest_khz={"cpu0": 1608000},
    allowed_khz={"cpu0": 1608000},
    governors={"cpu0": "performance"},
    residency={},
    temperatures_c={"zone0": 45.0},
    available_kib=1 << 20,
    load=0.1,
)


def board(**changes: object) -> Facts:
    return msgspec.structs.replace(BOARD, **changes)


def state(**changes: object) -> State:
    return msgspec.structs.replace(QUIET, **changes)


@pytest.mark.parametrize(
    ("changes", "runtime", "distribution"),
    [
        ({}, "tflite", "tflite-runtime"),
        ({}, "ncnn", "ncnn"),
        ({"machine": "aarch64", "bits": 64}, "tflite", "ai-edge-litert"),
        ({"machine": "aarch64", "bits": 64, "python": "3.9.2"}, "tflite", "tflite-runtime"),
        ({"machine": "aarch64", "bits": 64}, "mnn", "mnn"),
        ({"machine": "aarch64", "bits": 32}, "tflite", "tflite-runtime"),
    ],
)
def test_the_wheel_that_fits_is_chosen(changes: dict[str, object], runtime: str, distribution: str) -> None:
    assert choose_wheel(runtime, board(**changes)).distribution == distribution


@pytest.mark.parametrize(
    ("changes", "runtime", "reason"),
    [
        ({}, "onnxruntime", "no wheel for armv7l is known"),
        ({"python": "3.13.5"}, "tflite", "for Python 3.8 to 3.11, not 3.13.5"),
        ({"libc": "glibc 2.28"}, "ncnn", "need glibc 2.31, and the board has glibc 2.28"),
        ({"libc": ""}, "ncnn", "the board has none"),
        ({"machine": "aarch64", "bits": 32}, "mnn", "no wheel for armv7l is known"),
    ],
)
def test_a_runtime_that_does_not_install_says_why(changes: dict[str, object], runtime: str, reason: str) -> None:
    with pytest.raises(MisuseError, match=reason):
        choose_wheel(runtime, board(**changes))


def test_an_unknown_runtime_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean ncnn"):
        choose_wheel("nccn", BOARD)


def test_a_diagnosis_tells_what_works_and_what_could() -> None:
    found = diagnose(
        board(runtimes={"ncnn": "1.0", "onnxruntime": "1.21.0"}), QUIET, {"ncnn": "", "onnxruntime": "ImportError: x"}
    )

    assert {each.runtime: each.verdict for each in found.runtimes} == {
        "tflite": "installable",
        "onnxruntime": "broken",
        "openvino": "unavailable",
        "ncnn": "works",
        "mnn": "unavailable",
    }
    assert found.usable
    assert found.concerns == ()
    assert "without XNNPACK" in found.runtimes[0].remark


def test_a_device_where_nothing_works_is_not_usable() -> None:
    assert not diagnose(BOARD, QUIET, {"ncnn": "ImportError: x"}).usable


@pytest.mark.parametrize(
    ("facts", "now", "concern"),
    [
        ({"emulated": True}, {}, "its times are not, and none are shown"),
        ({"emulated": True}, {"load": 6.0, "governors": {"cpu0": "ondemand"}}, "its outputs are a board's"),
        ({"numpy": ""}, {}, "no numpy"),
        ({}, {"governors": {"cpu0": "ondemand", "cpu1": "performance"}}, "governor is ondemand"),
        ({}, {"allowed_khz": {"cpu0": 1200000}}, "cpu0 may not run at the highest clock"),
        ({}, {"temperatures_c": {"zone0": 81.4, "zone1": 40.0}}, "hot: zone0 81 °C."),
        ({}, {"available_kib": 100 << 10}, "Only 100 MiB"),
        ({}, {"load": 1.5}, "load is 1.50"),
    ],
)
def test_every_concern_is_named(facts: dict[str, object], now: dict[str, object], concern: str) -> None:
    (found,) = concerns(board(**facts), state(**now))
    assert concern in found


@pytest.mark.parametrize(
    ("after", "disturbance"),
    [
        ({"wall_s": 1100.0, "monotonic_s": 110.0}, None),
        ({"wall_s": 8300.0, "monotonic_s": 110.0}, r"set by \+7200 s"),
        ({"wall_s": 100.0, "monotonic_s": 110.0}, "set by -1000 s"),
        ({"allowed_khz": {"cpu0": 1200000}}, "highest allowed clock of cpu0 was lowered"),
        ({"governors": {"cpu0": "powersave"}}, "governor was changed"),
    ],
)
def test_what_happens_during_a_job_is_noticed(after: dict[str, object], disturbance: str | None) -> None:
    found = disturbances(QUIET, state(**after))

    assert len(found) == (disturbance is not None)
    if disturbance:
        with pytest.raises(AssertionError, match=disturbance):
            raise AssertionError(found[0])
