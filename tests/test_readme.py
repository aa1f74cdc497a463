"""The README is executed: its commands run, its options exist, its links lead somewhere.

Above every block of commands or Python a comment says when it runs, invisible to readers:

    <!-- test: fast -->           with the fast tests
    <!-- test: slow -->           with the slow ones
    <!-- test: skip REASON -->    never
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from edgekit.cli import COMMANDS, cli

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")))

SHELLS = frozenset({"sh", "bash", "shell", "console", "zsh"})
MARKER = re.compile(r"<!-- test: (fast|slow|skip)(?: (.+))? -->")
SECONDS_PER_COMMAND = 600


@dataclass(frozen=True)
class Block:
    """A fenced block: the line of its fence, its language, the comment right above, and the lines inside."""

    line: int
    language: str
    comment: str
    lines: tuple[str, ...]

    @property
    def marker(self) -> tuple[str, str]:
        """When the block runs, and why not; two empty strings where no valid comment is above it."""
        match = MARKER.fullmatch(self.comment)
        if match is None or (match[1] == "skip") != bool(match[2]):
            return "", ""
        return match[1], match[2] or ""

    @property
    def commands(self) -> tuple[str, ...]:
        """Its commands, with continued lines joined, without comments."""
        joined = re.sub(r"\\\n\s*", "", "\n".join(self.lines))
        return tuple(line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#"))


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a Markdown text."""
    lines = text.splitlines()
    number = 0
    comment = ""
    while number < len(lines):
        fence = re.match(r"(`{3,})(\w*)", lines[number])
        if fence is None:
            comment = lines[number].strip() or comment
            number += 1
            continue
        end = next((i for i in range(number + 1, len(lines)) if lines[i].startswith(fence[1])), len(lines))
        yield Block(number + 1, fence[2], comment, tuple(lines[number + 1 : end]))
        number, comment = end + 1, ""


def shell_blocks(path: Path) -> list[Block]:
    return [block for block in blocks(path.read_text()) if block.language in SHELLS] if path.is_file() else []


def python_blocks(path: Path) -> list[Block]:
    return [block for block in blocks(path.read_text()) if block.language == "python"]


