"""Every reason code and its sentence; the codes are stable, scripts may match on them."""

from __future__ import annotations

from uploaderd.core.model import Reason

SENTENCES: dict[str, str] = {
    "settling.seen": "It was just seen; whether anyone still writes it is checked next.",
    "settling.writer_open": (
        "A program still has it open for writing; it is taken once that program closes it."
    ),
    "settling.quiet": "It was written in place; it is taken once nothing has changed for a while.",
    "settling.changed": (
        "It changed after it was taken; it settles again and is then uploaded from the start."
    ),
    "settling.retried": "The operator had it tried again; it settles and is then uploaded.",
    "queued.slot": "It waits for a free place among the files in flight.",
    "queued.target": "Its target {target} takes nothing for now. {detail}",
    "queued.resume": "It goes on with the parts that are stored as soon as a place is free.",
    "queued.deadline": (
        "At {rate} bytes a second the {left} bytes of the open sessions and its own {size} would "
        "not be there within the {life} s that a session lives; it is opened when they can."
    ),
    "queued.filing": "Nothing new is begun in its folder for now: {detail}.",
    "queued.unwatched": (
        "Its folder is not configured as a watch any more; it goes on once it is again."
    ),
    "queued.paused": "The daemon is paused; it goes on after `uploaderd resume`.",
    "queued.again": "{detail} It is uploaded again from the start.",
    "uploading.parts": "Its parts are being sent.",
    "completing.sent": "All parts are stored; the service is asked to put the file together.",
    "uncertain.reply_lost": (
        "The reply to complete was lost; the service is asked again, and its files are searched."
    ),
    "deferred.rate_limited": "{detail} It is tried again by itself.",
    "deferred.network": "{detail} It is tried again by itself.",
    "deferred.server_error": "{detail} It is tried again by itself.",
    "deferred.bad_reply": "{detail} It is tried again by itself.",
    "deferred.gateway": "{detail} It is tried again by itself.",
    "deferred.conflict": "{detail} It is tried again by itself.",
    "deferred.deadline": ("{detail} It is begun at an hour whose bandwidth lets it through."),
    "deferred.twin": (
        "Another file of that name may have arrived; once that is found out it goes on, lest one "
        "be taken for the other."
    ),
    "deferred.spool": "{detail} It is tried again by itself.",
    "held.deadline": (
        "{detail} Raise the bandwidth, under [transfer] with `uploaderd reload` or by `uploaderd "
        "limit`, or split the file."
    ),
    "held.auth": (
        "{detail} Correct the key and run `uploaderd reload`, or give the key its rights; then "
        "it goes on by itself."
    ),
    "held.quota": "{detail} Raise the quota or pay; it goes on by itself after the next probe.",
    "held.endpoint": "{detail} Correct the target's base_url and run `uploaderd reload`.",
    "held.certificate": (
        "{detail} Correct the target's ca_file, or the service's certificate; it goes on by "
        "itself after the next probe."
    ),
    "held.operator": "The operator holds it; it goes on after `uploaderd release`.",
    "held.part_too_large": (
        "{detail} Set a smaller part_size under [transfer] and run `uploaderd reload`."
    ),
    "held.redirect": "{detail} Set the target's base_url to the final address.",
    "held.unreadable": "{detail} It is tried again when its permissions change.",
    "held.restarts": (
        "{detail} It was begun anew {restarts} times without success; look at its history."
    ),
    "held.target": (
        "It may have arrived at the target {target}, which is not configured any more. Configure "
        "it and run `uploaderd reload`; then it is found out."
    ),
    "held.uncertain": (
        "{detail} Look at the service's files, remove the surplus ones, and drop the file again "
        "if none is right."
    ),
    "failed.empty": "It has no bytes; the service takes no empty file.",
    "failed.too_large": "{detail}",
    "failed.not_regular": "{detail} Only regular files are uploaded.",
    "failed.purpose_rule": "{detail}",
    "failed.rejected": "{detail}",
    "done.filing": "It arrived; its receipt is written and it leaves the spool next.",
    "done.filing_failed": "It arrived, but cannot be filed: {detail} That is tried again.",
    "done.uploaded": "It arrived; its receipt is {place}.receipt.json.",
    "done.already_uploaded": "The same content was uploaded before; it is not uploaded again.",
    "cancelled.operator": (
        "It was cancelled; it stays where it is and is uploaded only once it changes."
    ),
    "cancelled.gone": "It was removed from the spool before it was uploaded.",
}

# What a whole target suffers from, not one file: these end together when it is well again.
TARGET_TROUBLE = frozenset(
    {
        "held.auth",
        "held.quota",
        "held.endpoint",
        "held.redirect",
        "held.certificate",
        "held.part_too_large",
        "held.target",
    }
)


def reason(code: str, *, until_s: float | None = None, **facts: object) -> Reason:
    """Make the reason for ``code``; a KeyError means a code without a sentence, a bug."""
    return Reason(code=code, text=SENTENCES[code].format(**facts).strip(), until_s=until_s)
