"""What counts as sent has left: the kernel's buffer does not swallow a part at once."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.client.wire import Steps, talking
from tests.support.waiting import wait_until

pytestmark = pytest.mark.asyncio

MIB = 1 << 20
STEP = bytes(64 * 1024)


async def test_a_peer_that_reads_nothing_is_sent_little() -> None:
    """A quarter of a mebibyte, and what the peer's own kernel takes; not some megabytes."""
    steps = Steps([STEP] * 128)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        async with talking(url) as client:
            sending = asyncio.create_task(client.add_part("u", steps, request_id="r"))
            await wait_until(lambda: steps.taken > 0, what="the first step")
            before = -1
            while before != steps.taken * len(STEP):  # until it goes no further
                before = steps.taken * len(STEP)
                await asyncio.sleep(0.3)
            assert before <= MIB
            sending.cancel()
            await asyncio.wait({sending})
