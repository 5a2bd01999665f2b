"""Search trees as HTML: nested <details>, open along the chosen path and closed beyond it. No script; everything that was written by a model is escaped."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from stepward.core import Node, SearchResult, Tree

MOST_NODES = 2000  # of one tree that are written out
_MOST_SIBLINGS = 16  # beside the chosen one, before the rest is folded
_SHORT = 240  # characters of a step that stand in its line


def trees_html(results: Sequence[SearchResult], name: str, *, most_nodes: int = MOST_NODES) -> str:
    """One folded block a result; `name` makes the ids of the nodes unique on the page."""
    return "\n".join(_result(result, f"{name}-{number}", number, most_nodes) for number, result in enumerate(results, start=1))


def chosen_node(result: SearchResult) -> Node | None:
    """The end that the search chose: the one that its source names, else the first whose text is the chosen one."""
    if result.chosen is None:
        return None
    named = result.source.get("chosen_node")
    if isinstance(named, int) and 0 <= named < len(result.tree) and result.tree.nodes[named].trajectory.key == result.chosen.key:
        return result.tree.nodes[named]
    return next((node for node in result.tree.ends if node.trajectory.key == result.chosen.key), None)


def _result(result: SearchResult, name: str, number: int, most_nodes: int) -> str:
    chosen = chosen_node(result)
    tree, outcome = result.tree, None if result.chosen is None else result.chosen.outcome
    mark = "no answer" if result.chosen is None else "ungraded" if outcome is None or not outcome.scored else "✓ correct" if outcome.correct else "✗ wrong"
    dropped = sum(node.dropped is not None for node in tree)
    facts = {
        "problem": tree.problem.id,
        "answer": None if outcome is None else outcome.answer,
        "reference": tree.problem.answer,
        "why there is no answer": result.reason,
        "ungraded because": None if outcome is None else outcome.reason,
        "stopped": result.source.get("stopped"),
        "failure": result.source.get("failure"),
        "nodes": f"{len(tree):,}, {len(tree.ends):,} of them ends, {dropped:,} dropped",
        "cost": f"{result.usage.policy_tokens:,} policy tokens, {result.usage.reward_tokens + result.usage.reward_written:,} reward tokens",
        "search": result.source.get("search"),
    }
    rows = "".join(f"<div><dt>{_text(key)}</dt><dd>{_text(str(value))}</dd></div>" for key, value in facts.items() if value not in (None, ""))
    opened, prompt = " open" if number == 1 else "", _text(tree.problem.prompt)
    return (
        f'<details class="search"{opened}><summary><span class="mark">{number}. {mark}</span> <span class="prompt">{prompt}</span></summary>\n'
        f'<div class="problem">{prompt}</div>\n<dl class="facts">{rows}</dl>\n{_tree(tree, chosen, name, most_nodes)}\n</details>'
    )


def _tree(tree: Tree, chosen: Node | None, name: str, most_nodes: int) -> str:
    """Nested lists, written with a stack: a tree may be deeper than Python's recursion."""
    path = {node.index for node in chosen.path} if chosen is not None else set()
    shown = _shown(tree, path, most_nodes)
    parts: list[str] = []
    stack: list[str | Node] = [*_list(tree.root, path, shown)][::-1]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            parts.append(item)
            continue
        below = _list(item, path, shown)
        inside = _inside(item)
        parts.append(_node(item, chosen, path, name, leaf=not (below or inside)))
        stack.extend([inside, *below, "</details></li>"][::-1] if below or inside else ["</div></li>"])
    return "".join(parts)


def _list(node: Node, path: set[int], shown: set[int]) -> list[str | Node]:
    """The node's children as a list: those on the path first, a few more, the others folded; what is not shown is counted."""
    children = sorted((child for child in node.children if child.index in shown), key=lambda child: child.index not in path)
    absent = len(node.children) - len(children)
    if not node.children:
        return []
    first, rest = children[: _MOST_SIBLINGS + 1], children[_MOST_SIBLINGS + 1 :]
    found: list[str | Node] = ['<ul class="tree">', *first]
    if rest:
        found += [f'<li><details class="node"><summary class="more">{_counted(rest)}</summary><ul class="tree">', *rest, "</ul></details></li>"]
    if absent:
        found.append(f'<li class="more">{absent:,} more, in the file of results</li>')
    return [*found, "</ul>"]


