"""How late the event loop is: whatever holds it up, holds up every file."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PERIOD_S = 0.5


async def watch_loop(late: Callable[[float], None], period_s: float = PERIOD_S) -> None:
    """Sleep again and again and tell how many seconds later than asked it woke; never ends."""
    loop = asyncio.get_running_loop()
    while True:
        due_s = loop.time() + period_s
        await asyncio.sleep(period_s)
        late(max(loop.time() - due_s, 0.0))
