"""The runner that goes to a board: what it may be written in, and its parts that need no board."""

import ast
import fcntl
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgekit.targets.archive import runner_archive
from edgekit.targets.shipped import arrays, governors, inbox, machine, packages, sessions
from edgekit.targets.shipped.runtimes import DISTRIBUTIONS, MODULES, RUNTIMES

FOLDER = Path(__file__).parents[2] / "targets" / "shipped"
SOURCES = sorted(FOLDER.glob("*.py"))
RUNTIME_MODULES = {"numpy", *(module.partition(".")[0] for module in MODULES.values())}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_source_is_python_3_7(source: Path) -> None:
    ast.parse(source.read_text(), feature_version=(3, 7))


def test_newer_syntax_would_be_found() -> None:
    with pytest.raises(SyntaxError):
        ast.parse("if (n := 1): pass", feature_version=(3, 7))


def imports(tree: ast.AST) -> set[str]:
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_source_imports_only_what_a_board_has(source: Path) -> None:
    foreign = {
        name
        for name in imports(ast.parse(source.read_text()))
        if name.partition(".")[0] not in sys.stdlib_module_names | RUNTIME_MODULES
        and not name.startswith("edgekit.targets.shipped.")
    }
    assert foreign == set()


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_annotations_are_not_evaluated(source: Path) -> None:
    """`list[int]` is written for readers; Python 3.7 could not evaluate it."""
    tree = ast.parse(source.read_text())
    futures = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    annotated = [node for node in ast.walk(tree) if isinstance(node, ast.arg) and node.annotation]
    plain = all(isinstance(node.annotation, ast.Name | ast.Constant) for node in annotated)
    assert futures or plain


def test_archive_has_the_same_bytes_every_time_and_all_modules() -> None:
    first = runner_archive()
    runner_archive.cache_clear()
    assert runner_archive() == first
    names = zipfile.ZipFile(io.BytesIO(first)).namelist()
    assert {f"edgekit/targets/shipped/{source.name}" for source in SOURCES} <= set(names)


