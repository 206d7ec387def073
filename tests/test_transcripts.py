"""The transcripts in the README are what the commands say today."""

from __future__ import annotations

import asyncio

from docs import transcripts


async def test_the_readme_shows_what_the_commands_say() -> None:
    """Who changes what a command says writes them again: ``make transcripts``."""
    readme = transcripts.README.read_text("utf-8")
    async with asyncio.timeout(200):
        said = await asyncio.to_thread(transcripts.record)
    assert transcripts.filled(readme, said) == readme
