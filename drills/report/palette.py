"""The colours of the charts, and the style they share."""

from __future__ import annotations

from typing import Any

#: As printed and in pictures. Each value occurs once: on the page it becomes the variable ``--chart-<name>`` of the
#: style sheet, which has others for a dark screen. Masters and replicas differ in brightness too, and are labelled.
COLOURS: dict[str, str] = {
    "paper": "#ffffff",
    "ink": "#1f2530",
    "muted": "#5a6371",
    "faint": "#e4e7eb",
    "axis": "#b9bfc8",
    "median": "#2f67ad",
    "longest": "#d8572a",
    "red": "#c0242c",
    "good": "#17703f",
    "master": "#2a5f9e",
    "on master": "#fefefe",
    "replica": "#d3deeb",
    "on replica": "#3c4654",
    "silent": "#fbf3f2",
    "on silent": "#9c2a22",
    "hatch": "#d9a29c",
}

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "text.color": COLOURS["ink"],
    "text.parse_math": False,
    "axes.facecolor": "none",
    "axes.labelcolor": COLOURS["ink"],
    "axes.edgecolor": COLOURS["axis"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": COLOURS["ink"],
    "ytick.color": COLOURS["ink"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "hatch.linewidth": 1.0,
}

SIGNS = {"passed": "✓", "failed": "✗", "skipped": "○"}
#: The colour of each verdict.
TONES = {"passed": "good", "failed": "red", "skipped": "muted"}