def _node(node: Node, chosen: Node | None, path: set[int], name: str, *, leaf: bool) -> str:
    """The node's own line; what opens here is closed by whoever writes what is inside."""
    on_path = node.index in path
    classes = " ".join(["node", *(["chosen-path"] if on_path else []), *(["dropped"] if node.dropped else [])])
    text = _added(node)
    line = f'{_badges(node, chosen, name)}<span class="text">{_text(_shortened(text))}</span>'
    anchor = f'id="{name}-n{node.index}"'
    if leaf:
        return f'<li><div class="{classes} leaf" {anchor}>{line}'
    return f'<li><details class="{classes}"{" open" if on_path else ""}><summary {anchor}>{line}</summary>'


def _badges(node: Node, chosen: Node | None, name: str) -> str:
    badges = [f'<span class="number">{node.index}</span>']
    if not math.isnan(node.value):
        badges.append(f'<span class="value" title="score">{node.value:.3g}</span>')
    elif node.reason:
        badges.append('<span class="value unscored">unscored</span>')
    if node.visits:
        badges.append(f'<span class="badge" title="visits and the mean of what came back">×{node.visits:,} q {node.q:.3g}</span>')
    if node.kind != "sample":
        rewritten = "" if node.revises is None else f' of <a href="#{name}-n{int(node.revises)}">{int(node.revises)}</a>'
        badges.append(f'<span class="badge">{_text(str(node.kind))}{rewritten}</span>')
    if node.group is not None:
        badges.append(f'<span class="badge">group {_text(str(node.group))}</span>')
    if node is chosen:
        badges.append('<span class="badge chosen">chosen</span>')
    elif node.trajectory.finished:
        badges.append('<span class="badge">end</span>')
    if node.trajectory.truncated:
        badges.append('<span class="badge">cut off</span>')
    if node.dropped:
        badges.append(f'<span class="badge why">dropped: {_text(node.dropped)}</span>')
    return " ".join(badges) + " "


def _inside(node: Node) -> str:
    """What stands under the node's line: why it is unscored, its text where the line has not all of it, several steps with their scores, observations."""
    start = len(node.parent.trajectory) if node.parent else 0
    steps = node.trajectory.steps[start:]
    parts = [f'<p class="reason">unscored: {_text(node.reason)}</p>'] if node.reason else []
    if len(steps) > 1:
        rows = "".join(f"<li>{_score(node, start + place)}{_text(step.text)}{_observed(step.observation)}</li>" for place, step in enumerate(steps))
        parts.append(f'<ol class="written" start="{start + 1}">{rows}</ol>')
    else:
        if _shortened(text := _added(node)) != text:
            parts.append(f'<div class="written">{_text(text)}</div>')
        parts += [_observed(step.observation) for step in steps]
    return "".join(parts)


def _score(node: Node, step: int) -> str:
    """The step's own score, where the node holds scores of all its steps."""
    if node.scores is None or len(node.scores) <= step:
        return ""
    value = float(node.scores.values[step])
    return '<span class="value unscored">unscored</span> ' if math.isnan(value) else f'<span class="value">{value:.3g}</span> '


def _observed(observation: str | None) -> str:
    return "" if observation is None else f'<div class="observation">observed: {_text(observation)}</div>'


def _shortened(text: str) -> str:
    return text if len(text) <= _SHORT else text[:_SHORT].rstrip() + " …"


def _counted(nodes: Sequence[Node]) -> str:
    values = [node.value for node in nodes if not math.isnan(node.value)]
    return f"{len(nodes):,} more" + (f", the best {max(values):.3g}" if values else "")


def _shown(tree: Tree, path: set[int], most: int) -> set[int]:
    """The chosen path, then the nodes nearest to the root, each with its ancestors."""
    if len(tree) <= most:
        return set(range(len(tree)))
    seen = {0} | path
    depths = [0] * len(tree)
    for node in tree.nodes[1:]:
        depths[node.index] = depths[node.parent.index] + 1 if node.parent else 0
    for index in sorted(range(len(tree)), key=lambda index: depths[index]):
        if len(seen) >= most:
            break
        seen.add(index)
    return seen


def _added(node: Node) -> str:
    return "\n".join(step.text for step in node.trajectory.steps[len(node.parent.trajectory) if node.parent else 0 :])


def _text(text: str) -> str:
    return html.escape(text, quote=True)
