"""Protected regions: code blocks and displayed mathematics, inside which no step begins."""

from __future__ import annotations

import re

_ENVIRONMENTS = (
    "align|alignat|aligned|alignedat|array|asy|bmatrix|Bmatrix|cases|cd|dcases|displaymath|eqnarray|equation|flalign|gather|gathered|lstlisting|"
    "math|matrix|multline|pmatrix|smallmatrix|split|subequations|tabular|tikzpicture|verbatim|vmatrix|Vmatrix"
)
_OPENING = re.compile(
    r"^[ \t]*(?P<fence>`{3,}|~{3,})"
    r"|(?<!\\)\\\[(?P<bracket>)"
    r"|(?<!\\)\$\$(?P<dollars>)"
    rf"|\\begin\{{(?P<environment>(?:{_ENVIRONMENTS})\*?)\}}",
    re.MULTILINE,
)


def protected(text: str) -> list[tuple[int, int]]:
    """Character spans [start, end) of ``` and ~~~ code blocks, \\[ \\], $$ $$ and \\begin \\end of displays and tables, in order, apart.

    A code block that is never closed reaches to the end of the text; other openings that are never closed protect nothing.
    """
    regions: list[tuple[int, int]] = []
    hopeless: set[str] = set()  # closings that do not occur any more; keeps the scan linear
    position = 0
    while match := _OPENING.search(text, position):
        position = match.end()
        if match["fence"] is not None:
            closing = re.compile(rf"^[ \t]*{match['fence'][0]}{{{len(match['fence'])},}}[ \t]*$", re.MULTILINE)
            line_end = text.find("\n", position)
            found = None if line_end < 0 else closing.search(text, line_end)
            end = len(text) if found is None else found.end()
        else:
            close = "\\]" if match["bracket"] is not None else "$$" if match["dollars"] is not None else f"\\end{{{match['environment']}}}"
            index = -1 if close in hopeless else text.find(close, position)
            if index < 0:
                hopeless.add(close)
                continue
            end = index + len(close)
        regions.append((match.start(), end))
        position = end
    return regions
