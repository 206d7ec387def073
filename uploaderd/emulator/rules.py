"""What the service may answer: limits, and a knob for every question that no document settles.

The defaults are the published limits and, where nothing is published, the mildest reading of what
was observed. `strict` takes the least friendly legal answer to each question, `lenient` the
friendliest, `restful` the one that independent servers tend to give.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, get_type_hints

from uploaderd.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

MIB = 1 << 20
GIB = 1 << 30


class Flavour(StrEnum):
    """Whose paths, id shapes and error documents are spoken."""

    OPENAI = "openai"
    AZURE = "azure"


class Counting(StrEnum):
    """What a new part is measured against when it reaches beyond the declared bytes."""

    EACH_PART = "each_part"  # this part alone
    ALL_PARTS = "all_parts"  # this part and all that are stored, orphans included
    AT_COMPLETE = "at_complete"  # nothing: only the sum at complete matters


class Orphans(StrEnum):
    """What stored parts that `complete` does not list do to it."""

    IGNORED = "ignored"
    COUNTED = "counted"  # they belong to the sum, so that one orphan bricks the upload


class Mismatch(StrEnum):
    """What follows a wrong sum or a wrong md5 at `complete`."""

    REFUSE = "refuse"  # 400, and the upload stays pending
    REFUSE_AND_CANCEL = "refuse_and_cancel"  # 400, and the upload is over
    ACCEPT = "accept"  # completed as if nothing were wrong
    ERROR_LATER = "error_later"  # completed, and the file's status turns to "error" later


class Refused(StrEnum):
    """The status of a refusal."""

    BAD_REQUEST = "400"
    NOT_FOUND = "404"
    CONFLICT = "409"
    GONE = "410"
    TOO_LARGE = "413"


class Answer(StrEnum):
    """Done as asked (200), or the status of a refusal."""

    ACCEPT = "200"
    BAD_REQUEST = "400"
    NOT_FOUND = "404"
    CONFLICT = "409"
    GONE = "410"


class Md5Form(StrEnum):
    """How `md5` is written at `complete`."""

    HEX = "hex"
    BASE64 = "base64"
    EITHER = "either"


class PartOrder(StrEnum):
    """The order in which `part_ids` may stand."""

    FREE = "free"
    ARRIVAL = "arrival"


class RefusalTime(StrEnum):
    """When a part that will be refused is told so."""

    AFTER_BODY = "after_body"
    BEFORE_BODY = "before_body"  # as soon as it is known, and the connection is closed


class FileBytes(StrEnum):
    """Where a File object tells its size."""

    ALWAYS = "always"
    NULL_IN_COMPLETE = "null_in_complete"
    NULL_EVERYWHERE = "null_everywhere"


class NoFile(StrEnum):
    """How an Upload without a file says so."""

    NULL = "null"
    ABSENT = "absent"


class SameSecond(StrEnum):
    """How files of one second are ordered in a list."""

    CREATED = "created"
    REVERSED = "reversed"
    SHUFFLED = "shuffled"


class Content(StrEnum):
    """Whose bytes may be downloaded."""

    BY_PURPOSE = "by_purpose"  # refused for user_data and assistants
    ALL = "all"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The service's limits and its answers to the open questions; `NAME=VALUE` sets one."""

    flavour: Flavour = Flavour.OPENAI
    life_s: float = 3600.0  # of an upload, from its creation
    upload_max_bytes: int = 8 * GIB
    part_max_bytes: int = 64 * MIB
    file_max_bytes: int = 512 * MIB  # of POST /files
    batch_max_bytes: int = 200 * MIB  # of any file with the purpose batch
    batch_life_s: float = 30 * 86400.0  # of a batch file that asked for no expiry; 0: for ever

    unknown_keys_refused: bool = True
    extension_rules: bool = True  # the purpose's list of file name extensions is enforced
    mime_check: bool = True  # mime_type must look like type/subtype
    empty_file: Answer = Answer.BAD_REQUEST  # bytes = 0 at create
    bytes_over_max: Refused = Refused.BAD_REQUEST

    beyond_bytes: Counting = Counting.EACH_PART
    empty_part: Answer = Answer.ACCEPT
    part_over_max: Refused = Refused.TOO_LARGE
    part_after_end: Refused = Refused.BAD_REQUEST  # of a completed or cancelled upload
    part_refusal: RefusalTime = RefusalTime.AFTER_BODY
    part_type_required: bool = False  # the part's own Content-Type
    chunked_parts: Answer = Answer.ACCEPT  # a body without Content-Length

    sum_mismatch: Mismatch = Mismatch.REFUSE
    wrong_md5: Mismatch = Mismatch.REFUSE
    error_after_s: float = 2.0  # until a file with a wrong md5 or sum shows the status error
    md5_form: Md5Form = Md5Form.HEX
    orphans: Orphans = Orphans.IGNORED
    part_order: PartOrder = PartOrder.FREE
    unknown_part: Refused = Refused.BAD_REQUEST
    foreign_part: Answer = Answer.BAD_REQUEST  # a part of another upload
    duplicate_part: Answer = Answer.BAD_REQUEST  # one id listed twice
    complete_twice: Answer = Answer.BAD_REQUEST  # 200 answers the same file again
    complete_cancelled: Refused = Refused.BAD_REQUEST

    cancel_completed: Answer = Answer.BAD_REQUEST  # 200 changes nothing
    cancel_twice: Answer = Answer.BAD_REQUEST
    after_expiry: Refused = Refused.BAD_REQUEST  # part, complete or cancel

    file_bytes: FileBytes = FileBytes.ALWAYS
    no_file: NoFile = NoFile.NULL
    expiry_nonsense: bool = False  # expires_at lies before created_at, as in the published example
    processing_s: float = 0.0  # until a file's status is "processed"
    list_lag_s: float = 0.0  # until a new file shows in the list
    same_second: SameSecond = SameSecond.CREATED
    content: Content = Content.BY_PURPOSE
    file_created_status: int = 200  # of POST /files
    error_detail: bool = False  # a 400 carries a sibling "detail"
    rate_limit_headers: bool = False

    @property
    def azure(self) -> bool:
        """Whether Azure's dialect is spoken."""
        return self.flavour is Flavour.AZURE


