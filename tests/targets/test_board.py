"""Board files are complete and agree with each other; the host is probed from any `/proc`, or none."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edgekit.errors import MisuseError, UnknownNameError
from edgekit.targets.board import Board, board_names, load_board, parse_board, probe_host

FORMATS = {
    "arm": ("onnx", "openvino", "tflite", "mnn", "ncnn"),
    "rk3288": ("onnx", "tflite", "ncnn"),
    "rk3399": ("onnx", "openvino", "tflite", "mnn", "ncnn"),
    "rk3588": ("onnx", "openvino", "tflite", "mnn", "ncnn"),
    "rpi3": ("onnx", "openvino", "tflite", "mnn", "ncnn"),
    "rpi4": ("onnx", "openvino", "tflite", "mnn", "ncnn"),
    "rpi5": ("onnx", "openvino", "tflite", "mnn", "ncnn"),
}
BOARDS = tuple(FORMATS)

SMALL = """
name = "small"
summary = "A board for tests"
architectures = ["armv7l"]
memory_mb = 512
simd = ["neon"]
notes = []
sources = []

[[clusters]]
core = "Cortex-A7"
count = 2
clock_mhz = 1000

[[runtimes]]
runtime = "tflite-runtime"
format = "tflite"
architectures = ["armv7l"]
install = "pip install tflite-runtime"
version = "2.14.0"
note = ""
"""

ARM_CPU = """processor\t: {number}
BogoMIPS\t: 48.00
Features\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp asimdrdm {extra}
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: {part}

"""

X86_CPU = """processor\t: {number}
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R): a colon in the name
cpu MHz\t\t: {mhz}
flags\t\t: fpu sse sse4_1 avx fma avx2 {extra}

