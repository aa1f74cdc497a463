"""Instruction counts: exact, the same every time, and larger where there is more to do."""

import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import helper, numpy_helper

from edgekit.numerics import compare_one
from edgekit.targets.counter import END, build_counter
from edgekit.targets.device import Device, open_device
from edgekit.targets.job import Count, Job, Record, Task
from edgekit.targets.userland import USERLANDS
from tests.arm import tiny
from tests.arm.instructions import TOLERANCE

pytestmark = pytest.mark.arm

LOOPS = 1000
ARM = (
    *(0xE3A07006, 0xE3000000, 0xE3450E00, 0xEF000000),  # mov r7, #6 (close); r0 = 0x5E000000; svc: the first mark
    *(0xE30013E8, 0xF2000D40, 0xE2511001, 0x1AFFFFFC),  # r1 = 1000; vadd.f32 q0, q0, q0; subs r1, r1, #1; bne
    *(0xE3000001, 0xE3450E00, 0xEF000000),  # r0 = 0x5E000001; svc: the second mark
    *(0xE3A07001, 0xE3A00000, 0xEF000000),  # exit(0)
)
AARCH64 = (
    *(0xD2800728, 0xD2800000, 0xF2ABC000, 0xD4000001),
    *(0xD2807D01, 0x4E20D400, 0xF1000421, 0x54FFFFC1),
    *(0xD2800020, 0xF2ABC000, 0xD4000001),
    *(0xD2800BA8, 0xD2800000, 0xD4000001),
)
EXPECTED = (1 + 3 * LOOPS + 3, LOOPS)
"""Instructions and vector instructions from behind the first mark to the second one, its system call included."""

ORIGIN = 0x10000


def program(words: tuple[int, ...], bits: int) -> bytes:
    """The smallest ELF file that holds these instructions."""
    code = struct.pack(f"<{len(words)}I", *words)
    header, segment = (52, 32) if bits == 32 else (64, 56)
    start = ORIGIN + header + segment
    size = header + segment + len(code)
    identity = b"\x7fELF" + bytes([bits // 32, 1, 1]) + bytes(9)
    if bits == 32:
        elf = struct.pack("<2HI3II6H", 2, 40, 1, start, header, 0, 0x5000000, header, segment, 1, 0, 0, 0)
        load = struct.pack("<8I", 1, 0, ORIGIN, ORIGIN, size, size, 5, 0x1000)
    else:
        elf = struct.pack("<2HI3QI6H", 2, 183, 1, start, header, 0, 0, header, segment, 1, 0, 0, 0)
        load = struct.pack("<2I6Q", 1, 5, 0, ORIGIN, ORIGIN, size, size, 0x1000)
    return identity + elf + load + code


@pytest.mark.parametrize(("name", "words", "bits"), [("armv7", ARM, 32), ("aarch64", AARCH64, 64)])
def test_a_known_program_is_counted_exactly(name: str, words: tuple[int, ...], bits: int, tmp_path: Path) -> None:
    binary, marks = tmp_path / "program", tmp_path / "marks"
    binary.write_bytes(program(words, bits))
    binary.chmod(0o755)
    board = USERLANDS[name]

    plugin = f"{build_counter()},out={marks}"
    subprocess.run([board.qemu, "-cpu", board.cpu, "-plugin", plugin, str(binary)], check=True)

    (first, begun, simd_begun), (last, ended, simd_ended), (end, total, simd) = (
        map(int, line.split()) for line in marks.read_text().splitlines()
    )
    assert (first, last) == (0, 1)
    assert (ended - begun, simd_ended - simd_begun) == EXPECTED
    assert (end, total, simd) == (END, len(words) + 3 * (LOOPS - 1), LOOPS)


def onnx_file(path: Path) -> Path:
    """The tiny network as an ONNX file."""
    kernel, bias = tiny.weights()
    source, result = (1, tiny.CHANNELS, tiny.SIDE, tiny.SIDE), (1, tiny.MAPS, tiny.SIDE, tiny.SIDE)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["in0", "kernel", "bias"], ["out0"], pads=[1, 1, 1, 1])],
        "tiny",
        [helper.make_tensor_value_info("in0", onnx.TensorProto.FLOAT, source)],
        [helper.make_tensor_value_info("out0", onnx.TensorProto.FLOAT, result)],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(bias, "bias")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def job(folder: Path, *runtimes: str) -> Job:
    """The tiny network in each runtime, and in ncnn once more on a quarter of the maps' area."""
    cases = ({"in0": tiny.image()},)
    files = {"ncnn": tiny.write(folder)}
    tasks = [
        Task(
            key=runtime,
            runtime=runtime,
            files=files.get(runtime) or (onnx_file(folder / "tiny.onnx"),),
            cases=cases,
        )
        for runtime in runtimes
    ]
    quarter = {"in0": tiny.image()[:, :, ::2, ::2]}
    (folder / "quarter.param").write_text(tiny.PARAM.replace(f"={tiny.SIDE}", f"={tiny.SIDE // 2}"))
    smaller = Task(key="quarter", runtime="ncnn", files=(folder / "quarter.param", files["ncnn"][1]), cases=(quarter,))
    return Job(tasks=(*tasks, smaller), measure="instructions", repeats=4)


