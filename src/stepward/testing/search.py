"""check_search: the conformance suite of the Search protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from stepward.core import Node, Problem, Search, SearchResult, Step, Tree, canonical_json
from stepward.testing.conformance import Check, expect, run_checks, shuffled


def check_search(search: Search, problems: Sequence[Problem]) -> list[str]:
    """Run every check of the Search protocol on a few problems; return the checks' names.

    Raises: NotConformant listing every failed check.
    """
    expect(bool(problems), "check_search needs at least one problem")

    async def chosen_is_in_the_tree() -> None:
        for problem in problems:
            result = await search.search(problem)
            keys = {node.trajectory.key for node in result.tree.ends}
            expect(result.chosen is None or result.chosen.key in keys, "the chosen trajectory is not an end of the tree")
            expect(result.tree.problem == problem, "the tree belongs to another problem")

    async def tree_is_whole() -> None:
        for problem in problems:
            for node in (await search.search(problem)).tree:
                expect(node.parent is None or node in node.parent.children, f"{node} is missing among its parent's children")

    async def usage_is_metered() -> None:
        result = await search.search(problems[0])
        written = sum(step.n_tokens or 0 for node in result.tree for step in written_steps(result.tree, node))
        expect(result.usage.policy_tokens >= written > 0 or written == 0, f"the tree holds {written} written tokens, usage says {result.usage.policy_tokens}")
        expect(result.usage.calls > 0, "a search must report its calls")

    async def company_does_not_matter() -> None:
        def text(result: SearchResult) -> str:
            return canonical_json([None if result.chosen is None else result.chosen.to_record(), result.tree.to_record()])

        alone = [text(await search.search(problem)) for problem in problems]
        mixed = shuffled(problems)
        together = await asyncio.gather(*(search.search(problem) for _, problem in mixed))
        for (index, problem), result in zip(mixed, together, strict=True):
            expect(text(result) == alone[index], f"the search gives another result in company: problem {problem.id}")

    async def records_are_exact() -> None:
        result = await search.search(problems[0])
        again = SearchResult.from_record(result.to_record())
        expect(canonical_json(again.to_record()) == canonical_json(result.to_record()), "the result does not survive being written")

    checks: dict[str, Check] = {
        "the chosen trajectory is in the tree": chosen_is_in_the_tree,
        "the tree is whole": tree_is_whole,
        "usage is metered": usage_is_metered,
        "order and company do not matter": company_does_not_matter,
        "results survive being written": records_are_exact,
    }
    return run_checks(f"search {search.fingerprint}", checks)


def written_steps(tree: Tree, node: Node) -> tuple[Step, ...]:
    """The steps that were written for a node: those behind its parent's, and of a refinement those behind what it kept of its draft."""
    if node.parent is None or (node.kind == "partial" and any(sibling.revises == node.index for sibling in node.parent.children)):
        return ()  # a step that was broken off is part of the node that finished it
    known = [node.parent.trajectory] if node.revises is None else [node.parent.trajectory, tree.nodes[node.revises].trajectory]
    shared = max(sum(1 for mine, its in zip(node.trajectory.keys, other.keys, strict=False) if mine == its) - 1 for other in known)
    return node.trajectory.steps[shared:]
