"""Vega-Lite charts as SVG that stands in the page itself.

Colours are the page's own variables, so that one drawing serves the light, the dark and the printed page. A chart is
drawn twice, wide and narrow, for a drawing that shrinks takes its letters along.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from edgekit.report.document import Chart, Spec

WIDE, NARROW = 860, 340
"""Widths in pixels."""

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
VERSION = "6.4"

INK, QUIET, LINE = "var(--ink)", "var(--quiet)", "var(--line)"
SERIES = tuple(f"var(--series-{number})" for number in range(1, 7))

CONFIG: Mapping[str, Any] = {
    "background": "transparent",
    "font": "inherit",
    "view": {"stroke": None},
    "axis": {
        "labelColor": QUIET,
        "titleColor": QUIET,
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "gridColor": LINE,
        "domain": False,
        "ticks": False,
        "labelPadding": 8,
    },
    "axisBand": {"grid": False, "labelColor": INK},
    "legend": {
        "orient": "top",
        "labelColor": INK,
        "labelFontSize": 12,
        "title": None,
        "symbolType": "circle",
        "symbolSize": 80,
        "labelLimit": 260,
    },
    "text": {"color": INK, "fontSize": 12},
}


def chart(title: str, alternative: str, draw: Callable[[int], Spec]) -> Chart:
    """A chart of both widths, from what draws one of a width."""
    return Chart(title, alternative, whole(draw(WIDE), WIDE), whole(draw(NARROW), NARROW))


def whole(spec: Spec, width: int) -> Spec:
    """A specification with what all of them share."""
    fit = {"type": "fit-x", "contains": "padding"}
    return {"$schema": SCHEMA, "width": width, "autosize": fit, "padding": 0, **spec, "config": CONFIG}


def svg(spec: Spec, name: str) -> str:
    """Draws a chart.

    Args:
        spec: What to draw.
        name: Told apart from all others on the page, for what the drawing refers to inside itself.
    """
    import vl_convert

    drawn = vl_convert.vegalite_to_svg(dict(spec), vl_version=VERSION)
    # Numbers of clips and gradients go on from drawing to drawing.
    numbers = {found: str(order) for order, found in enumerate(dict.fromkeys(re.findall(r'id="([a-z]+\d+)"', drawn)))}
    for found, order in numbers.items():
        drawn = drawn.replace(f'id="{found}"', f'id="{name}-{order}"').replace(
            f"url(#{found})", f"url(#{name}-{order})"
        )
    return re.sub(r'<text [^>]*opacity="0"[^>]*>[^<]*</text>', "", drawn)
