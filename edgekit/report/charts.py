"""What each chart shows: rows of figures to Vega-Lite specifications.

Every mark that stands for something says in words what it is, its row's `said`, which the page shows under the pointer.
"""

from collections.abc import Sequence
from typing import Any

from edgekit.report.document import Spec
from edgekit.report.drawing import INK, LINE, NARROW, QUIET, SERIES

Rows = Sequence[dict[str, Any]]

STEP = 34
"""Pixels of a row."""

MANY = 8
"""Dots of which not all can be named."""

LONG_NAME = 40
"""Characters of which two do not stand side by side in a legend."""

OWN_COLOUR = {"field": "colour", "type": "nominal", "scale": None}
"""Rows bring their colour along."""

SAID = {"field": "said"}

BESIDE = {"type": "text", "align": "left", "dx": 8, "aria": False}
"""Text to the right of where a bar ends."""


def bars(rows: Rows, title: str, width: int) -> Spec:
    """A bar from zero for each `name` to its `value`, with `low` and `high` around it, and `text` behind it."""
    room = {"scale": {"domain": [0, 1.15 * max(row["high"] for row in rows)]}}  # for the text behind the longest bar
    value = {**quantity("value", title, tickCount=ticks(width)), **room}
    return {
        "data": {"values": list(rows)},
        "height": {"step": STEP},
        "encoding": {"y": names(width)},
        "layer": [
            {
                "mark": {"type": "bar", "height": {"band": 0.5}, "cornerRadiusEnd": 3},
                "encoding": {"x": value, "color": OWN_COLOUR, "description": SAID},
            },
            {
                "mark": {"type": "rule", "color": INK, "strokeWidth": 1.5, "aria": False},
                "encoding": {"x": {**value, "field": "low"}, "x2": {"field": "high"}},
            },
            {"mark": BESIDE, "encoding": {"x": {**value, "field": "high"}, "text": {"field": "text"}}},
        ],
    }


def strips(rows: Rows, marks: Rows, title: str, width: int) -> Spec:
    """A thin tick for each of `rows`, `name` and `value`, and a sign for each of `marks`, `what` it is."""
    value = quantity("value", title, tickCount=5, format="+.3~g")
    shapes = {"domain": ["median", "p90"], "range": ["circle", "diamond"]}
    legend = {"symbolFillColor": QUIET, "symbolStrokeWidth": 0}
    return {
        "height": {"step": STEP},
        "layer": [
            {
                "data": {"values": list(rows)},
                "mark": {"type": "tick", "thickness": 1.5, "height": 16, "opacity": 0.45, "aria": False},
                "encoding": {"x": value, "y": names(width), "color": OWN_COLOUR},
            },
            {
                "data": {"values": list(marks)},
                "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1, "stroke": "var(--page)"},
                "encoding": {
                    "x": value,
                    "y": names(width),
                    "color": OWN_COLOUR,
                    "shape": {"field": "what", "type": "nominal", "scale": shapes, "legend": legend},
                    "description": SAID,
                },
            },
        ],
    }


def waterfall(rows: Rows, budget: float, title: str, width: int) -> Spec:
    """A bar from zero for each `name` to its `value`, `low` and `high` around it, `text` at `end`, and the budget."""
    value = quantity("value", title, tickCount=ticks(width), format="+.3~g")
    layer: list[dict[str, Any]] = [
        {
            "data": {"values": [{"value": budget}]},
            "mark": {"type": "rule", "color": QUIET, "strokeDash": [4, 4], "aria": False},
            "encoding": {"x": value},
        },
        {
            "data": {"values": [{"value": 0}]},
            "mark": {"type": "rule", "color": QUIET, "aria": False},
            "encoding": {"x": value},
        },
    ]
    bars: list[dict[str, Any]] = [
        {
            "mark": {"type": "bar", "height": {"band": 0.5}},
            "encoding": {"x": value, "color": OWN_COLOUR, "description": SAID},
        },
        {
            "mark": {"type": "rule", "color": INK, "strokeWidth": 1.5, "aria": False},
            "encoding": {"x": {**value, "field": "low"}, "x2": {"field": "high"}},
        },
        {"mark": BESIDE, "encoding": {"x": {**value, "field": "end"}, "text": {"field": "text"}}},
    ]
    shared = {"data": {"values": list(rows)}}
    return {
        "height": {"step": STEP},
        "layer": [*layer, *({**shared, **one, "encoding": {"y": names(width), **one["encoding"]}} for one in bars)],
    }


