"""docs/search.md says of every strategy what its class says, and when to take it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepward.cli.strategy_page import renewed, strategy_page
from stepward.core import InputError
from stepward.search.load import COMPONENTS, STRATEGIES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "search.md").read_text(encoding="utf-8")


def test_the_page_is_up_to_date() -> None:
    assert renewed(PAGE) == PAGE, "run `python -m stepward.cli.strategy_page docs/search.md`"


def test_every_strategy_has_its_place_and_a_word_on_when_to_take_it() -> None:
    made, when = strategy_page(), PAGE.partition("## Which strategy when")[2].partition("## Strategies")[0]
    for entry in STRATEGIES.values():
        assert f"### `{entry.name}`" in made
        assert f"`{entry.name}`" in when, f"{entry.name} is missing in the table"
        assert "Cost" in entry.doc, f"{entry.name} does not tell its cost"
    for entry in COMPONENTS.values():
        assert f"### {entry.what} `{entry.name}`" in made


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(InputError, match="no place for the strategies"):
        renewed("# Another page\n")
