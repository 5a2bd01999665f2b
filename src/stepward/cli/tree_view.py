"""A search tree in the terminal, while it grows and when it is done. What a page shows of it is in evaluation/report."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text
from rich.tree import Tree as RichTree

from stepward.core import Node, SearchResult, Tree, Usage
from stepward.core.usage import Ledger
from stepward.search.budget import NO_BUDGET, Budget, costs

_MOST_TEXT = 400  # characters of a step that are looked at
_FRAME_PER_S = 8
_LEGEND = "score of the node · ×visits and their mean q · dimmed: dropped, with the reason"


def show_tree(result: SearchResult, console: Console, *, limit: int = 120) -> None:
    """Print the tree of a result, at most `limit` nodes of it."""
    chosen = result.source.get("chosen_node")
    console.print(drawn(result.tree, chosen=chosen if isinstance(chosen, int) else None, limit=limit))
    console.print(Text(_LEGEND, style="dim"))


@dataclass
class LiveTree:
    """The tree of a search that goes on, with what it has spent of its budget; drawn anew a few times a second."""

    budget: Budget = NO_BUDGET
    ledger: Ledger = field(default_factory=Ledger)
    tree: Tree | None = None

    def show(self, tree: Tree) -> None:
        """For `search.watching`: quick, because drawing happens elsewhere."""
        self.tree = tree

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.tree is None:
            yield Text("waiting for the first step ...", style="dim")
            return
        yield drawn(self.tree, limit=max(5, (options.max_height or console.height) - 4))
        yield Text(spent_words(self.ledger.usage, self.budget), style="dim")


@contextmanager
def live(view: LiveTree, console: Console) -> Iterator[None]:
    """Keep the view on the terminal while the body runs, then clear it; nothing where there is no terminal."""
    if not console.is_terminal:
        yield
        return
    with Live(get_renderable=lambda: view, console=console, refresh_per_second=_FRAME_PER_S, transient=True):
        yield


def spent_words(usage: Usage, budget: Budget) -> str:
    """What is spent, and of how much where there is a limit."""
    spent = costs(usage, usage.calls)
    limits = budget.limits
    words = [f"{amount:,.4g} of {limits[name]:,.4g} {name}" if name in limits else f"{amount:,.4g} {name}" for name, amount in spent.items() if amount]
    return "spent: " + (", ".join(words).replace("_", " ") or "nothing yet")


def drawn(tree: Tree, *, chosen: int | None = None, limit: int = 120) -> RichTree:
    """The tree with at most `limit` nodes: the path to the `chosen` node first, else to the newest ones; the others are counted where they hang."""
    path = {node.index for node in tree.nodes[chosen].path} if chosen is not None else set()
    seen = _seen(tree, path, limit)
    root = RichTree(Text(_one_line(tree.problem.prompt), no_wrap=True, overflow="ellipsis", style="bold"), guide_style="dim")
    stack = [(tree.root, root)]
    while stack:
        node, branch = stack.pop()
        children = list(node.children)
        for child in children:
            if child.index in seen:
                stack.append((child, branch.add(_label(child, path, chosen))))
        hidden = [child for child in children if child.index not in seen]
        if hidden:
            branch.add(Text(_hidden_words(hidden), style="dim italic"))
    return root


def _seen(tree: Tree, path: set[int], limit: int) -> set[int]:
    """The nodes that are drawn, each with its ancestors."""
    seen = {0} | path
    nodes = list(tree.nodes)
    order = sorted(nodes, key=lambda node: (len(node.path), node.dropped is not None)) if path else nodes[::-1]
    for node in order:
        if len(seen) > limit:
            break
        seen.update(each.index for each in node.path)
    return seen


def _hidden_words(hidden: list[Node]) -> str:
    values = [node.value for node in hidden if not math.isnan(node.value)]
    best = f", the best {max(values):.3g}" if values else ""
    return f"… {len(hidden)} more{best}"


def _label(node: Node, path: set[int], chosen: int | None) -> Text:
    """One line: score, visits, how it came about, the text that it adds, and what became of it."""
    on_path = node.index in path
    style = "bold green" if on_path else "dim" if node.dropped else ""
    label = Text(style=style, no_wrap=True, overflow="ellipsis")
    if not math.isnan(node.value):
        label.append(f"{node.value:.3g} ", style="" if on_path or node.dropped else "cyan")
    elif node.reason and node.dropped is None:
        label.append(f"unscored ({_one_line(node.reason)}) ", style="yellow")
    elif node.reason and node.dropped and node.reason not in node.dropped:  # which says it already
        label.append("unscored ")
    if node.visits:
        label.append(f"×{node.visits} q={node.q:.3g} ")
    if node.kind != "sample":
        label.append(f"{node.kind} " if node.revises is None else f"{node.kind} of node {node.revises} ")
    if node.group is not None:
        label.append(f"group {node.group} ")
    if node.dropped:
        label.append(f"({_one_line(node.dropped)}) ", style="italic")
    if node.index == chosen:
        label.append("chosen: ")
    elif node.ended:
        label.append("cut off: " if node.trajectory.truncated else "end: ")
    label.append(_one_line(_added(node)))
    return label


def _added(node: Node) -> str:
    steps = node.trajectory.steps[len(node.parent.trajectory) if node.parent else 0 :]
    return " ⏎ ".join(step.text for step in steps)


def _one_line(text: str) -> str:
    """Without line breaks and control characters, which a terminal would obey."""
    short = " ".join(text[:_MOST_TEXT].split())
    return "".join(letter if letter.isprintable() else "�" for letter in short)