def test_archive_runs_without_edgekit(tmp_path: Path) -> None:
    (tmp_path / "runner.zip").write_bytes(runner_archive())
    command = [sys.executable, "-I", "-S", str(tmp_path / "runner.zip"), "probe"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert '"event": "probed"' in process.stdout


def test_every_distribution_has_a_module_and_a_runtime() -> None:
    assert DISTRIBUTIONS.keys() == MODULES.keys() == {name for names in RUNTIMES.values() for name in names}


@pytest.mark.parametrize("dtype", sorted(arrays.CODES))
def test_arrays_survive_the_way_to_a_file_and_back(tmp_path: Path, dtype: str) -> None:
    values = np.arange(24).reshape(1, 2, 3, 4).astype(dtype)
    (tmp_path / "values").write_bytes(values.tobytes())

    read = arrays.read_array(str(tmp_path / "values"), dtype, [1, 2, 3, 4])
    with (tmp_path / "results").open("wb") as file:
        file.write(b"before")
        place = arrays.write_array(file, "y", read)

    assert place == {"name": "y", "dtype": dtype, "shape": [1, 2, 3, 4], "offset": 6}
    assert (tmp_path / "results").read_bytes()[6:] == values.tobytes()


def test_arrays_need_no_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    (tmp_path / "values").write_bytes(values.tobytes())
    monkeypatch.setitem(sys.modules, "numpy", None)

    read = arrays.read_array(str(tmp_path / "values"), "float32", [2, 3])

    assert type(read) is memoryview
    rows: object = read.tolist()
    assert rows == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


CPUINFO = """\
processor\t: 0
Features\t: neon vfpv4
CPU implementer\t: 0x41
CPU part\t: 0xc0d

processor\t: 1

Hardware\t: Rockchip
"""


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """The files of a board with two cores, one of them throttled."""
    files = {
        "proc/cpuinfo": CPUINFO,
        "proc/meminfo": "MemTotal:  2048000 kB\nMemAvailable:  1024000 kB\n",
        "proc/loadavg": "0.25 0.10 0.05 1/100 1234\n",
        "sys/class/thermal/thermal_zone0/temp": "47000\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone1/temp": "broken\n",
    }
    for core, allowed in enumerate((1608000, 1200000)):
        files |= {
            f"sys/devices/system/cpu/cpu{core}/cpufreq/{name}": f"{value}\n"
            for name, value in {
                "scaling_cur_freq": 600000,
                "cpuinfo_max_freq": 1608000,
                "scaling_max_freq": allowed,
                "scaling_governor": "ondemand",
                "stats/time_in_state": "600000 250\n1608000 17",
            }.items()
        }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_facts_of_a_board(system: Path) -> None:
    facts = machine.facts(str(system))

    assert facts["model"] == "Rockchip"
    assert facts["processor"] == "0x41:0xc0d"
    assert facts["features"] == ["neon", "vfpv4"]
    assert (facts["cores"], facts["memory_kib"], facts["emulated"]) == (2, 2048000, False)


def test_qemus_machine_is_recognised(system: Path) -> None:
    (system / "proc/device-tree").mkdir()
    (system / "proc/device-tree/model").write_text("linux,dummy-virt\0")

    assert machine.facts(str(system))["emulated"] is True


def test_state_of_a_board(system: Path) -> None:
    state = machine.state(str(system))

    assert state["clocks_khz"] == {"cpu0": 600000, "cpu1": 600000}
    assert state["allowed_khz"] == {"cpu0": 1608000, "cpu1": 1200000}
    assert state["governors"] == {"cpu0": "ondemand", "cpu1": "ondemand"}
    assert state["residency"]["cpu1"] == {"600000": 250, "1608000": 17}
    assert state["temperatures_c"] == {"thermal_zone0 cpu-thermal": 47.0}
    assert (state["available_kib"], state["load"]) == (1024000, 0.25)


def test_a_system_that_tells_nothing_is_described_as_far_as_it_goes(tmp_path: Path) -> None:
    facts, state = machine.facts(str(tmp_path)), machine.state(str(tmp_path))

    assert (facts["model"], facts["processor"], facts["memory_kib"]) == ("", "", 0)
    assert (state["governors"], state["temperatures_c"], state["load"]) == ({}, {}, None)


@pytest.mark.parametrize(
    ("entry", "version"),
    [
        ("tflite_runtime-2.14.0.dist-info", "2.14.0"),
        ("tflite_runtime-2.11.0.egg-info", "2.11.0"),
        ("tflite_runtime-2.5.0-py3.9.egg-info", "2.5.0"),
        ("tflite_runtime", None),
    ],
)
def test_versions_come_from_the_names_of_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, version: str | None
) -> None:
    (tmp_path / entry).mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])

    assert machine.installed(("tflite-runtime",)).get("tflite-runtime") == version


