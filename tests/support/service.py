"""The emulator as a process of its own, for tests that measure memory or processor time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import aiohttp

from tests.support.processes import Process, environment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType


class EmulatorProcess:
    """``uploaderd emulator`` on a free port: ``async with EmulatorProcess(tmp_path) as service:``.

    Attributes:
        base_url: where the daemon is pointed.
        store: where the bytes are.
    """

    def __init__(
        self,
        root: Path,
        *,
        profile: str = "openai",
        faults: Sequence[str] = (),
        rules: Sequence[str] = (),
    ) -> None:
        self.base_url = ""
        self.store = root / "store"
        self.process = Process(root / "emulator.log")
        self._root = root
        self._words = ["emulator", "--listen", "127.0.0.1:0", "--store", str(self.store)]
        self._words += ["--profile", profile]
        for fault in faults:
            self._words += ["--fault", fault]
        for rule in rules:
            self._words += ["--rule", rule]

    async def __aenter__(self) -> Self:
        """Start it and learn its address."""
        await self.process.spawn("uploaderd", self._words, environment(self._root), piped=True)
        line = await self.process.line()
        if not line.startswith("listening on "):
            await self.process.kill()
            raise AssertionError(f"the emulator did not start\n{self.process.last_words()}")
        self.base_url = line.removeprefix("listening on ")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it, and show its log if something went wrong."""
        await self.process.kill()
        if error is not None:
            error.add_note(f"--- the emulator's last words ---\n{self.process.last_words()}")

    async def state(self) -> dict[str, Any]:
        """What it holds and was asked (``GET /_emulator/state``)."""
        document: dict[str, Any] = await self._ask("GET", "state", None)
        return document

    async def faults(self, *specs: str) -> None:
        """Put these faults in place of those in force."""
        await self._ask("POST", "faults", {"faults": list(specs)})

    async def advance(self, seconds: float) -> None:
        """Move its clock forward."""
        await self._ask("POST", "clock", {"advance_s": seconds})

    async def _ask(self, method: str, name: str, body: object) -> Any:  # noqa: ANN401 - any JSON
        url = f"{self.base_url.removesuffix('/v1')}/_emulator/{name}"
        wait = aiohttp.ClientTimeout(total=10)
        async with (
            aiohttp.ClientSession(timeout=wait) as session,
            session.request(method, url, json=body) as reply,
        ):
            reply.raise_for_status()
            return await reply.json()
