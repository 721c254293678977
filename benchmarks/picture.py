"""Draws docs/images/speed.svg, how many times as fast things are, from benchmarks/results/*.json.

Run it as python benchmarks/picture.py MODELS.json MESSAGES.json, with files that benchmarks/models.py and
benchmarks/messages.py --e3nn have written on one machine.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

ROOT = Path(__file__).resolve().parents[1]
NAMES = {
    "MACE 0": "MACE, 0e",
    "MACE 1": "MACE, 0e + 1o",
    "MACE 2": "MACE, 0e + 1o + 2e",
    "NequIP 2": "NequIP, l = 2",
    "SevenNet 2": "SevenNet, l = 2",
}


def bars(models, messages):
    """Of each bar: its name, the factor, and whether it is a whole model."""
    for case in messages["e3nn"]:
        if not case["compiled"]:
            for part, what in (("forward", "message passing"), ("backward", "its gradient")):
                yield f"{what}, {case['case']}", case[f"e3nn_{part}"] / case[part], False
    for case in models["models"]:
        if case["case"] in NAMES and case["threads"] == 2 and case["dtype"] == "float32" and case["atoms"] == 256:
            yield NAMES[case["case"]], case["before"] / case["after"], True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", help="written by benchmarks/models.py --json")
    parser.add_argument("messages", help="written by benchmarks/messages.py --e3nn --json")
    a = parser.parse_args()
    models, messages = (json.loads(Path(file).read_text(encoding="utf-8")) for file in (a.models, a.messages))
    drawn = list(bars(models, messages))[::-1]
    pyplot.rcParams |= {"svg.hashsalt": "sparseacc", "svg.fonttype": "none", "font.size": 11}
    figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(drawn) + 1.6), layout="constrained")
    names, factors, whole = zip(*drawn, strict=True)
    shown = axes.barh(names, factors, color=["#2962a8" if of_model else "#8fb3dd" for of_model in whole])
    axes.bar_label(shown, [f"{factor:.1f}" if factor < 10 else f"{factor:.0f}" for factor in factors], padding=3)
    axes.axvline(1, color="black", linewidth=1)
    axes.set(
        xscale="log",
        xlim=(0.8, 1.5 * max(factors)),
        xlabel="times as fast as the model without sparseacc (dark), as e3nn (light)",
    )
    axes.xaxis.set_major_formatter("{x:g}")
    machine = models["machine"]
    axes.set_title(
        "Energies and forces of models of 256 atoms (dark), and a layer (light)\n"
        f"{machine['processor']}, 2 threads, float32, {models['date']}",
        fontsize=10,
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(ROOT / "docs" / "images" / "speed.svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
