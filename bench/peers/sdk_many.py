"""``python -m bench.peers.sdk_many BASE_URL FOLDER N``: N files at a time, with the async SDK."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bench.peers.own import needed, told


async def main() -> None:
    """Send all that lies in the folder: its bare calls, nothing is written down of them."""
    openai = needed("openai")
    base_url, folder, at_once = sys.argv[1:]
    files = sorted(Path(folder).iterdir())
    places = asyncio.Semaphore(int(at_once))
    client = openai.AsyncOpenAI(base_url=base_url, max_retries=0)

    async def send(file: Path) -> None:
        async with places:
            await client.uploads.upload_file_chunked(
                file=file, mime_type="application/octet-stream", purpose="user_data"
            )

    with told():
        await asyncio.gather(*map(send, files))


if __name__ == "__main__":
    asyncio.run(main())