@pytest.fixture
def cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The governors of two cores."""
    paths = [tmp_path / f"cpu{number}" for number in range(2)]
    for path, governor in zip(paths, ("ondemand", "schedutil"), strict=True):
        path.write_text(governor)
    monkeypatch.setattr(governors, "PATTERN", str(tmp_path / "cpu[0-9]*"))
    return paths


def test_governors_are_set_and_put_back(cores: list[Path], tmp_path: Path) -> None:
    assert governors.set_governor("performance", str(tmp_path)) == ""
    assert [core.read_text() for core in cores] == ["performance", "performance"]

    governors.restore_governors(str(tmp_path))
    governors.restore_governors(str(tmp_path))

    assert [core.read_text() for core in cores] == ["ondemand", "schedutil"]


def test_a_system_without_governors_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(governors, "PATTERN", str(tmp_path / "nothing*"))
    assert governors.set_governor("performance", str(tmp_path)) == "the system has no governors"


def test_a_dead_session_is_swept_and_a_live_one_is_not(cores: list[Path], tmp_path: Path) -> None:
    for name in ("mine", "dead", "alive"):
        (tmp_path / "sessions" / name).mkdir(parents=True)
        (tmp_path / "sessions" / name / "alive").touch()
    governors.set_governor("performance", str(tmp_path / "sessions" / "dead"))
    with (tmp_path / "sessions" / "alive" / "alive").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        removed = sessions.sweep(str(tmp_path / "sessions" / "mine"))

    assert removed == ["dead"]
    assert sorted(path.name for path in (tmp_path / "sessions").iterdir()) == ["alive", "mine"]
    assert cores[0].read_text() == "ondemand", "its governors were put back"


def test_removing_a_session_leaves_what_was_set_up(tmp_path: Path) -> None:
    root = tmp_path / ".edgekit"
    (root / "sessions" / "one").mkdir(parents=True)
    (root / "wheels").mkdir()

    sessions.remove(str(root / "sessions" / "one"))
    assert [path.name for path in root.iterdir()] == ["wheels"]

    (root / "sessions" / "two").mkdir(parents=True)
    (root / "wheels").rmdir()
    sessions.remove(str(root / "sessions" / "two"))
    assert not root.exists()


def test_the_lock_of_a_board_is_held_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "LOCK_FOLDERS", (str(tmp_path),))
    with sessions.BoardLock() as first, sessions.BoardLock() as second:
        assert first.try_it()
        assert not second.try_it()
        first.__exit__()
        assert second.try_it()
    assert list(tmp_path.iterdir()) == []


def packed(folder: Path, **files: str) -> str:
    with zipfile.ZipFile(folder / "packages.zip", "w") as archive:
        for name, text in files.items():
            archive.writestr(f"{name}/__init__.py", text)
    return str(folder / "packages.zip")


def test_packages_are_added_replaced_and_removed(tmp_path: Path) -> None:
    session = tmp_path / "sessions" / "one"
    session.mkdir(parents=True)

    packages.install(packed(session, one="old", two="old"), str(session))
    packages.install(packed(session, two="new"), str(session))

    wheels = tmp_path / "wheels"
    assert {path.name: (path / "__init__.py").read_text() for path in wheels.iterdir()} == {"one": "old", "two": "new"}
    packages.uninstall(str(session))
    assert [path.name for path in tmp_path.iterdir()] == ["sessions"]


def test_a_damaged_archive_changes_nothing(tmp_path: Path) -> None:
    session = tmp_path / "sessions" / "one"
    session.mkdir(parents=True)
    archive = Path(packed(session, one="x" * 1000))
    archive.write_bytes(archive.read_bytes()[:-30])

    with pytest.raises(zipfile.BadZipFile):
        packages.install(str(archive), str(session))

    assert [path.name for path in tmp_path.iterdir()] == ["sessions"]


def test_an_inbox_gives_lines_and_bytes_in_turn() -> None:
    reading, writing = os.pipe()
    box = inbox.Inbox(reading)
    os.write(writing, b'{"one"}\nbytes{"two"}\n')
    taken = io.BytesIO()

    assert box.line(1.0) == b'{"one"}'
    box.copy(5, taken)
    assert box.line(1.0) == b'{"two"}'
    assert box.line(0.0) is None

    assert taken.getvalue() == b"bytes"
    os.close(writing)
    with pytest.raises(inbox.HostGoneError, match="cut"):
        box.line(1.0)
    os.close(reading)


def test_an_inbox_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "SILENCE_SECONDS", 0.15)
    reading, writing = os.pipe()
    box = inbox.Inbox(reading)

    box.line(0.1)
    with pytest.raises(inbox.HostGoneError, match="nothing was heard"):
        box.line(0.1)

    os.close(reading)
    os.close(writing)