PROFILES: dict[str, Rules] = {
    "openai": Rules(),
    "azure": Rules(
        flavour=Flavour.AZURE,
        life_s=7200.0,
        upload_max_bytes=9 * GIB,
        part_type_required=True,
        file_created_status=201,
    ),
    "strict": Rules(
        empty_part=Answer.BAD_REQUEST,
        beyond_bytes=Counting.ALL_PARTS,
        part_refusal=RefusalTime.BEFORE_BODY,
        orphans=Orphans.COUNTED,
        sum_mismatch=Mismatch.REFUSE_AND_CANCEL,
        wrong_md5=Mismatch.REFUSE_AND_CANCEL,
        complete_twice=Answer.NOT_FOUND,
        cancel_completed=Answer.NOT_FOUND,
        cancel_twice=Answer.NOT_FOUND,
        part_after_end=Refused.NOT_FOUND,
        complete_cancelled=Refused.NOT_FOUND,
        after_expiry=Refused.NOT_FOUND,
        file_bytes=FileBytes.NULL_IN_COMPLETE,
        no_file=NoFile.ABSENT,
        expiry_nonsense=True,
        processing_s=5.0,
        list_lag_s=2.0,
        same_second=SameSecond.SHUFFLED,
        content=Content.NONE,
        error_detail=True,
    ),
    "lenient": Rules(
        unknown_keys_refused=False,
        extension_rules=False,
        mime_check=False,
        empty_file=Answer.ACCEPT,
        beyond_bytes=Counting.AT_COMPLETE,
        sum_mismatch=Mismatch.ACCEPT,
        wrong_md5=Mismatch.ACCEPT,
        md5_form=Md5Form.EITHER,
        foreign_part=Answer.ACCEPT,
        duplicate_part=Answer.ACCEPT,
        complete_twice=Answer.ACCEPT,
        cancel_completed=Answer.ACCEPT,
        cancel_twice=Answer.ACCEPT,
        content=Content.ALL,
    ),
    "restful": Rules(
        empty_part=Answer.BAD_REQUEST,
        part_after_end=Refused.CONFLICT,
        part_order=PartOrder.ARRIVAL,
        unknown_part=Refused.NOT_FOUND,
        foreign_part=Answer.NOT_FOUND,
        wrong_md5=Mismatch.ERROR_LATER,
        complete_twice=Answer.CONFLICT,
        complete_cancelled=Refused.CONFLICT,
        cancel_completed=Answer.CONFLICT,
        cancel_twice=Answer.CONFLICT,
        after_expiry=Refused.GONE,
    ),
}


def rules_for(profile: str, settings: Iterable[str] = ()) -> Rules:
    """Return a profile's rules with `NAME=VALUE` settings applied; UsageError on a wrong word."""
    if profile not in PROFILES:
        raise UsageError(
            f"there is no profile {profile!r}: choose one of {', '.join(sorted(PROFILES))}"
        )
    rules = PROFILES[profile]
    for setting in settings:
        rules = with_setting(rules, setting)
    return rules


def with_setting(rules: Rules, setting: str) -> Rules:
    """Return rules with one `NAME=VALUE` applied; UsageError names what is wrong and allowed."""
    name, equals, text = setting.partition("=")
    name = name.strip()
    known = [field.name for field in fields(Rules)]
    if not equals:
        raise UsageError(f"the rule {setting!r} is not of the form NAME=VALUE")
    if name not in known:
        raise UsageError(f"there is no rule {name!r}: choose one of {', '.join(known)}")
    kind = get_type_hints(Rules)[name]
    changes: dict[str, Any] = {name: _value(name, text.strip(), kind)}
    return replace(rules, **changes)


def _value(name: str, text: str, kind: type) -> StrEnum | float:
    if issubclass(kind, StrEnum):
        choices = [member.value for member in kind]
        if text in choices:
            return kind(text)
        raise UsageError(f"the rule {name} is one of {', '.join(choices)}, not {text!r}")
    if kind is bool:
        if text in {"true", "false"}:
            return text == "true"
        raise UsageError(f"the rule {name} is true or false, not {text!r}")
    number: float
    try:
        number = int(text) if kind is int else float(text)
    except ValueError:
        number = -1
    if not (math.isfinite(number) and number >= 0):
        what = "a whole number" if kind is int else "a number"
        raise UsageError(f"the rule {name} is {what}, zero or more, not {text!r}")
    return number
