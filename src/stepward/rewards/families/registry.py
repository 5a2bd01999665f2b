"""The registry: which family a checkpoint belongs to, and conventions by name or file. The families' records are in the other files of this folder."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepward.core import InputError
from stepward.rewards.checkpoint import read_convention
from stepward.rewards.convention import CONFIG_KEY, EXAMPLE_ENTRY, Convention
from stepward.rewards.families import classifiers, several_passes, turns, verdicts
from stepward.rewards.families.family import Family, ReadBy, lacking

if TYPE_CHECKING:
    from stepward.rewards.loading import CheckpointFolder

FAMILIES: tuple[Family, ...] = (*classifiers.FAMILIES, *verdicts.FAMILIES, *turns.FAMILIES, *several_passes.FAMILIES)


def family_named(name: str) -> Family:
    """The family of this name.

    Raises: InputError listing the known ones.
    """
    for family in FAMILIES:
        if family.name == name:
            return family
    raise InputError(f"unknown convention {name!r}; known ones: {', '.join(family.name for family in FAMILIES)}; or give a JSON file")


def convention_from(text: str) -> Convention:
    """A convention from what a user types: the name of a family, or a JSON file with what `Convention.to_json` writes.

    Raises: InputError for an unknown name or a file that holds no convention.
    """
    path = Path(text)
    if path.suffix != ".json" and not path.is_file():
        return family_named(text).convention
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read a convention from {text!r}: {error}; give a family's name or a JSON file of Convention.to_json()") from error
    if not isinstance(record, dict):
        raise InputError(f"{text!r} holds no convention but {type(record).__name__}; a convention is a JSON object")
    return Convention.from_json(record)


def recognise(config: Any, tokenizer: Any, weights: Collection[str] | None = None, *, hub_id: str = "", source: str = "") -> Family:
    """The family that a checkpoint belongs to, from its config, tokenizer and parameter names.

    Among several families that admit it, the one that publishes exactly `hub_id` is taken, else the only distinctive one. `source` names the checkpoint in
    errors.

    Raises: InputError, saying what to do, when no family admits it or several cannot be told apart.
    """
    admitted = [family for family in FAMILIES if family.matches(config, tokenizer, weights)]
    published = [family for family in admitted if hub_id and hub_id in family.published]
    distinctive = [family for family in admitted if family.distinctive]
    for found in (published, distinctive):
        if len(found) == 1:
            return found[0]
    kind = (getattr(config, "architectures", None) or [type(config).__name__])[0]
    names = ", ".join(family.name for family in admitted)
    read = f"as {kind} it could be read like {names}, and only one of them is right" if admitted else f"and no family that stepward knows is a {kind} like it"
    raise InputError(
        f"{source or hub_id or 'this checkpoint'!r} does not say how it is read: its config.json has no {CONFIG_KEY!r} entry, {read}. Name the convention that "
        f"it was trained with (--convention NAME_OR_JSON_FILE), pass convention=convention_from(NAME) or Convention(...), or add the entry, for example "
        f"{EXAMPLE_ENTRY}. A plain language model has to be trained first"
    )


def reading_of(checkpoint: CheckpointFolder, given: Convention | None = None) -> tuple[Convention, ReadBy]:
    """How a checkpoint is read and by which of our models: as `given`, as its own config says, or as the registry knows its family.

    A convention of a family's name is read by that family's model, also where some of its fields were changed.

    Raises: InputError as `recognise`, and where the tokenizer lacks what the family's own convention needs.
    """
    known = given or read_convention(checkpoint.config)
    if known is None:
        hub_id = "" if checkpoint.is_local else checkpoint.source
        family = recognise(checkpoint.config, checkpoint.tokenizer, checkpoint.weight_names, hub_id=hub_id, source=checkpoint.source)
        return family.convention, family.reader
    named = next((family for family in FAMILIES if family.name == known.name), None)
    if named is None:
        return known, "implicit" if known.head == "log-ratio" else "one-pass"
    absent = lacking(checkpoint.tokenizer, named.pieces) if named.convention == known else []
    if absent:
        raise InputError(
            f"convention {known.name!r} needs {', '.join(map(repr, absent))} in the vocabulary, and the tokenizer of {checkpoint.source!r} has none"
        )
    return known, named.reader
