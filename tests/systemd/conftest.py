"""One guest for all tests that need a real systemd; where none can be, they are skipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.figures import report
from tests.systemd.guest import PROGRAM, Guest, missing
from tests.systemd.unit import Unit
from uploaderd.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """Boot a guest in which ``uploaderd service install`` was called."""
    why = missing()
    if why is not None:
        pytest.skip(f"a real systemd cannot be booted here: {why}")
    with Guest(tmp_path_factory.mktemp("guest")) as booted:
        report("guest", boot_s=round(booted.boot_s, 3))
        booted.run(PROGRAM, "service", "install")
        yield booted


@pytest.fixture
async def emulator(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Emulator]:
    """Run a service to upload to."""
    async with Emulator(store=tmp_path_factory.mktemp("store")) as running:
        yield running


@pytest.fixture
def unit(guest: Guest, emulator: Emulator) -> Unit:
    """Give the installed service, stopped, with nothing in its folders but a configuration."""
    service = Unit(guest, emulator.base_url)
    service.clear()
    service.configure()
    return service
