"""``python -m bench.peers.sdk BASE_URL FILE``: one file, as the official SDK sends it."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.peers.own import needed, told


def main() -> None:
    """Send it in parts of 64 MiB, which is the SDK's default."""
    openai = needed("openai")
    base_url, file = sys.argv[1:]
    client = openai.OpenAI(base_url=base_url, max_retries=0)
    with told():
        client.uploads.upload_file_chunked(
            file=Path(file), mime_type="application/octet-stream", purpose="user_data"
        )


if __name__ == "__main__":
    main()
