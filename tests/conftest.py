"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with public benchmark data; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("STEPWARD_DATA", _REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"benchmark data not found at {folder}; set STEPWARD_DATA to its folder")
    return folder