def executed(record: Record) -> dict[str, Count | None]:
    assert [artifact.failure for artifact in record.artifacts] == [None] * len(record.artifacts)
    return {artifact.key: artifact.executed for artifact in record.artifacts}


@pytest.mark.parametrize(
    ("name", "runtimes"),
    [("armv7", ("ncnn",)), ("aarch64", ("ncnn", "onnxruntime"))],
)
def test_counts_are_the_same_in_every_process(name: str, runtimes: tuple[str, ...], tmp_path: Path) -> None:
    """A lock that is waited for, as on a busy machine, takes some hundred instructions of a network of 0.1 million."""
    given = job(tmp_path, *runtimes)
    with open_device(f"qemu://{name}") as first, open_device(f"qemu://{name}") as second:
        one, two = executed(first.run(given)), executed(second.run(given))

    assert one.keys() == two.keys()
    for key, count in one.items():
        again = two[key]
        assert count is not None
        assert again is not None
        assert again.simd == count.simd
        assert again.instructions == pytest.approx(count.instructions, rel=TOLERANCE)
        assert 0 < count.simd < count.instructions


def test_openvino_counts_within_its_own_scatter(aarch64: Device, tmp_path: Path) -> None:
    """Its worker threads wait in loops, so its counts are reproducible to about a percent only."""
    given = job(tmp_path, "openvino")
    one, two = (executed(aarch64.run(given))["openvino"] for _ in range(2))

    assert one is not None
    assert two is not None
    assert two.instructions == pytest.approx(one.instructions, rel=0.03)
    assert two.simd == pytest.approx(one.simd, rel=0.001)


def test_four_times_the_work_takes_more_instructions(armv7: Device, tmp_path: Path) -> None:
    counts = executed(armv7.run(job(tmp_path, "ncnn")))

    whole, quarter = counts["ncnn"], counts["quarter"]
    assert whole is not None
    assert quarter is not None
    assert 2.5 < whole.simd / quarter.simd < 5.0


@pytest.mark.parametrize("runtime", ["ncnn", "onnxruntime", "openvino"])
def test_the_counted_network_computes_the_right_thing(aarch64: Device, runtime: str, tmp_path: Path) -> None:
    record = aarch64.run(replace(job(tmp_path, runtime), repeats=1))

    assert compare_one(tiny.expected(tiny.image()), record[runtime].outputs[0]["out0"]).snr_db > 90.0


def test_many_networks_share_one_process(armv7: Device, tmp_path: Path) -> None:
    """A tuner sends dozens of small networks; starting Python for each would take a minute."""
    first = job(tmp_path, "ncnn").tasks[0]
    tasks = tuple(replace(first, key=f"network {number}") for number in range(60))

    counts = executed(armv7.run(Job(tasks=tasks, measure="instructions", repeats=2)))

    instructions = [count.instructions for count in counts.values() if count is not None]
    assert len(instructions) == 60
    assert max(instructions) < 1.03 * min(instructions)
