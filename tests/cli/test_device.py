"""`edgekit device` and `edgekit devices`."""

import json
import sys

import pytest

from edgekit.targets.address import parse_address
from edgekit.targets.known import forget, remember
from tests.cli.conftest import Run


def test_devices_are_listed_without_asking_them(run: Run) -> None:
    remember(parse_address("ssh://pi@board"), ("ncnn", "tflite-runtime"))

    listed = json.loads(run("devices", "--json").stdout)["devices"]

    assert [each["address"] for each in listed] == ["local", "qemu://armv7", "qemu://aarch64", "ssh://pi@board"]
    assert listed[-1]["note"] == "was set up with ncnn, tflite-runtime"
    assert "ssh://pi@board" in run("devices").stdout
    forget(parse_address("ssh://pi@board"))
    assert "ssh://pi@board" not in run("devices").stdout


@pytest.mark.skipif(sys.platform != "linux", reason="sessions are kept by flock")
def test_the_doctor_knows_this_machine(run: Run) -> None:
    result = run("device", "doctor", "local", "--json")

    assert result.exit_code == 0, result.output
    diagnosis = json.loads(result.stdout)["diagnosis"]
    verdicts = {each["distribution"]: each for each in diagnosis["runtimes"]}
    assert verdicts["onnxruntime"]["verdict"] == "works"
    assert verdicts["onnxruntime"]["version"] == diagnosis["device"]["runtimes"]["onnxruntime"]


def test_the_doctor_speaks_to_people_too(run: Run) -> None:
    output = run("device", "doctor", "local").stdout

    assert output.startswith("local: ")
    assert "onnxruntime" in output
    assert "edgekit bench BUNDLE --device local" in output


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("local", "pip install 'edgekit[all]'"),
        ("qemu://armv7", "has every runtime that installs there"),
        ("board", "is no address of a device"),
    ],
)
def test_what_cannot_be_set_up_says_why(run: Run, address: str, said: str) -> None:
    result = run("device", "setup", address)

    assert result.exit_code == 2
    assert said in result.output


def test_nothing_is_left_on_this_machine(run: Run) -> None:
    assert "Nothing was ever left" in run("device", "remove", "local").stdout
    assert "was not there" in run("device", "remove", "qemu://armv7").stdout


@pytest.mark.parametrize("word", ["", "install", "setup local x"])
def test_wrong_words_are_misuse(run: Run, word: str) -> None:
    assert run("device", *word.split()).exit_code == 2
