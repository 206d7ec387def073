"""Engines at hand."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engine.kit import rigged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.engine.kit import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """An engine with a real journal and a real folder."""
    with rigged(tmp_path) as made:
        yield made


@pytest.fixture
def open_rig() -> Iterator[Rig]:
    """A rig in a folder that every user can reach."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with rigged(Path(folder)) as made:
            yield made
