"""Charts: what they show, how matplotlib draws them, and their SVG for the page, which follows its colours and is read out."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from frpo_verl.evaluation.figures import number

from .curves import Curve

COLOURS = 6  # of the page's palette; beyond them the dashes change
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))

# Colours that stand for a custom property of the page
_SERIES = [f"#fe000{i}" for i in range(COLOURS)]
_TEXT, _GRID = "#fe1002", "#fe1003"
_PROPERTIES = {c: f"var(--c{i})" for i, c in enumerate(_SERIES)} | {_TEXT: "var(--muted)", _GRID: "var(--grid)"}
#: of page and picture
STYLE = {
    "text.parse_math": False,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "lines.solid_capstyle": "round",
    "path.simplify_threshold": 0.25,  # pixels: of a long noisy line what the eye sees
}
_PAGE_STYLE = STYLE | {
    "backend": "svg",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial"],
    "axes.labelcolor": _TEXT,
    "axes.edgecolor": _TEXT,
    "axes.linewidth": 0.6,
    "grid.color": _GRID,
    "grid.linewidth": 0.7,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.7,
}
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
ET.register_namespace("", _SVG)
ET.register_namespace("xlink", _XLINK)


@dataclass
class Line:
    """A curve with the name and the looks it has on the page."""

    label: str
    curve: Curve
    colour: int = 0
    dash: int = 0

    @property
    def style(self) -> str:
        """Its classes in the page's style sheet."""
        return f"c{self.colour % COLOURS} d{self.dash % len(DASHES)}"

    def look(self, series: Sequence[str]) -> dict[str, Any]:
        """How matplotlib draws it, in these colours."""
        return {"color": series[self.colour % COLOURS], "linestyle": DASHES[self.dash % len(DASHES)]}


def legend(labels: Iterable[str]) -> list[Line]:
    """Lines of these names: in the n-th colour, the dash another one when the colours are through."""
    return [Line(label, Curve(), i % COLOURS, i // COLOURS) for i, label in enumerate(labels)]


@dataclass
class Chart:
    """What a figure of the page shows. ``kind``: steps | k | position. ``lines`` empty: ``missing`` is said."""

    key: str
    title: str
    unit: str
    lines: list[Line] = field(default_factory=list)
    text: str = ""
    missing: str = ""
    kind: str = "steps"
    zero: bool = False  # the axis reaches 0
    share: bool = False  # 0 .. 1, shown as it is

    def add(self, curve: Curve, label: str, look: int, dash: int | None = None) -> None:
        """A line for a curve, if there is anything in it, with the n-th look or a dash of its own."""
        if curve:
            self.lines.append(Line(label, curve, look % COLOURS, look // COLOURS if dash is None else dash))

    def alt(self) -> str:
        """The chart in a sentence, for those who do not see it."""
        ends = [
            f"{line.label} from {number(c.values[0])} at {c.steps[0]} to {number(c.values[-1])} at {c.steps[-1]}"
            for line in self.lines[:6]
            for c in [line.curve]
        ]
        more = f"; {len(self.lines) - 6} more lines" if len(self.lines) > 6 else ""
        return f"{self.title}, {self.unit}: {'; '.join(ends)}{more}."

    def rows(self) -> list[list[str]]:
        """The chart as a table: a row a line, with its first and last value and its range."""
        curves = [(line.label, line.curve, line.curve.values) for line in self.lines]
        ends = [v[-1] if c.points else c.at_end() for _, c, v in curves]
        found = [(label, v[0], end, min(v), max(v)) for (label, _, v), end in zip(curves, ends, strict=True)]
        return [[label, *map(number, numbers)] for label, *numbers in found]


def draw_on(axis: Any, chart: Chart, series: Sequence[str]) -> None:
    """Draw a chart on matplotlib's axes, its lines in these colours; of a noisy line a running mean."""
    from matplotlib.ticker import MaxNLocator, NullLocator

    for line in chart.lines:
        c, look = line.curve.smoothed(), line.look(series)
        if c is not line.curve and len(chart.lines) <= 3:
            axis.plot(line.curve.steps, line.curve.values, color=look["color"], alpha=0.3, linewidth=0.7)
        if c.low:
            axis.fill_between(c.steps, c.low, c.high, color=look["color"], alpha=0.16, linewidth=0)
        marker = "o" if c.points or len(c) == 1 else None
        axis.plot(c.steps, c.values, **look, marker=marker, markersize=3.5, label=line.label)
    high = axis.get_ylim()[1]
    values = [v for line in chart.lines for v in line.curve.values]
    if chart.share and min(values) >= 0 and max(values) <= 1:
        axis.set_ylim(0, min(1.02, max(0.05, max([*values, high if high <= 1 else 1.0]))))
    elif chart.zero and min(values) >= 0:
        axis.set_ylim(0, 1.06 * max(high, *values) if any(values) else 1)
    elif chart.zero:
        axis.axhline(0, color=axis.xaxis.label.get_color(), linewidth=0.6)
    axis.yaxis.set_major_locator(MaxNLocator(nbins=5))
    if chart.kind == "position":
        axis.set_xticks([1, 2, 3, 4], ["1st", "2nd", "3rd", "4th"])
        axis.set_xlabel("quarter of the answer")
    elif chart.kind == "k":
        ks = sorted({k for line in chart.lines for k in line.curve.steps})
        shown = ks if len(ks) <= 7 else ks[:: -(-len(ks) // 7)]
        axis.set_xscale("log", base=2)
        axis.set_xticks(shown, [str(k) for k in shown])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlabel("k (answers tried)")
    else:
        axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axis.set_xlabel("step")


def draw(chart: Chart) -> str:
    """The chart as an SVG element for a page: colours by custom properties, real text, role and label of an image."""
    import io

    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style = {**matplotlib.rcParamsDefault, **_PAGE_STYLE, "svg.hashsalt": chart.key}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(4.9, 2.8))
        FigureCanvasSVG(figure)
        draw_on(figure.add_axes((0.135, 0.18, 0.85, 0.76)), chart, _SERIES)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return _for_page(buffer.getvalue(), chart)


def _for_page(svg: str, chart: Chart) -> str:
    """Only what is drawn: no prologue, no ids that nothing refers to; an image with a name."""
    root = ET.fromstring(svg.encode())
    for parent in root.iter():
        for child in list(parent):
            if child.tag == f"{{{_SVG}}}style":
                parent.remove(child)
    used = set(re.findall(r"#([\w.-]+)", " ".join(v for e in root.iter() for v in e.attrib.values())))
    for element in root.iter():
        if element.get("id") and element.get("id") not in used:
            del element.attrib["id"]
        if "#fe" in element.get("style", ""):
            style = element.attrib["style"]
            element.set("style", re.sub(r"#fe[01]00[0-9]", lambda m: _PROPERTIES[m.group()], style))
        for name in {"d", "x", "y"} & set(element.attrib):  # hundredths of a point are enough
            element.set(name, re.sub(r"(\d\.\d\d)\d+", r"\1", element.attrib[name]))
    root.attrib.pop("width", None)
    root.attrib.pop("height", None)
    root.set("role", "img")
    root.set("aria-label", chart.alt())
    return re.sub(r">\s+<", "><", ET.tostring(root, encoding="unicode"))
