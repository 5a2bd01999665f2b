"""The data card: what a labelled data set is, for whoever uses it without having made it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from stepward.core import Example, StepLabels, Usage, canonical_json, content_hash
from stepward.core.labels import NO_ERROR
from stepward.data.curate.filtered import Filtered
from stepward.data.curate.split import question_key

_MEANING = {
    "value": "chance of a correct finish from this step, under the policy named below",
    "local": "the step follows from what it states",
    "prefix": "no error up to and including this step",
}


def data_card(
    parts: Mapping[str, Sequence[Example]], *, title: str = "Step labels", made_by: str = "", filters: Iterable[Filtered] = (), notes: str = ""
) -> str:
    """Markdown: size, what labels mean, their sources and methods with parameters, balance, confidence, cost, filters, and a hash of the content.

    `parts`: name of each part (train, dev, ...) and its examples; `made_by`: the command. Everything is computed from the examples.
    """
    every = [example for examples in parts.values() for example in examples]
    labels = [example.labels for example in every if example.labels is not None]
    blocks = [f"# {title}"]
    if made_by:
        blocks.append(f"Made by\n\n```console\n{made_by}\n```")
    blocks.append(_table(["part", "problems", "solutions", "steps", "labelled steps", "content hash"], [_size(name, part) for name, part in parts.items()]))
    semantics = Counter(one.semantics for one in labels)
    blocks.append("## What a label means\n\n" + "\n".join(f"- *{name}* ({count} solutions): {_MEANING[name]}" for name, count in sorted(semantics.items())))
    blocks.append("## Where labels come from\n\n" + (_sources(labels) or "No labels."))
    blocks.append("## Balance\n\n" + _balance(every, labels))
    blocks.append("## Confidence\n\n" + _confidence(labels))
    reasons = Counter(reason[:80] for one in labels for reason in one.reasons if reason)
    if reasons:
        blocks.append("## Steps without a label\n\n" + _table(["reason", "steps"], reasons.most_common(10)))
    blocks.append("## Cost\n\n" + _cost(labels))
    used = [one.to_record() for one in filters]
    if used:
        rows = [[one["filter"], canonical_json(one["settings"]), ", ".join(f"{name} {count:,}" for name, count in one["counts"].items())] for one in used]
        blocks.append("## Filters, in order\n\n" + _table(["filter", "settings", "what happened"], rows))
    if notes:
        blocks.append(notes)
    return "\n\n".join(blocks) + "\n"


def _size(name: str, examples: Sequence[Example]) -> list[Any]:
    n_steps = sum(len(example.trajectory) for example in examples)
    n_labelled = sum(len(example.labels) - example.labels.n_unlabelled for example in examples if example.labels is not None)
    problems = len({question_key(example.trajectory.problem) for example in examples})
    written = content_hash(*(canonical_json(example.to_record()) for example in examples))
    return [name, f"{problems:,}", f"{len(examples):,}", f"{n_steps:,}", f"{n_labelled:,}", f"`{written[:16]}`"]


def _sources(labels: Sequence[StepLabels]) -> str:
    found: Counter[str] = Counter(canonical_json(dict(one.source)) for one in labels)
    return "\n".join(f"- {count:,} solutions: `{source}`" for source, count in found.most_common(20))


def _balance(examples: Sequence[Example], labels: Sequence[StepLabels]) -> str:
    hard = Counter(good for one in labels for good in one.hard)
    first = Counter(one.first_error for one in labels)
    outcomes = Counter(None if example.trajectory.outcome is None else example.trajectory.outcome.correct for example in examples)
    wrong = {place: count for place, count in first.items() if place is not None and place != NO_ERROR}
    rows = [
        ["steps labelled good, bad, neither", f"{hard[True]:,}, {hard[False]:,}, {hard[None]:,}"],
        ["solutions without an error, with one, unknown", f"{first[NO_ERROR]:,}, {sum(wrong.values()):,}, {first[None]:,}"],
        ["final answers right, wrong, not graded", f"{outcomes[True]:,}, {outcomes[False]:,}, {outcomes[None]:,}"],
        ["first error by position (from 0)", ", ".join(f"{place}: {wrong[place]:,}" for place in sorted(wrong)[:20]) or "–"],
    ]
    types = Counter(kind for one in labels for kind in one.error_types if kind)
    if types:
        rows.append(["error types", ", ".join(f"{kind}: {count:,}" for kind, count in types.most_common(20))])
    return _table(["", ""], rows)


def _confidence(labels: Sequence[StepLabels]) -> str:
    stated = np.concatenate([one.confidence for one in labels]) if labels else np.array([])
    stated = stated[~np.isnan(stated)]
    if not len(stated):
        return "No label states how sure it is."
    cuts = np.quantile(stated, [0.05, 0.25, 0.5, 0.75, 0.95])
    return f"{len(stated):,} labels state it; quantiles 5, 25, 50, 75, 95 %: {', '.join(f'{cut:.3f}' for cut in cuts)}."


def _cost(labels: Sequence[StepLabels]) -> str:
    total = Usage.total(one.usage for one in labels)
    rows = [[name.replace("_", " "), f"{value:,}"] for name, value in total.to_record().items() if value and name != "wall_s"]
    return _table(["", "of all labels, each computed alone"], rows) if rows else "Nothing was paid for these labels, or it was not recorded."


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [list(head), ["---"] * len(head), *([str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