def stacks(rows: Rows, totals: Rows, parts: Sequence[str], title: str, width: int) -> Spec:
    """A bar for each `name`, put together of `parts` with a `value` each, with a `text` behind it."""
    value = quantity("value", title, tickCount=ticks(width))
    return {
        "height": {"step": STEP},
        "layer": [
            {
                "data": {"values": list(rows)},
                "mark": {"type": "bar", "height": {"band": 0.55}},
                "encoding": {
                    "x": {**value, "stack": "zero"},
                    "y": names(width),
                    "color": {**series("part", parts), "legend": {"columns": 2 if width <= NARROW else len(parts)}},
                    "order": {"field": "order", "type": "quantitative"},
                    "description": SAID,
                },
            },
            {
                "data": {"values": list(totals)},
                "mark": BESIDE,
                "encoding": {"x": value, "y": names(width), "text": {"field": "text"}},
            },
        ],
    }


def trade_off(rows: Rows, frontier: Rows, titles: tuple[str, str], width: int, *, from_zero: bool = True) -> Spec:
    """A dot with its `name` for each pair of `x` and `y`, and a line along those that no other beats in both.

    Both axes begin at zero, so that what looks twice as large is, unless `y` is said not to. Names stand above and
    below in turn, on the page's own ground; where there is little room or there are many, those on the line alone.
    """
    x, y = (
        {**quantity(field, title, tickCount=5), "scale": {"domain": [0, 1.15 * max(row[field] for row in rows)]}}
        for field, title in zip(("x", "y"), titles, strict=True)
    )
    if not from_zero:
        y["scale"] = {"zero": False, "nice": True, "padding": 24}
    named = list(frontier if width <= NARROW or len(rows) > MANY else rows)
    line = {"type": "line", "interpolate": "step-after", "color": QUIET, "strokeDash": [4, 4], "aria": False}
    dots = {"type": "point", "filled": True, "size": 110, "opacity": 0.9}
    ground = {"stroke": "var(--page)", "strokeWidth": 5, "strokeJoin": "round"}
    names = [
        {
            "data": {"values": named[start::2]},
            "mark": {"type": "text", "dy": shift, "aria": False, **style},
            "encoding": {"text": {"field": "name"}},
        }
        for start, shift in ((0, -15), (1, 17))
        for style in (ground, {})
    ]
    return {
        "height": 260 if width <= NARROW else 320,
        "encoding": {"x": x, "y": y},
        "layer": [
            {"data": {"values": list(frontier)}, "mark": line},
            *names,
            {
                "data": {"values": list(rows)},
                "mark": dots,
                "encoding": {"color": OWN_COLOUR, "description": SAID},
            },
        ],
    }


def lines(rows: Rows, names: Sequence[str], titles: tuple[str, str], width: int) -> Spec:
    """A line with dots for each of these `name`s, through its pairs of `x`, whole numbers, and `y`."""
    whole = sorted({row["x"] for row in rows})
    x = quantity("x", titles[0], values=whole[:: -(-len(whole) // ticks(width))])
    y = quantity("y", titles[1], tickCount=5)
    columns = 1 if width <= NARROW or max(map(len, names)) > LONG_NAME else 2
    colour = {**series("name", names), "legend": {"columns": columns, "labelLimit": width - 40}}
    return {
        "data": {"values": [row for row in rows if row["name"] in names]},
        "height": 220,
        "encoding": {"x": {**x, "scale": {"zero": False}}, "y": {**y, "scale": {"zero": False}}, "color": colour},
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 1.5, "aria": False}},
            {"mark": {"type": "point", "filled": True, "size": 60, "opacity": 1}, "encoding": {"description": SAID}},
        ],
    }


