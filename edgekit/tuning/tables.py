"""Tables of measured forms and precisions: one for each runtime, its version, CPU and number of threads.

Tables that `edgekit tune` measures are kept in the user's data folder; those in `rules/`, beside this module, were
measured by the same command and come with edgekit.
"""

import hashlib
import os
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from edgekit.dense_layer import DenseLayer
from edgekit.errors import MisuseError, OutputError
from edgekit.files import output_errors, whole_file
from edgekit.kernel_group import KernelGroup

SCHEMA_VERSION = 1

ELSEWHERE = "choose another file with --save, or another folder with EDGEKIT_TUNING"

Unit = Literal["ms", "instructions"]
Precision = Literal["fp32", "int8"]
LayerMethod = Literal["static", "dynamic"]


class FormCost(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one inference of a test network costs with a group in one form and precision.

    `cost` is the lower quartile over the rounds, `low` the least and `high` the median of those that it took part in;
    counted instructions are exact.
    """

    form: str
    cost: Annotated[float, Meta(gt=0)]
    low: float
    high: float
    precision: str = "fp32"


class Entry(Struct, frozen=True, kw_only=True):
    """A group, measured.

    Attributes:
        empty: Cost of the test network without the group.
        chosen: The form to use.
        why: What decided: `fastest`; `equal`, where the fastest ones cannot be told apart and the one with the smallest
            constants was taken; `whole network`, where the network as a whole was slower with the fastest one.
        rounds: How often each form was timed; those that were clearly slower, less often.
    """

    group: KernelGroup
    empty: float
    forms: tuple[FormCost, ...]
    chosen: str
    why: Literal["fastest", "equal", "whole network"]
    rounds: int


class LayerEntry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A dense layer, measured in float and in int8.

    Attributes:
        method: How int8 has the ranges of its maps: `static`, fixed beforehand, or `dynamic`, found in every run.
        fp32, int8: Cost of the test network with the layer in that precision, between float neighbours.
        between: The same two between int8 neighbours; None where the layer shares no border with them.
        precision: The cheaper one, float where nothing tells them apart.
        why: What decided: `faster`, `equal` or `slower` in int8; `wrong`, where its runtime does not run it in int8 or
            computes it wrongly; `whole network`, where the network as a whole was faster otherwise.
        rounds: How often both were timed.
    """

    layer: DenseLayer
    method: LayerMethod
    fp32: Annotated[float, Meta(gt=0)]
    int8: Annotated[float, Meta(gt=0)]
    between: tuple[float, float] | None = None
    precision: Precision
    why: Literal["faster", "equal", "slower", "wrong", "whole network"]
    rounds: int

    @property
    def saved(self) -> float:
        """What int8 saves between float neighbours; negative where it costs."""
        return self.fp32 - self.int8


class Table(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All groups and layers measured with one runtime in one place.

    Attributes:
        package: Distribution and version of the runtime, such as `onnxruntime 1.31.1`.
        cpu: The core's design.
        architecture: As wheels name it.
        emulated: Whether the CPU was emulated, where the cost is executed instructions and says nothing about time.
        measured: The day, as 2026-11-21.
        dot_products: Whether the CPU adds up products of 8-bit integers in one instruction, which decides what int8 is
            worth.
    """

    schema_version: int
    runtime: str
    package: str
    cpu: str
    architecture: str
    threads: int
    unit: Unit
    emulated: bool
    measured: str
    edgekit_version: str
    dot_products: bool = False
    entries: tuple[Entry, ...]
    layers: tuple[LayerEntry, ...] = ()

    @property
    def file_name(self) -> str:
        """Where it is kept: a name for people, and a hash of what the key is made of."""
        key = (
            self.runtime,
            self.package,
            self.cpu,
            self.architecture,
            str(self.threads),
            self.unit,
            str(self.emulated),
        )
        digest = hashlib.sha256("\0".join(key).encode()).hexdigest()[:8]
        name = re.sub(r"[^a-z0-9]+", "-", f"{self.runtime} {self.cpu} {self.threads}".lower()).strip("-")
        return f"{name}-{digest}.json"

    def describe(self) -> str:
        """`onnxruntime 1.31.1 on Cortex-A72 (emulated, instructions), 1 thread, 2026-11-21`."""
        how = " (emulated, instructions)" if self.emulated else ""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.package} on {self.cpu}{how}, {threads}, {self.measured}"


class Tuning(Struct, frozen=True):
    """The tables there are: the user's own, newest first, and those that come with edgekit."""

    own: tuple[Table, ...]
    rules: tuple[Table, ...]

    def identity(self, runtime: str) -> str:
        """SHA-256 of everything that can decide for a runtime."""
        tables = [table for table in (*self.own, *self.rules) if table.runtime == runtime]
        return hashlib.sha256(msgspec.json.encode(tables, order="deterministic")).hexdigest()


def folder() -> Path | None:
    """`$EDGEKIT_TUNING`, or `edgekit/tuning` in the user's data folder; None for a user without a home."""
    if chosen := os.environ.get("EDGEKIT_TUNING"):
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "edgekit" / "tuning"
    except RuntimeError:  # no $HOME and no entry in the user database, as containers have it
        return None


def own_tables() -> tuple[Table, ...]:
    """The tables measured by this user, newest first.

    Raises:
        MisuseError: One of the files is damaged or of another version of edgekit.
    """
    place = folder()
    if place is None:
        return ()
    tables = (read_file(path) for path in sorted(place.glob("*.json")))
    return tuple(sorted(tables, key=lambda table: table.measured, reverse=True))


def shipped_tables() -> tuple[Table, ...]:
    """The tables that come with edgekit."""
    rules = resources.files("edgekit.tuning").joinpath("rules")
    files = sorted(rules.iterdir(), key=lambda file: file.name) if rules.is_dir() else []
    return tuple(read(file.read_bytes(), file.name) for file in files if file.name.endswith(".json"))


def read(content: bytes, name: str) -> Table:
    """A table from the bytes of its file; the name is for the message only.

    Raises:
        MisuseError: It is damaged or of another version of edgekit.
    """
    try:
        table = msgspec.json.decode(content, type=Table)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MisuseError(f"{name} is no tuning table ({error}). Remove it, and run edgekit tune again.") from error
    if table.schema_version != SCHEMA_VERSION:
        raise MisuseError(
            f"{name} has tuning schema {table.schema_version}, this edgekit reads {SCHEMA_VERSION}. Remove it, and run "
            "edgekit tune again."
        )
    return table


def read_file(path: Path) -> Table:
    """A table of the user's.

    Raises:
        MisuseError: It cannot be read, is damaged, or of another version of edgekit.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MisuseError(f"{path} cannot be read: {error.strerror}. Remove it, and run edgekit tune again.") from error
    return read(content, str(path))


def merged(table: Table, before: Table | None) -> Table:
    """A table with the groups and layers of an older one that it has not measured again."""
    if before is None:
        return table
    groups = {entry.group for entry in table.entries}
    layers = {(entry.layer, entry.method) for entry in table.layers}
    entries = tuple(entry for entry in before.entries if entry.group not in groups)
    others = tuple(entry for entry in before.layers if (entry.layer, entry.method) not in layers)
    return msgspec.structs.replace(table, entries=(*entries, *table.entries), layers=(*others, *table.layers))


def keep(table: Table) -> Path:
    """Adds a table to those of the user, and returns where it is.

    Raises:
        OutputError: It cannot be written.
        MisuseError: What is there is no table.
    """
    place = folder()
    if place is None:
        raise OutputError("There is no folder to keep measurements in. Set EDGEKIT_TUNING to one.")
    return merge_into(table, place / table.file_name)


def merge_into(table: Table, path: Path) -> Path:
    """Writes a table to a file, with the groups of the table that is there and has the same key.

    Raises:
        OutputError: It cannot be written.
        MisuseError: What is there is no table, or one with another key.
    """
    before = read_file(path) if path.is_file() else None
    if before is not None and before.file_name != table.file_name:
        raise MisuseError(f"{path} is the table of {before.describe()}. Choose another file.")
    write(merged(table, before), path)
    return path


def write(table: Table, path: Path) -> None:
    """Writes a table, one line for each group and each layer.

    Raises:
        OutputError: It cannot be written.
    """
    with output_errors(path, ELSEWHERE):
        path.parent.mkdir(parents=True, exist_ok=True)
    head = msgspec.json.encode(msgspec.structs.replace(table, entries=(), layers=())).decode().removesuffix("[]}")
    groups = sorted(table.entries, key=lambda entry: str(entry.group))
    layers = sorted(table.layers, key=lambda entry: (str(entry.layer), entry.method))
    tail = f',"layers":{lines_of(layers)}' if layers else ""
    with whole_file(path, ELSEWHERE) as partial:
        partial.write_text(f"{head}{lines_of(groups)}{tail}}}\n", encoding="utf-8")


def lines_of(entries: Iterable[Entry | LayerEntry]) -> str:
    """Entries as a list of JSON, each on a line of its own."""
    lines = ",\n".join(msgspec.json.encode(entry).decode() for entry in entries)
    return f"[\n{lines}\n]"
