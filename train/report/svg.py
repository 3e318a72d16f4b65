"""matplotlib pictures as SVG inside a page: its colours, its font, sizes that follow its width."""

import io
import re
from contextlib import AbstractContextManager
from html import escape
from typing import Any

import matplotlib
from matplotlib.figure import Figure

# Colours that stand for those of the page, which depend on light, dark and paper.
INK, SOFT, LINE, OWN, OTHER = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {INK: "ink", SOFT: "soft", LINE: "line", OWN: "own", OTHER: "other"}

_FRAME = {
    "svg.fonttype": "none",  # text stays text: searchable, and in the font of the page
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "legend.frameon": False,
    "legend.labelcolor": INK,
}


def page_style(name: str) -> AbstractContextManager[None]:
    """The settings to draw and save the picture `name` with."""
    # The names of parts inside the SVG follow from this: the same run gives the same page, and
    # two pictures on one page do not share them.
    settings: dict[Any, Any] = {**_FRAME, "svg.hashsalt": name}
    return matplotlib.rc_context(settings)


def to_svg(figure: Figure, description: str) -> str:
    """The figure as an <svg> element; description: what it says, for those who do not see it."""
    drawn = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(drawn, format="svg", metadata=nothing, transparent=True)
    svg = drawn.getvalue()
    svg = svg[svg.index("<svg") :]
    view_box = re.search(r'viewBox="[^"]*"', svg)
    assert view_box is not None
    opening = f'<svg {view_box[0]} role="img" aria-label="{escape(description)}">'
    svg = opening + svg[svg.index(">") + 1 :]
    svg = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # the same in every picture, and not used
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return re.sub(r"\s*\n\s*", "\n", svg).strip()
