"""A real folder to watch, and a real process to make things happen in it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from uploaderd.spool.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """An empty folder to be watched."""
    path = tmp_path / "spool"
    path.mkdir()
    return path


@pytest.fixture
def tree(spool: Path) -> Iterator[Tree]:
    """The folder, open."""
    tree = Tree(spool)
    tree.open()
    yield tree
    tree.close()


@pytest.fixture
def child() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start a Python process that has said "ready"; it ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(program: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