def roofline(rows: Rows, roofs: Rows, kinds: Sequence[str], width: int) -> Spec:
    """A dot for each operator, `x` MACs per byte and `y` 10^9 MACs per second, below the `roof`s of the machine.

    Area is time. A roof has two or more points; it is called by the `text` at one of them, `above` it or `below`.
    """
    scale = {"type": "log", "nice": False}
    titles = (("x", "MACs per byte moved"), ("y", "10⁹ MACs per second"))
    x, y = ({**quantity(field, title, tickCount=4, format="~g"), "scale": scale} for field, title in titles)
    areas = {"range": [12, 420 if width <= NARROW else 700]}
    kind = {**series("kind", kinds), "legend": {"columns": 1 if width <= NARROW else 3}}
    return {
        "height": 300 if width <= NARROW else 380,
        "encoding": {"x": x, "y": y},
        "layer": [
            {
                "data": {"values": list(roofs)},
                "mark": {"type": "line", "color": QUIET, "strokeWidth": 1.5, "aria": False},
                "encoding": {"detail": {"field": "roof", "type": "nominal"}},
            },
            _called(roofs, "above", {"align": "right", "dy": -8}),
            _called(roofs, "below", {"align": "left", "dx": 14, "dy": 2}),
            {
                "data": {"values": list(rows)},
                "mark": {"type": "point", "filled": True, "opacity": 0.7, "stroke": "var(--page)", "strokeWidth": 0.5},
                "encoding": {
                    "size": {"field": "ms", "type": "quantitative", "scale": areas, "legend": None},
                    "color": kind,
                    "description": SAID,
                },
            },
        ],
    }


def _called(roofs: Rows, side: str, place: dict[str, Any]) -> dict[str, Any]:
    """The names of roofs on one side of them."""
    return {
        "data": {"values": [roof for roof in roofs if roof.get("side") == side]},
        "mark": {"type": "text", "color": QUIET, "fontSize": 11, "aria": False, **place},
        "encoding": {"text": {"field": "text"}},
    }


def against(rows: Rows, title: str, width: int) -> Spec:
    """A pale bar for each `name` to its `value`, and a dark one in it to what is `best` possible."""
    value = quantity("value", title, tickCount=ticks(width))
    bar = {"type": "bar", "height": {"band": 0.62}}
    return {
        "data": {"values": list(rows)},
        "height": {"step": 26},
        "encoding": {"y": names(width)},
        "layer": [
            {
                "mark": {**bar, "color": LINE, "stroke": QUIET, "strokeWidth": 0.75},
                "encoding": {"x": value, "description": SAID},
            },
            {"mark": {**bar, "color": SERIES[0], "aria": False}, "encoding": {"x": {**value, "field": "best"}}},
            {"mark": BESIDE, "encoding": {"x": value, "text": {"field": "text"}}},
        ],
    }


def names(width: int) -> dict[str, Any]:
    """Rows by `name`, in their order; a name may take half of the width."""
    axis = {"title": None, "labelLimit": width // 2, "labelPadding": 10}
    return {"field": "name", "type": "nominal", "sort": None, "axis": axis}


def quantity(field: str, title: str, **axis: Any) -> dict[str, Any]:
    """A figure along an axis with this title."""
    return {"field": field, "type": "quantitative", "axis": {"title": title, **axis}}


def series(field: str, names: Sequence[str]) -> dict[str, Any]:
    """A colour for each of these names, in their order."""
    return {"field": field, "type": "nominal", "scale": {"domain": list(names), "range": list(SERIES[: len(names)])}}


def ticks(width: int) -> int:
    """About how many an axis has room for."""
    return 4 if width <= NARROW else 6
