"""Which purposes there are, and which files each one takes (protocol notes, files)."""

from __future__ import annotations

from pathlib import PurePosixPath

from uploaderd.emulator.refusals import Refusal, wrong_value

PURPOSES = ("assistants", "batch", "evals", "fine-tune", "user_data", "vision")

NOT_DOWNLOADABLE = frozenset({"assistants", "user_data"})

_DOCUMENTS = (
    "c cpp cs css csv doc docx gif go html java jpeg jpg js json md pdf php pkl png pptx py rb sh "
    "tar tex ts txt webp xlsx xml zip"
)

EXTENSIONS: dict[str, frozenset[str]] = {
    "assistants": frozenset(_DOCUMENTS.split()),
    "batch": frozenset({"jsonl"}),
    "fine-tune": frozenset({"jsonl"}),
    "vision": frozenset({"gif", "jpeg", "jpg", "png", "webp"}),
}


def check_purpose(purpose: str) -> None:
    """Refuse a purpose that does not exist."""
    if purpose not in PURPOSES:
        allowed = ", ".join(f"'{name}'" for name in PURPOSES)
        raise wrong_value("purpose", f"'{purpose}' is not one of [{allowed}] - 'purpose'")


def check_extension(purpose: str, filename: str) -> None:
    """Refuse a file name whose extension the purpose does not take; most take any."""
    allowed = EXTENSIONS.get(purpose)
    extension = PurePosixPath(filename).suffix.lower().removeprefix(".")
    if allowed is not None and extension not in allowed:
        raise Refusal(
            f"Invalid extension {extension or '(none)'}. Supported formats: "
            + ", ".join(f'"{name}"' for name in sorted(allowed)),
            param="filename",
        )
