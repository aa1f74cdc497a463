"""Writes the README's generated tables: the models from their cards, the parity figures from benchmarks/parity.json.

python scripts/readme_tables.py            # write them
python scripts/readme_tables.py --check    # exit 1 when they are out of date
"""

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from edgekit.models.cards import CARDS, text

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PARITY = ROOT / "benchmarks" / "parity.json"

FORMATS = ("onnx", "openvino", "tflite")


def markdown(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; columns whose heading starts with `>` are right-aligned."""
    columns = list(heading)
    rule = ["--:" if column.startswith(">") else "---" for column in columns]
    lines = [[column.lstrip(">") for column in columns], rule, *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def models_table() -> str:
    """One row per card."""
    return markdown(
        ("name", ">parameters", ">MACs", "input", "what it is", "published weights"),
        (
            (
                f"`{card.name}`",
                f"{card.parameters:,}",
                f"{card.macs:,}",
                text(card.input_shape),
                card.summary,
                card.weights_licence,
            )
            for card in CARDS.values()
        ),
    )


def parity_table() -> str:
    """One row per measured model: SNR against float64 in each format, closest case, and what was required."""
    rows = json.loads(PARITY.read_text())
    dates = sorted({row["date"] for row in rows if "date" in row})
    body = []
    for row in rows:
        if "error" in row:
            body.append((f"`{' '.join(row['case'])}`", "", *("failed",) * len(FORMATS)))
            continue
        chosen = (
            row["kernel_policy"] if "--kernel" in row["case"] else "",
            "features" if "--features" in row["case"] else "",
        )
        cells = (row["artifacts"].get(name) for name in FORMATS)
        shown = (f"{cell['snr_db']:.1f} ({cell['gate_db']:.1f})" if cell else "" for cell in cells)
        body.append((f"`{row['case'][0]}`", " ".join((row["input"], *filter(None, chosen))), *shown))
    table = markdown(("model", "input", *(f">{name}" for name in FORMATS)), body)
    return (
        f"Measured {dates[-1]} on x86-64, random weights of seed 0: SNR in dB against float64 on the input that comes "
        f"closest to its gate, the gate in brackets.\n\n{table}"
    )


SECTIONS = {"models": models_table, "parity": parity_table}


def written(readme: str) -> str:
    """The README with every generated section anew."""
    for name, make in SECTIONS.items():
        pattern = re.compile(rf"(<!-- {name}: start -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
        readme, found = pattern.subn(lambda match, make=make: f"{match[1]}\n{make()}\n\n{match[2]}", readme)
        if found != 1:
            raise SystemExit(f"README.md has {found} sections {name!r}, there must be one.")
    return readme


def main() -> None:
    before = README.read_text()
    after = written(before)
    if "--check" in sys.argv[1:]:
        raise SystemExit(0 if before == after else "README.md is out of date. Run: python scripts/readme_tables.py")
    README.write_text(after)


if __name__ == "__main__":
    main()
