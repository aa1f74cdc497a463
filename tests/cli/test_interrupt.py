"""What keeps `edgekit export` from its end leaves nothing behind: signals, full disks, too little memory."""

import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Run, Spawn, digest, finish, names, wait_for

FAKE_NETWORK = """
import sys, time, types
from pathlib import Path
def prepare(plan, stage):
    with stage("build"):
        {body}
fake = types.ModuleType("edgekit.network")
fake.prepare = prepare
sys.modules["edgekit.network"] = fake
"""
"""A network without torch, for what happens in the middle of a stage."""

SLOW_NETWORK = FAKE_NETWORK.format(body="Path('ready').touch(); time.sleep(60)")


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["ctrl-c", "terminate", "hang-up"],
)
def test_whatever_ends_an_export_leaves_nothing(warm: tuple[str, ...], spawn: Spawn, number: int, code: int) -> None:
    process = spawn(*warm, "--no-cache", "-o", "out/bundle", code=SLOW_NETWORK)
    wait_for(Path("ready").exists, process)
    assert names(Path("out"))[0].endswith(".partial")

    process.send_signal(number)

    assert finish(process) == (code, "", "Interrupted; nothing was left behind.\n")
    assert not Path("out").exists()


def test_an_interrupted_export_leaves_the_old_bundle(warm: tuple[str, ...], spawn: Spawn, bundle: Path) -> None:
    before = {name: digest(bundle / name) for name in names(bundle)}
    process = spawn(*warm, "--no-cache", "-o", bundle, code=SLOW_NETWORK)
    wait_for(Path("ready").exists, process)

    process.send_signal(signal.SIGINT)

    assert finish(process)[0] == 130
    assert {name: digest(bundle / name) for name in names(bundle)} == before
    assert names(bundle.parent) == ["bundle", "work"]


def test_nohup_is_respected(warm: tuple[str, ...], spawn: Spawn) -> None:
    code = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)" + SLOW_NETWORK
    process = spawn(*warm, "--no-cache", "-o", "out/bundle", code=code)
    wait_for(Path("ready").exists, process)

    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.send_signal(signal.SIGTERM)

    assert finish(process)[0] == 143


def test_a_second_signal_does_not_interrupt_the_cleaning_up(warm: tuple[str, ...], spawn: Spawn) -> None:
    slow = "import shutil, time; kept = shutil.rmtree\ndef slowly(*a, **k): time.sleep(0.5); kept(*a, **k)\n"
    code = slow + "shutil.rmtree = slowly" + SLOW_NETWORK
    process = spawn(*warm, "--no-cache", "-o", "out/bundle", code=code)
    wait_for(Path("ready").exists, process)

    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    process.send_signal(signal.SIGHUP)

    assert finish(process)[0] == 143
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "error",
    ["MemoryError()", 'RuntimeError("DefaultCPUAllocator: can\'t allocate memory: you tried to allocate 9 bytes")'],
    ids=["python", "torch"],
)
def test_too_little_memory_is_no_failed_check(warm: tuple[str, ...], spawn: Spawn, error: str) -> None:
    code = FAKE_NETWORK.format(body=f"raise {error}")

    returned, _, errors = finish(spawn(*warm, "--no-cache", "-o", "out/bundle", code=code))

    assert returned == 3
    assert errors == (
        "Error: There is not enough memory for stage 'build'. Choose a smaller size with --input, or run on a machine "
        "with more memory.\n"
    )
    assert not Path("out").exists()


def test_several_exports_into_one_place_at_once(warm: tuple[str, ...], spawn: Spawn, run: Run) -> None:
    processes = [spawn(*warm, "-o", "out") for _ in range(4)]

    for process in processes:
        returned, _, errors = finish(process)
        assert returned == 0, errors

    assert names(Path.cwd()) == ["out"]
    assert run("verify", "out").exit_code == 0


@pytest.mark.parametrize("from_cache", [True, False], ids=["cache", "anew"])
def test_a_full_disk_is_one_line_and_leaves_nothing(warm: tuple[str, ...], spawn: Spawn, from_cache: bool) -> None:
    """A limit on the size of files stands in for the disk: the artifact does not fit, the reference does."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    code = (
        ""
        if from_cache
        else FAKE_NETWORK.format(body="Path(plan.out.resolve().parent, 'x').write_bytes(bytes(2 << 20))")
    )
    options = () if from_cache else ("--no-cache",)

    returned, _, errors = finish(spawn(*warm, "-o", "out/bundle", *options, code=code, preexec_fn=limit))

    assert returned == 3
    assert errors.splitlines()[-1] == "Error: out/bundle cannot be written: File too large. Write elsewhere with -o."
    assert not Path("out").exists() if from_cache else names(Path("out")) == ["x"]
