"""What a spool file is called at the service."""

from __future__ import annotations

import mimetypes

from uploaderd.core.report import escape_path

# Types that machines disagree about, or do not know, and that these files are made of.
TYPES = {
    ".jsonl": "application/jsonl",
    ".json": "application/json",
    ".csv": "text/csv",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".yaml": "application/yaml",
    ".webp": "image/webp",
}
_KNOWN = mimetypes.MimeTypes()  # its own table: the machine's files have no say


def remote_name(path: bytes) -> str:
    """The last component, as text; bytes that are no UTF-8 are escaped with a backslash."""
    return escape_path(path.rpartition(b"/")[2])


def content_type(name: str) -> str:
    """A MIME type guessed from the name; application/octet-stream where there is none."""
    suffix = name[name.rfind(".") :].lower() if "." in name else ""
    if suffix in TYPES:
        return TYPES[suffix]
    return _KNOWN.guess_type(f"x{suffix}")[0] or "application/octet-stream"