def code_spans(text: str) -> list[str]:
    """The `inline code` outside fenced blocks."""
    prose = re.sub(r"^(`{3,}).*?^\1`*$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose)


def edgekit_calls(path: Path) -> list[str]:
    """What follows `edgekit` wherever a page calls it, up to the end of that command."""
    code = [command for block in shell_blocks(path) for command in block.commands] + code_spans(path.read_text())
    calls = (re.findall(r"(?:^|[|;&(]\s*|\bbin/)edgekit +([^|;&>)#]+)", line) for line in code)
    return [call for found in calls for call in found]


def options_of(command: click.Command) -> set[str]:
    names = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    return {name for name in names if name.startswith("-")} | {"-h", "--help"}


def known_options() -> dict[str, set[str]]:
    """Options by command; the group's own are under the empty name."""
    context = click.Context(cli)
    commands = {name: cli.get_command(context, name) for name in COMMANDS}
    return {"": options_of(cli)} | {name: options_of(command) for name, command in commands.items() if command}


def unknown_words(call: str) -> list[str]:
    """The command and options of a call that edgekit does not have."""
    known = known_options()
    words = [word.strip("[],.").partition("=")[0] for word in call.split()]
    command = words[0] if words and not words[0].startswith("-") else ""
    if not re.fullmatch(r"[a-z-]*", command):  # SUBCOMMAND, or an ellipsis
        return []
    if command not in known:
        return [command]
    return [word for word in words if re.match(r"--?[A-Za-z]", word) and word not in known[command]]


def run_commands(commands: Sequence[str], folder: Path, cache: Path) -> None:
    """Runs commands one after the other, as a reader does; what make does is tested by running make.

    Raises:
        AssertionError: One failed; the message has its output.
    """
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "EDGEKIT_CACHE": str(cache),
    }
    shell = shutil.which("bash")
    assert shell, "bash is missing"
    for command in commands:
        if command.split()[0] == "make":
            continue
        process = subprocess.run(
            [shell, "-euo", "pipefail", "-c", command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS_PER_COMMAND,
            check=False,
        )
        assert process.returncode == 0, f"$ {command}\n{process.stdout[-4000:]}\nexit code {process.returncode}"


@pytest.fixture(scope="session")
def reader_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reader is: one folder for the whole page, for later blocks use what earlier ones made."""
    return tmp_path_factory.mktemp("reader")


@pytest.fixture(scope="session")
def reader_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def marks(block: Block) -> tuple[pytest.MarkDecorator, ...]:
    """What pytest is told about a block."""
    kind, reason = block.marker
    if kind == "skip":
        return (pytest.mark.skip(reason=reason),)
    return (pytest.mark.slow,) if kind == "slow" else ()


@pytest.mark.parametrize(
    "block", [pytest.param(block, id=f"line-{block.line}", marks=marks(block)) for block in shell_blocks(README)]
)
def test_readme_commands_run(block: Block, reader_folder: Path, reader_cache: Path) -> None:
    assert block.marker != ("", ""), (
        f"README.md, line {block.line}: above the block write <!-- test: fast -->, <!-- test: slow --> or "
        f"<!-- test: skip REASON -->, not {block.comment!r}"
    )
    if all(command.split()[0] == "make" for command in block.commands):
        pytest.skip("make is how these tests are run; its targets are checked by name")
    if not (Path(sys.executable).parent / "edgekit").exists():
        pytest.fail("edgekit is not installed beside this Python; `make test` does that")
    run_commands(block.commands, reader_folder, reader_cache)


@pytest.mark.parametrize(
    "block", [pytest.param(block, id=f"line-{block.line}", marks=marks(block)) for block in python_blocks(README)]
)
def test_readme_python_runs(block: Block, reader_folder: Path) -> None:
    assert block.marker != ("", ""), f"README.md, line {block.line}: say above the block when it runs, as for commands"
    process = subprocess.run(
        [sys.executable, "-c", "\n".join(block.lines)],
        cwd=reader_folder,
        capture_output=True,
        text=True,
        timeout=SECONDS_PER_COMMAND,
        check=False,
    )
    assert process.returncode == 0, f"line {block.line}: {process.stderr[-4000:]}"


def test_readme_has_commands() -> None:
    kinds = [block.marker[0] for block in shell_blocks(README)]
    assert "fast" in kinds
    assert "slow" in kinds


def test_readme_calls_its_shell_sh() -> None:
    assert {block.language for block in shell_blocks(README)} <= {"sh"}
    assert {block.language for block in blocks(README.read_text())} <= {"sh", "python"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    calls = edgekit_calls(page)
    assert {call: unknown for call in calls if (unknown := unknown_words(call))} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_in_prose_exist(page: Path) -> None:
    known = set().union(*known_options().values())
    named = {span.split()[0].partition("=")[0] for span in code_spans(page.read_text()) if span.startswith("--")}
    assert named <= known


def test_readme_mentions_every_command() -> None:
    mentioned = {call.split()[0] for call in edgekit_calls(README)}
    assert set(COMMANDS) - mentioned == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page: Path) -> None:
    commands = [command for block in shell_blocks(page) for command in block.commands]
    lines = [line for line in (*commands, *code_spans(page.read_text())) if line.startswith("make ")]
    words = (word for line in lines for word in line.partition("#")[0].split()[1:])
    named = {word for word in words if re.fullmatch(r"[a-z][a-z-]*", word)}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named <= targets


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as they appear in links."""
    prose = re.sub(r"^(`{3,}).*?^\1`*$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ +(.+?) *$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """The links of a page that lead to no file or heading of the repository; other sites are not visited."""
    text = page.read_text()
    found = re.findall(r"\]\(<?([^)>\s]+)>?\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    broken = []
    for link in found:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


SAMPLE = r"""
<!-- test: fast -->
```sh
edgekit models   # not checked
# a comment
edgekit export parcnetv2_t \
    --target arm
```
Prose with `edgekit verify DIR --json` and `--target`.

```sh
edgekit targets
```
<!-- test: skip -->

```text
edgekit nonsense
```
"""


def test_blocks_are_read(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(SAMPLE)
    first, second, third = blocks(SAMPLE)
    assert (first.line, first.language, first.marker) == (3, "sh", ("fast", ""))
    assert first.commands == ("edgekit models   # not checked", "edgekit export parcnetv2_t --target arm")
    assert second.marker == ("", "")
    assert third.marker == ("", ""), "to skip takes a reason"
    assert [call.split()[0] for call in edgekit_calls(page)] == ["models", "export", "targets", "verify"]


@pytest.mark.parametrize(
    ("call", "unknown"),
    [
        ("export parcnetv2_t --target arm -o out", []),
        ("SUBCOMMAND --help", []),
        ("--version", []),
        ("exprt parcnetv2_t", ["exprt"]),
        ("export parcnetv2_t --taget=arm", ["--taget"]),
        ("targets --target arm", ["--target"]),
        ("export MODEL [--no-such]", ["--no-such"]),
    ],
)
def test_unknown_words_are_found(call: str, unknown: list[str]) -> None:
    assert unknown_words(call) == unknown


def test_failing_command_is_seen(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"(?s)\$ echo three && false.*three.*exit code 1"):
        run_commands(["echo one > file", "make nothing", "echo three && false", "touch after"], tmp_path, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_failure_inside_a_pipeline_is_seen(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="exit code 1"):
        run_commands(["false | cat"], tmp_path, tmp_path)


def test_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A heading, this\n[a](page.md#a-heading-this) [b](none.md) [c](#none) [d](mailto:x) [e](page.md)")
    assert broken_links(page) == ["none.md", "#none"]


def test_generated_tables_are_up_to_date() -> None:
    script = ROOT / "scripts" / "readme_tables.py"
    done = subprocess.run([sys.executable, str(script), "--check"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
