"""Tables on disk: what is written is read, damaged ones say so, and only like is added to like."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from edgekit.dense_layer import parse
from edgekit.errors import MisuseError, OutputError
from edgekit.kernel_group import candidates
from edgekit.tuning.tables import (
    SCHEMA_VERSION,
    Table,
    Tuning,
    folder,
    keep,
    merge_into,
    merged,
    own_tables,
    read,
    shipped_tables,
)
from tests.kernels import GROUPS
from tests.tables import entry, layer_entry, only, table

PAIR, ROW, PLANE = GROUPS["pair and local"], GROUPS["row"], GROUPS["plane"]
MANY = table(*(entry(group, dict.fromkeys(candidates(group), 1.25), "depthwise") for group in GROUPS.values()))


def test_what_is_kept_is_read_again(tuning_folder: Path) -> None:
    place = keep(MANY)

    assert place.parent == tuning_folder == folder()
    (found,) = own_tables()
    assert set(found.entries) == set(MANY.entries)
    assert merged(found, None) == found
    assert [path.name for path in tuning_folder.iterdir()] == [MANY.file_name]


def test_a_file_has_a_line_for_each_group_and_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    first = merge_into(MANY, tmp_path / "first.json").read_text()
    other = table(*reversed(MANY.entries))
    assert merge_into(other, tmp_path / "other.json").read_text() == first
    assert len(first.splitlines()) == len(GROUPS) + 2
    assert len(json.loads(first)["entries"]) == len(GROUPS)


def test_layers_are_kept_beside_groups_and_replaced_one_by_one(tuning_folder: Path) -> None:
    layers = (layer_entry("linear 8>4", 2.0, 1.0), layer_entry("linear 9>4", 2.0, 1.0))
    keep(replace(MANY, dot_products=True, layers=layers))
    keep(replace(table(), layers=(layer_entry("linear 8>4", 2.0, 3.0),)))

    (found,) = own_tables()
    assert set(found.entries) == set(MANY.entries)
    assert not found.dot_products  # as the last one says
    assert {str(each.layer): each.why for each in found.layers} == {"linear 8>4": "slower", "linear 9>4": "faster"}
    (file,) = tuning_folder.iterdir()
    assert len(file.read_text().splitlines()) == len(GROUPS) + 5


def test_an_empty_table_is_a_table(tmp_path: Path) -> None:
    assert read(merge_into(table(), tmp_path / "empty.json").read_bytes(), "").entries == ()


def test_groups_measured_again_replace_the_old_ones_and_others_stay(tuning_folder: Path) -> None:
    keep(table(only(PAIR, "dense"), only(ROW, "toeplitz"), measured="2026-11-20"))
    keep(table(only(PAIR, "toeplitz + depthwise"), only(PLANE, "pieces")))

    (found,) = own_tables()
    assert {each.group: each.chosen for each in found.entries} == {
        PAIR: "toeplitz + depthwise",
        ROW: "toeplitz",
        PLANE: "pieces",
    }
    assert found.measured == "2026-11-21"


OTHER_KEYS: list[dict[str, Any]] = [
    {"runtime": "tflite"},
    {"package": "onnxruntime 1.30.0"},
    {"cpu": "Cortex-A72"},
    {"architecture": "aarch64"},
    {"threads": 4},
    {"emulated": True, "unit": "instructions"},
]


@pytest.mark.parametrize("changed", OTHER_KEYS, ids=lambda changed: ", ".join(changed))
def test_what_was_measured_elsewhere_is_another_table(changed: dict[str, Any], tmp_path: Path) -> None:
    mine, other = table(only(PAIR, "dense")), table(only(PAIR, "toeplitz"), **changed)
    keep(mine)
    keep(other)
    assert set(own_tables()) == {mine, other}

    file = merge_into(mine, tmp_path / "table.json")
    before = file.read_bytes()
    with pytest.raises(MisuseError, match=r"table\.json is the table of onnxruntime 1\.31\.1 on Zen 3, 1 thread, 2026"):
        merge_into(other, file)
    assert file.read_bytes() == before


def test_the_newest_table_comes_first() -> None:
    days = ["2026-11-02", "2026-12-01", "2026-01-31"]
    for threads, day in enumerate(days, start=1):
        keep(table(only(PAIR, "dense"), measured=day, threads=threads))
    assert [each.measured for each in own_tables()] == sorted(days, reverse=True)


def test_a_table_says_what_it_is_of() -> None:
    assert table().describe() == "onnxruntime 1.31.1 on Zen 3, 1 thread, 2026-11-21"
    emulated = table(threads=2, emulated=True, unit="instructions", cpu="Cortex-A72")
    assert emulated.describe() == ("onnxruntime 1.31.1 on Cortex-A72 (emulated, instructions), 2 threads, 2026-11-21")
    assert table(cpu="Cortex-A72 (r0p3) / x").file_name.startswith("onnxruntime-cortex-a72-r0p3-x-1-")


# -- damage -----------------------------------------------------------------------------------------------------------

Damage = Callable[[dict[str, Any]], object]

DAMAGES: list[tuple[str, Damage, str]] = [
    ("no entries", lambda content: content.pop("entries"), "missing required field `entries`"),
    ("another unit", lambda content: content.update(unit="seconds"), r"Invalid enum value 'seconds' - at `\$\.unit`"),
    ("text for a number", lambda content: content.update(threads="one"), r"Expected `int`, got `str`"),
    (
        "no channels",
        lambda content: content["entries"][0]["group"].update(channels=0),
        r"Expected `int` >= 1 - at `\$\.entries\[0\]\.group\.channels`",
    ),
    ("no rows", lambda content: content["entries"][0]["group"].update(size=[0, 7]), "Expected `int` >= 1"),
    (
        "no stride",
        lambda content: content["entries"][0]["group"]["chains"][0][0].update(stride=[1, 0]),
        "Expected `int` >= 1",
    ),
    (
        "a negative padding",
        lambda content: content["entries"][0]["group"]["chains"][0][0].update(padding=[-1, 0]),
        "Expected `int` >= 0",
    ),
    ("no cost", lambda content: content["entries"][0]["forms"][0].update(cost=0.0), r"Expected `float` > 0"),
    (
        "another schema",
        lambda content: content.update(schema_version=SCHEMA_VERSION + 1),
        f"has tuning schema {SCHEMA_VERSION + 1}, this edgekit reads {SCHEMA_VERSION}",
    ),
]


@pytest.mark.parametrize(("damage", "message"), [each[1:] for each in DAMAGES], ids=[each[0] for each in DAMAGES])
def test_a_damaged_table_is_named(damage: Damage, message: str) -> None:
    place = keep(table(only(PAIR, "dense")))
    content = json.loads(place.read_text())
    damage(content)
    place.write_text(json.dumps(content))

    with pytest.raises(MisuseError, match=message) as caught:
        own_tables()
    assert str(caught.value).startswith(str(place))
    assert str(caught.value).endswith("Remove it, and run edgekit tune again.")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"schema_version": 1}'], ids=repr)
def test_what_is_no_table_is_named(content: bytes, tuning_folder: Path) -> None:
    tuning_folder.mkdir()
    (tuning_folder / "notes.json").write_bytes(content)
    with pytest.raises(MisuseError, match=r"notes\.json is no tuning table \(.*\)\. Remove it"):
        own_tables()
    with pytest.raises(MisuseError, match="is no tuning table"):
        merge_into(table(), tuning_folder / "notes.json")
    assert (tuning_folder / "notes.json").read_bytes() == content


def test_a_table_that_cannot_be_read_is_named(tuning_folder: Path) -> None:
    (tuning_folder / "a folder.json").mkdir(parents=True)
    with pytest.raises(MisuseError, match=r"a folder\.json cannot be read: Is a directory\. Remove it"):
        own_tables()


def test_what_is_not_json_is_none_of_ours(tuning_folder: Path) -> None:
    tuning_folder.mkdir()
    (tuning_folder / "readme.txt").write_text("mine")
    assert own_tables() == ()


# -- places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"EDGEKIT_TUNING": "/tables", "XDG_DATA_HOME": "/data", "HOME": "/home/me"}, "/tables"),
        ({"XDG_DATA_HOME": "/data", "HOME": "/home/me"}, "/data/edgekit/tuning"),
        ({"HOME": "/home/me"}, "/home/me/.local/share/edgekit/tuning"),
        ({"EDGEKIT_TUNING": "", "HOME": "/home/me"}, "/home/me/.local/share/edgekit/tuning"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_where_tables_are_kept(variables: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EDGEKIT_TUNING", "XDG_DATA_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert folder() == Path(place)


def test_a_user_without_a_home_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError

    monkeypatch.delenv("EDGEKIT_TUNING")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    assert own_tables() == ()
    with pytest.raises(OutputError, match=r"There is no folder to keep measurements in\. Set EDGEKIT_TUNING to one\."):
        keep(table())


@pytest.mark.parametrize("inner", ["", "deeper"])
def test_a_place_that_cannot_be_written(inner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("EDGEKIT_TUNING", str(tmp_path / "file" / inner))
    with pytest.raises(
        OutputError, match=r"cannot be written: .*\. Choose another file with --save, or another folder"
    ):
        keep(table())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# -- what comes with edgekit ------------------------------------------------------------------------------------------


def test_shipped_rules_choose_among_the_ways_there_are() -> None:
    rules = shipped_tables()
    keys = [(each.runtime, each.architecture, bool(each.layers)) for each in rules]
    assert len(set(keys)) == len(keys)
    for each in rules:
        assert bool(each.entries) != bool(each.layers)
        for measured in each.entries:
            costs = {form.form: form.cost for form in measured.forms}
            assert costs.keys() <= candidates(measured.group).keys()
            assert {measured.chosen, "depthwise"} <= costs.keys()
            assert all(form.low <= form.high for form in measured.forms)
            assert min(costs.values()) >= measured.empty * 0.5


def test_the_identity_of_tables_follows_what_can_decide() -> None:
    mine: Table = table(only(PAIR, "dense"))
    other = table(only(PAIR, "dense"), runtime="tflite")
    changed = table(only(PAIR, "toeplitz"))

    assert Tuning((mine,), ()).identity("onnxruntime") == Tuning((mine, other), ()).identity("onnxruntime")
    identities = {Tuning(own, ()).identity("onnxruntime") for own in ((), (mine,), (changed,), (mine, changed))}
    assert len(identities) == 4


def test_shipped_rules_say_of_layers_what_they_cost() -> None:
    rules = [each for each in shipped_tables() if each.layers]
    assert {(each.runtime, each.architecture) for each in rules} >= {("tflite", "armv7l"), ("tflite", "aarch64")}
    for each in rules:
        assert (each.unit, each.emulated) == ("instructions", True) or each.architecture == "x86_64"
        for measured in each.layers:
            assert parse(str(measured.layer)) == measured.layer
            if measured.why in ("faster", "slower"):
                assert (
                    measured.precision
                    == ("int8" if measured.saved > 0 else "fp32")
                    == ("int8" if measured.why == "faster" else "fp32")
                )
