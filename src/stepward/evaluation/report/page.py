"""The page: sections as one HTML file that needs no network, no server and no other file."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from stepward.core import InputError
from stepward.data.atomic import replacing
from stepward.evaluation.report.sections import Cell, Plot, Provenance, SearchTrees, Section, Table, Text, Viewer
from stepward.evaluation.report.tree import trees_html
from stepward.evaluation.report.viewer import script_json, viewer_data
from stepward.evaluation.statistics import Estimate

_USAGE_COLUMNS = {
    "policy_tokens": "policy tokens",
    "policy_prefill": "prefill",
    "policy_cached": "cached",
    "reward_tokens": "reward tokens",
    "reward_cached": "cached",
    "reward_written": "written",
    "calls": "calls",
    "flops": "FLOPs",
    "wall_s": "seconds",
}


def write_report(path: str | Path, *, title: str, sections: Sequence[Section], summary: str = "") -> Path:
    """Write the report and return its path; the file appears whole or not at all. Equal content gives equal bytes."""
    target = Path(path)
    with replacing(target) as stream:
        stream.write(render_report(title=title, sections=sections, summary=summary).encode("utf-8", "backslashreplace"))
    return target


def render_report(*, title: str, sections: Sequence[Section], summary: str = "") -> str:
    """The page as text. `summary` is a sentence under the title.

    Raises: InputError for something that is no section.
    """
    body, contents = [], []
    for number, section in enumerate(sections, start=1):
        if not isinstance(section, Section):
            raise InputError(f"a report is made of Text, Table, Plot, Provenance, Viewer and SearchTrees, got {type(section).__name__}")
        name = f"section-{number}"
        heading = f'<h2 id="{name}-title">{_text(section.title)}</h2>'
        body.append(f'<section id="{name}" aria-labelledby="{name}-title">\n{heading}\n{_section(section, name)}\n</section>')
        contents.append(f'<li><a href="#{name}">{_text(section.title)}</a></li>')
    return Template(_resource("report.html")).substitute(
        title=_text(title),
        summary=f'<p class="summary">{_text(summary)}</p>' if summary else "",
        style=_resource("report.css"),
        theme=_resource("theme.js"),
        script=_resource("viewer.js") if any(isinstance(section, Viewer) for section in sections) else "",
        contents="\n".join(contents),
        sections="\n".join(body),
    )


def format_cell(cell: Cell) -> str:
    """A cell as people read it: at most four significant digits and at least three decimals below 10, thousands separated, unknown as a dash."""
    if isinstance(cell, Estimate):
        if math.isnan(cell.value):
            return "–"
        interval = "" if math.isnan(cell.low) else f" [{format_cell(cell.low)}, {format_cell(cell.high)}]"
        return format_cell(cell.value) + interval
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        size = abs(cell)
        if size >= 1e9 or 0.0 < size < 5e-4:
            return f"{cell:.3g}"
        return f"{cell:,.0f}" if size >= 1e4 else f"{cell:,.1f}" if size >= 100 else f"{cell:.2f}" if size >= 10 else f"{cell:.3f}"
    return cell


def _section(section: Section, name: str) -> str:
    if isinstance(section, Text):
        return "\n".join(f"<p>{_text(paragraph)}</p>" for paragraph in section.paragraphs)
    if isinstance(section, Table):
        return _table(section.columns, section.rows, section.caption)
    if isinstance(section, Plot):
        return f"<figure>\n{_inline_svg(section.svg, name, section.title)}\n<figcaption>{_text(section.caption)}</figcaption>\n</figure>"
    if isinstance(section, Provenance):
        return _provenance(section)
    caption = f"<p>{_text(section.caption)}</p>\n" if section.caption else ""
    if isinstance(section, SearchTrees):
        return caption + trees_html(section.results, name)
    data = script_json(viewer_data(section.solutions))
    return (
        f'{caption}<div class="viewer" data-source="{name}-data"><noscript><p>The viewer needs JavaScript.</p></noscript></div>\n'
        f'<script type="application/json" id="{name}-data">{data}</script>'
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str = "") -> str:
    numeric = [bool(rows) and all(not isinstance(row[i], str) for row in rows) for i in range(len(columns))]

    def cell(tag: str, content: str, index: int, extra: str = "") -> str:
        kind = ' class="number"' if numeric[index] else ""
        return f"<{tag}{extra}{kind}>{_text(content)}</{tag}>"

    head = "".join(cell("th", column, index, ' scope="col"') for index, column in enumerate(columns))
    body = "\n".join("<tr>" + "".join(cell("td", format_cell(value), index) for index, value in enumerate(row)) + "</tr>" for row in rows)
    title = f"<caption>{_text(caption)}</caption>" if caption else ""
    return f'<div class="scroll" tabindex="0"><table>{title}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _provenance(section: Provenance) -> str:
    parts = []
    if section.settings:
        parts.append(_table(("setting", "value"), [(name, _plain(value)) for name, value in section.settings.items()]))
    if section.usage:
        rows = [(stage, *(getattr(usage, field) for field in _USAGE_COLUMNS)) for stage, usage in section.usage.items()]
        parts.append(_table(("stage", *_USAGE_COLUMNS.values()), rows, "Tokens are those behind the results, whether computed now or replayed."))
    return "\n".join(parts)


def _plain(value: str | int | float | None) -> str:
    return value if isinstance(value, str) else "–" if value is None else repr(value)


def _inline_svg(svg: str, name: str, title: str) -> str:
    """The <svg> element with ids of its own, so that several plots can share a page, and a name for screen readers."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', element)
    element = re.sub(r'(xlink:href|href)="#', rf'\1="#{name}-', element).replace("url(#", f"url(#{name}-")
    return element.replace("<svg", f'<svg role="img" aria-label="{_text(title)}"', 1).strip()


def _text(text: str) -> str:
    return html.escape(text, quote=True)


def _resource(name: str) -> str:
    return (files("stepward.evaluation.report") / name).read_text(encoding="utf-8")
