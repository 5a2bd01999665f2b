"""Canvas: axes to draw on, without pyplot's global state, and the image as SVG text or PNG bytes. What is drawn lives beside it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

INK = "#0f1e2d"  # stands for the page's text colour until an SVG is written
BLUE, ORANGE, GREEN, PINK, GREY = "#2f83c5", "#dd7711", "#1a9e77", "#c76a9f", "#8a8f98"  # after Okabe and Ito, readable on white and black
Draw = Callable[[Any], None]
_DPI = 160


def svg(draw: Draw, size: tuple[float, float] = (6.8, 4.2)) -> str:
    """The drawing as SVG text without dates and random ids: equal drawings are equal texts. Axes take the colour of the page's text."""
    text = _image(draw, size, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}).decode()
    return text[text.index("<svg") :].replace(INK, "currentColor")


def png(draw: Draw, size: tuple[float, float] = (6.8, 4.2)) -> bytes:
    """The drawing as a PNG on white."""
    return _image(draw, size, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})


def _image(draw: Draw, size: tuple[float, float], **how: Any) -> bytes:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style = {
        "svg.hashsalt": "stepward",
        "svg.fonttype": "none",
        "font.family": ["sans-serif"],
        "font.size": 10,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "axes.titlecolor", "legend.labelcolor"), INK),
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        axes.grid(color=GREY, alpha=0.25, linewidth=0.6)
        axes.set_axisbelow(True)
        draw(axes)
        stream = io.BytesIO()
        figure.savefig(stream, **how)
    return stream.getvalue()
