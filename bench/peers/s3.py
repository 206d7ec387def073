"""``python -m bench.peers.s3 URL FILE PART_BYTES N [bare]``: a multipart upload, N parts at a time.

As it comes it signs each part with SHA-256 (over plain HTTP) and adds a CRC32; ``bare`` does
neither, so that what it costs is reading and sending.
"""

from __future__ import annotations

import sys

from bench.peers.own import needed, told


def main() -> None:
    """Send one file with boto3's s3transfer."""
    boto3 = needed("boto3")
    transfer = needed("boto3.s3.transfer")
    botocore = needed("botocore")
    config = needed("botocore.config")
    url, file, part_bytes, at_once, *bare = sys.argv[1:]
    settings: dict[str, object] = {
        "retries": {"total_max_attempts": 1},
        "s3": {"addressing_style": "path"},
    }
    if bare:
        settings["signature_version"] = botocore.UNSIGNED
        settings["request_checksum_calculation"] = "when_required"
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",  # noqa: S106 - the server looks at no key
        config=config.Config(**settings),
    )
    parts = transfer.TransferConfig(
        multipart_threshold=int(part_bytes),
        multipart_chunksize=int(part_bytes),
        max_concurrency=int(at_once),
        preferred_transfer_client="classic",
    )
    with told():
        client.upload_file(file, "bucket", "large.bin", Config=parts)


if __name__ == "__main__":
    main()
