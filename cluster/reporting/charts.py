"""The charts of a report, made by Bokeh: empty figures whose data the page's script fills in.

The page draws with BokehJS, whose bundle comes with the Python package and is put into the page.
"""

from __future__ import annotations

import importlib.resources
from typing import Any

from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.models import ColumnDataSource, HoverTool
from bokeh.palettes import Category10
from bokeh.plotting import figure

BUNDLE = "server/static/js/bokeh.min.js"
COLOURS = Category10[10]
"""Colours of the values of a group, in their order."""
DAY_MS = 86_400_000
HEIGHT = 320
"""Height of a chart, in CSS pixels."""
SOURCES = {
    "bars": {"left": [0], "right": [1], "top": [1]},
    "lines": {"xs": [[0, 1]], "ys": [[0, 1]], "colour": [COLOURS[0]]},
    "points": {"x": [0, 1], "y": [0, 1]},
    "rates": {"x": [0, 1], "y": [0, 1]},
    "durations": {"x": [0, 1], "y": [0, 1]},
    "outlines": {"xs": [[0, 1, 1]], "ys": [[0, 0, 1]], "pair": [""]},
}
"""Columns of the data sources, by their names, under which the script finds them. Their first values only
give the axes a range until the script has put in others."""


def bundle() -> str:
    """Return the source text of BokehJS."""
    return importlib.resources.files("bokeh").joinpath(BUNDLE).read_text(encoding="utf-8")


def charts() -> dict[str, Any]:
    """Return the figures as BokehJS embeds them, by the id of the element that receives each."""
    sources: dict[str, Any] = {
        name: ColumnDataSource(columns, name=name) for name, columns in SOURCES.items()
    }
    made = {
        "chart-distribution": _distribution(sources),
        "chart-scatter": _scatter(sources),
        "chart-rates": _over_time(sources["rates"], "pairs a minute"),
        "chart-durations": _over_time(sources["durations"], "minutes"),
        "chart-map": _map(sources),
    }
    return {target: json_item(chart, ID(target)) for target, chart in made.items()}


def _figure(**options: Any) -> Any:
    """Return an empty figure, as wide as its element, that the page paints in its own colours."""
    return figure(
        height=HEIGHT, sizing_mode="stretch_width", toolbar_location=None, output_backend="canvas",
        background_fill_alpha=0, border_fill_alpha=0, outline_line_alpha=0, min_border_right=16,
        **options,
    )  # fmt: skip


def _distribution(sources: dict[str, Any]) -> Any:
    chart = _figure(tools="", y_axis_label="share of the pairs, %")
    chart.quad(
        left="left", right="right", top="top", bottom=0, source=sources["bars"], name="glyph",
        fill_alpha=0.35, line_alpha=0.6, line_width=0.5,
    )  # fmt: skip
    chart.multi_line("xs", "ys", color="colour", line_width=2, source=sources["lines"])
    chart.y_range.start = 0
    return chart


def _scatter(sources: dict[str, Any]) -> Any:
    chart = _figure(tools="box_select,tap", active_drag="box_select", x_axis_label=" ", y_axis_label=" ")
    chart.scatter(
        "x", "y", source=sources["points"], size=6, fill_alpha=0.5, line_alpha=0, name="glyph",
        nonselection_fill_alpha=0.12, nonselection_line_alpha=0,
    )  # fmt: skip
    return chart


def _over_time(source: Any, label: str) -> Any:
    chart = _figure(tools="", x_axis_type="datetime", y_axis_label=label)
    chart.x_range.default_span = DAY_MS  # around a single run
    chart.xaxis.ticker.desired_num_ticks = 3  # their labels are long, and the chart may be narrow
    chart.line("x", "y", source=source, line_width=1.5, name="glyph")
    chart.scatter("x", "y", source=source, size=7, name="glyph")
    chart.y_range.start = 0
    return chart


def _map(sources: dict[str, Any]) -> Any:
    chart = _figure(
        tools="pan,wheel_zoom,tap", active_scroll=None, match_aspect=True, x_axis_type="mercator",
        y_axis_type="mercator", x_axis_label="longitude, degrees", y_axis_label="latitude, degrees",
    )  # fmt: skip
    chart.patches("xs", "ys", source=sources["outlines"], fill_alpha=0.25, line_width=1.5, name="glyph")
    chart.add_tools(HoverTool(tooltips=[("pair", "@pair")]))
    return chart
