"""Addresses of devices."""

import pytest

from edgekit.errors import MisuseError
from edgekit.targets.address import Address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("local", Address(kind="local")),
        ("qemu://armv7", Address(kind="qemu", name="armv7")),
        ("qemu://aarch64", Address(kind="qemu", name="aarch64")),
        ("ssh://board", Address(kind="ssh", name="board")),
        ("ssh://pi@board", Address(kind="ssh", name="board", user="pi")),
        ("ssh://pi@board:2222", Address(kind="ssh", name="board", user="pi", port=2222)),
        ("ssh://[fe80::1%eth0]:22", Address(kind="ssh", name="[fe80::1%eth0]", port=22)),
        ("adb://emulator-5554", Address(kind="adb", name="emulator-5554")),
        ("adb://192.168.1.7:5555", Address(kind="adb", name="192.168.1.7:5555")),
    ],
)
def test_an_address_is_read_and_written(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert address.text == text


def test_a_slash_at_the_end_is_no_other_board() -> None:
    assert parse_address("ssh://board/").text == "ssh://board"


@pytest.mark.parametrize(
    "text",
    [
        *("", "LOCAL", "local://", "board", "pi@board", "http://board", "qemu://", "qemu://x86_64", "qemu:armv7"),
        *(
            "ssh://",
            "ssh://-oProxyCommand=true",
            "ssh://-l@board",
            "ssh://a b",
            "ssh://board:0x16",
            "ssh://board:99999",
        ),
        *("ssh://user@", "ssh://user:password@board", "ssh://board/etc", "ssh://board;true", "ssh://$(true)"),
        *("adb://", "adb://-x", "adb://a/b", "adb://a;b"),
    ],
)
def test_anything_else_is_refused_with_examples(text: str) -> None:
    with pytest.raises(MisuseError, match=r"is no address of a device\. Write local, qemu://armv7"):
        parse_address(text)