"""


def fake_root(root: Path, cpuinfo: str, meminfo: str = "", max_khz: tuple[int, ...] = ()) -> Path:
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(cpuinfo)
    (root / "proc/meminfo").write_text(meminfo)
    for number, khz in enumerate(max_khz):
        folder = root / f"sys/devices/system/cpu/cpu{number}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "cpuinfo_max_freq").write_text(f"{khz}\n")
    return root


def clusters(board: Board) -> list[tuple[str, int, int]]:
    return [(cluster.core, cluster.count, cluster.clock_mhz) for cluster in board.clusters]


def test_every_board_has_a_row_above() -> None:
    assert sorted([*BOARDS, "host"]) == list(board_names())


@pytest.mark.parametrize("name", [*BOARDS, "host"])
def test_a_board_is_complete(name: str) -> None:
    board = load_board(name)

    assert board.name == name
    assert board.summary
    assert board.clusters
    assert board.notes
    assert board.sources
    assert all(cluster.count >= 1 for cluster in board.clusters)


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_on_file_leaves_nothing_unknown(name: str) -> None:
    board = load_board(name)

    assert board.memory_mb >= 512
    assert board.simd
    assert all(500 <= cluster.clock_mhz <= 3000 for cluster in board.clusters)
    assert list(board.clusters) == sorted(board.clusters, key=lambda cluster: -cluster.clock_mhz)


@pytest.mark.parametrize(("name", "formats"), FORMATS.items(), ids=FORMATS)
def test_formats_are_those_a_runtime_loads(name: str, formats: tuple[str, ...]) -> None:
    assert load_board(name).formats == formats


@pytest.mark.parametrize("name", [*BOARDS, "host"])
def test_runtimes_run_on_an_architecture_of_the_board(name: str) -> None:
    board = load_board(name)

    for support in board.runtimes:
        assert support.architectures, support.runtime
        assert set(support.architectures) <= set(board.architectures), support.runtime
        assert support.install, support.runtime
        assert support.version, support.runtime


@pytest.mark.parametrize("name", BOARDS)
def test_every_architecture_of_a_board_has_a_runtime(name: str) -> None:
    board = load_board(name)
    covered = {architecture for support in board.runtimes for architecture in support.architectures}

    assert covered == set(board.architectures)


def test_boards_agree_on_a_runtime() -> None:
    """The same package on the same architecture is the same version everywhere; a bump must reach every file."""
    seen: dict[tuple[str, str], set[tuple[str, str, str]]] = {}
    for name in BOARDS:
        for support in load_board(name).runtimes:
            for architecture in support.architectures:
                facts = (support.format, support.version, support.install)
                seen.setdefault((support.runtime, architecture), set()).add(facts)

    assert {key: facts for key, facts in seen.items() if len(facts) > 1} == {}


def test_armv7l_has_no_openvino_and_says_so_of_xnnpack() -> None:
    on_armv7l = [
        support for name in BOARDS for support in load_board(name).runtimes if "armv7l" in support.architectures
    ]

    assert {support.runtime for support in on_armv7l} == {"onnxruntime", "tflite-runtime", "ncnn"}
    assert all("no XNNPACK" in support.note for support in on_armv7l if support.runtime == "tflite-runtime")
    assert any("No openvino format" in note for note in load_board("rk3288").notes)


@pytest.mark.parametrize("core", ["Cortex-A53", "Cortex-A72", "Cortex-A17"])
def test_old_cores_have_no_dot_product(core: str) -> None:
    with_core = [board for board in map(load_board, BOARDS) if any(c.core == core for c in board.clusters)]

    assert with_core
    for board in with_core:
        assert {"asimddp", "fphp", "asimdhp"}.isdisjoint(board.simd), board.name


def test_an_unknown_target_is_answered_with_the_closest() -> None:
    with pytest.raises(UnknownNameError, match=r"no target named 'rk3228'\. Did you mean rk3288.*`edgekit targets`"):
        load_board("rk3228")


def test_a_target_is_no_path() -> None:
    with pytest.raises(UnknownNameError, match="no target named"):
        load_board("../boards/arm")


def test_formats_are_not_repeated() -> None:
    board = parse_board(SMALL, "small.toml")

    assert msgspec.structs.replace(board, runtimes=board.runtimes * 2).formats == ("tflite",)
    assert msgspec.structs.replace(board, runtimes=()).formats == ()


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("count = 2", 'count = "two"', r"Expected `int`, got `str` - at `\$\.clusters\[0\]\.count`"),
        ("count = 2", "count = 0", r"Expected `int` >= 1 - at `\$\.clusters\[0\]\.count`"),
        ("memory_mb = 512", "", r"missing required field `memory_mb`"),
        ("memory_mb = 512", "memory_gb = 1\nmemory_mb = 512", r"unknown field `memory_gb`"),
        ('format = "tflite"', 'format = "TFLite"', r"Invalid enum value 'TFLite' - at `\$\.runtimes\[0\]\.format`"),
        ('name = "small"', "name =", r"Invalid value.*at line 2"),
    ],
    ids=["type", "range", "missing", "unknown", "format", "syntax"],
)
def test_a_malformed_file_is_named_with_the_place(right: str, wrong: str, message: str) -> None:
    assert right in SMALL

    with pytest.raises(MisuseError, match=rf"small\.toml is malformed: .*{message}"):
        parse_board(SMALL.replace(right, wrong, 1), "small.toml")


def test_host_on_big_little_arm(tmp_path: Path) -> None:
    little = "".join(ARM_CPU.format(number=n, part="0xd05", extra="asimddp") for n in range(4))
    big = "".join(ARM_CPU.format(number=n, part="0xd0b", extra="asimddp") for n in range(4, 6))
    khz = (1800000,) * 4 + (2400000,) * 2
    root = fake_root(tmp_path, little + big + "Hardware\t: a board\n", "MemTotal:   8044224 kB\n", khz)

    board = probe_host(root, "aarch64")

    assert clusters(board) == [("Cortex-A76", 2, 2400), ("Cortex-A55", 4, 1800)]
    assert board.memory_mb == 7855
    assert board.simd == ("asimd", "asimdrdm", "fphp", "asimdhp", "asimddp")
    assert board.architectures == ("aarch64",)
    assert {support.architectures for support in board.runtimes} == {("aarch64",)}
    assert board.formats == ("onnx", "openvino", "tflite", "mnn", "ncnn")


def test_host_has_only_what_every_core_has(tmp_path: Path) -> None:
    cpuinfo = ARM_CPU.format(number=0, part="0xd08", extra="asimddp") + ARM_CPU.format(number=1, part="0xfff", extra="")

    board = probe_host(fake_root(tmp_path, cpuinfo), "aarch64")

    assert "asimddp" not in board.simd
    assert clusters(board) == [("Cortex-A72", 1, 0), ("CPU part 0xfff", 1, 0)]


def test_host_on_x86_without_cpufreq(tmp_path: Path) -> None:
    cpuinfo = X86_CPU.format(number=0, mhz="2599.998", extra="avx512_vnni") + X86_CPU.format(
        number=1, mhz="2593.1", extra=""
    )

    board = probe_host(fake_root(tmp_path, cpuinfo, "MemTotal: 4030000 kB"), "x86_64")

    assert clusters(board) == [("Intel(R) Xeon(R): a colon in the name", 2, 2600)]
    assert board.simd == ("sse4_1", "avx", "fma", "avx2")
    assert board.formats == ("onnx", "openvino", "tflite", "mnn", "ncnn")


def test_host_without_proc(tmp_path: Path) -> None:
    board = probe_host(tmp_path, "arm64")

    assert board.architectures == ("aarch64",)
    assert [(cluster.count, cluster.clock_mhz) for cluster in board.clusters] == [(os.cpu_count() or 1, 0)]
    assert board.memory_mb == 0
    assert board.simd == ()
    assert board.runtimes


def test_host_under_a_32_bit_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)

    assert probe_host(tmp_path, "aarch64").architectures == ("armv7l",)


def test_host_of_another_architecture_has_no_runtime(tmp_path: Path) -> None:
    board = probe_host(tmp_path, "riscv64")

    assert board.architectures == ("riscv64",)
    assert board.runtimes == ()
    assert board.formats == ()


def test_boards_load_without_a_framework() -> None:
    script = (
        "import sys; from edgekit.targets.board import board_names, load_board\n"
        "for name in board_names(): load_board(name)\n"
        "print(*sorted({'torch', 'numpy', 'onnx', 'psutil'} & set(sys.modules)))"
    )

    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == ""
