"""Parity of every named model in every format, for the table in the README.

    python benchmarks/parity.py                       # the models of the README, into benchmarks/parity.json
    python benchmarks/parity.py parcnetv2_xt parnet_s --add

Each model is exported with `--no-cache`, so every number is measured in this run. `--add` keeps the other rows.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("parity.json")

CASES: tuple[tuple[str, ...], ...] = (
    ("parcnetv2_xt",),
    ("parcnetv2_t",),
    ("parcnetv2_s",),
    ("parcnetv2_b",),
    ("parcnetv2_t", "--input", "1x3x320x256", "--kernel", "interpolate"),
    ("parcnetv2_t", "--input", "1x3x320x256", "--kernel", "keep"),
    ("parnet_s",),
    ("parnet_s92",),
    ("parnet_m",),
    ("parnet_l",),
    ("parnet_xl",),
    ("parnet_cifar_w32",),
    ("parnet_cifar_w112",),
    ("parnet_cifar_w168",),
    ("parc_convnext_xt",),
    ("convnext_xt",),
    ("parc_net_s",),
    ("parc_net_xs",),
    ("parc_net_h",),
    ("parcnetv2_xt_no_oc",),
    ("parcnetv2_xt_no_sbgu",),
    ("parcnetv2_xt_no_cbgu",),
    ("parcnetv2_xt_no_uniform",),
    ("convnext_t_oc",),
    ("convnext_t_oc_bgu",),
    ("parnet_m_streams1",),
    ("parnet_m_streams2",),
    ("parnet_m_streams4",),
    ("parcnetv2_t", "--features", "--input", "512"),
    ("parcnetv2_t", "--features", "--input", "512x2048"),
    ("parnet_s", "--features"),
    ("upernet_parcnetv2_t",),
    ("upernet_parcnetv2_s",),
    ("upernet_parcnetv2_b",),
)


def measure(case: tuple[str, ...]) -> dict[str, Any]:
    """Exports one case in every format and gives back its row; a failure is a row too."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "edgekit", "export", *case, "--no-cache", "--json", "-o", f"{folder}/bundle"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    answer = json.loads(done.stdout)
    if done.returncode:
        return {"case": list(case), "error": answer["error"]["message"]}
    manifest = answer["manifest"]
    return {
        "case": list(case),
        "input": "x".join(map(str, manifest["inputs"][0]["shape"])),
        "kernel_policy": manifest["kernel_policy"],
        "tools": manifest["tools"],
        "date": manifest["created"][:10],
        "artifacts": {member["artifact"]["format"]: worst(member["parity"]) for member in manifest["members"]},
    }


def worst(cases: list[dict[str, Any]]) -> dict[str, float]:
    """The case that comes closest to its gate."""
    case = min(cases, key=lambda case: case["parity"]["snr_db"] - case["gate_db"])
    return {"snr_db": case["parity"]["snr_db"], "gate_db": case["gate_db"], "max_abs": case["parity"]["max_abs"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--add", action="store_true")
    arguments = parser.parse_args()
    rows = json.loads(RESULTS.read_text()) if arguments.add and RESULTS.exists() else []
    for case in CASES:
        if arguments.models and case[0] not in arguments.models:
            continue
        row = measure(case)
        rows = [*(kept for kept in rows if kept["case"] != list(case)), row]
        order = [list(known) for known in CASES]
        RESULTS.write_text(json.dumps(sorted(rows, key=lambda each: order.index(each["case"])), indent=1) + "\n")
        summary = row.get("artifacts") or row["error"]
        print(" ".join(case), summary, flush=True)


if __name__ == "__main__":
    main()
