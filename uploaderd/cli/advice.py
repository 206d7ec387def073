"""What a person can do: one command or act for each thing that does not mend itself."""

from __future__ import annotations

from typing import Final

from uploaderd.core.reasons import SENTENCES

_LOOK: Final = "see: uploaderd show {which}"
_RELOAD: Final = "then: uploaderd reload"
# By the tail of a reason's code, which for a whole target is the target's state.
_TARGETS: Final = {
    "auth": f"correct the key, {_RELOAD}",
    "quota": "raise the quota; to go on at once: uploaderd resume",
    "endpoint": f"correct the target's base_url, {_RELOAD}",
    "redirect": f"set the target's base_url to the final address, {_RELOAD}",
    "certificate": f"correct the target's ca_file, {_RELOAD}",
    "part_too_large": f"set a smaller part_size, {_RELOAD}",
    "target": f"configure that target again, {_RELOAD}",
    "outage": "nothing, it is probed; to probe at once: uploaderd resume",
}
_CODES: Final = {
    **{f"held.{tail}": act for tail, act in _TARGETS.items() if f"held.{tail}" in SENTENCES},
    "held.operator": "uploaderd release {which}",
    "held.deadline": f"raise the bandwidth, {_RELOAD}; or uploaderd limit; or split it",
    "held.unreadable": "let the daemon's user read it; then it goes on by itself",
    "held.restarts": "once the cause is mended: uploaderd retry {which}",
    "held.uncertain": "look at the service's files, then: uploaderd retry {which}",
    "failed.empty": "fill it, then: uploaderd retry {which}",
    "failed.too_large": "split it and drop the pieces",
    "failed.not_regular": "drop a regular file in its place",
    "failed.purpose_rule": "put it into the folder of another purpose, or give it another name",
    "failed.rejected": "once it is mended: uploaderd retry {which}",
}
KNOWN: Final = frozenset(_CODES)


def for_files(code: str, *, count: int, file_id: str) -> str:
    """Say what to do about ``count`` files with one reason; of one of them the id is known."""
    act = _CODES.get(code, _LOOK)
    if count > 1 and act is _LOOK:
        return f"see: uploaderd list --code {code}"
    return act.replace("{which}", file_id if count == 1 else f"--code {code}")


def for_target(state: str) -> str:
    """Say what to do about a target that takes nothing; empty where nothing helps."""
    return _TARGETS.get(state, "")
