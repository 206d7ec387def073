"""Sizes, durations, rates and the bandwidth timetable: text to numbers and back.

Nothing is guessed: a number without its unit is refused wherever a unit could be meant in two
ways. Every ``parse_…`` raises ``ValueError`` with a sentence for a person; ``format_…`` writes
exactly what ``parse_…`` reads; ``human_…`` rounds, for reading only.
"""

from __future__ import annotations

import re
from fractions import Fraction

from uploaderd.core.timetable import Timetable, weekly

_SIZES = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)([A-Za-z]+)")
_PIECE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([a-z]+)")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_START = re.compile(rf"(?i:({'|'.join(_DAYS)})-)?([01][0-9]|2[0-3]):([0-5][0-9])")

UNLIMITED_TEXT = "unlimited"
_TWO_MEANINGS = frozenset({"0", "off", "none", "no"})


def parse_size(text: str) -> int:
    """Bytes from ``"8MiB"``, ``"4MB"``, ``"512KiB"`` or plain digits."""
    if re.fullmatch(r"[0-9]{1,15}", text):
        return int(text)
    match = _SIZE.fullmatch(text)
    if match is None or match[2] not in _SIZES:
        raise ValueError(f"a size is a number and one of {', '.join(_SIZES)}, without a space")
    size = Fraction(match[1]) * _SIZES[match[2]]
    if size.denominator != 1:
        raise ValueError("that is not a whole number of bytes")
    return int(size)


def format_size(size: int) -> str:
    """The shortest exact text in binary units that ``parse_size`` reads as ``size`` bytes."""
    unit = next(u for u in reversed(_BINARY) if u == "B" or (size and size % _SIZES[u] == 0))
    return f"{size // _SIZES[unit]}{unit}"


def parse_duration(text: str) -> float:
    """Seconds from ``"500ms"``, ``"2s"``, ``"15m"``, ``"1h30m"`` or ``"30d"``."""
    pieces = _PIECE.findall(text)
    units = [unit for _, unit in pieces]
    if not pieces or "".join(number + unit for number, unit in pieces) != text:
        raise ValueError("a duration is a number and a unit, or several of them, without a space")
    if units != [unit for unit in _MILLISECONDS if unit in units]:
        raise ValueError("the units are d, h, m, s and ms; each at most once, the largest first")
    ms = sum((Fraction(number) * _MILLISECONDS[unit] for number, unit in pieces), Fraction())
    if ms.denominator != 1:
        raise ValueError("nothing finer than a millisecond is counted")
    return int(ms) / 1000


def format_duration(duration_s: float) -> str:
    """The exact text, to the millisecond, that ``parse_duration`` reads as ``duration_s``."""
    left, pieces = round(duration_s * 1000), ""
    for unit, length in _MILLISECONDS.items():
        count, left = divmod(left, length)
        pieces += f"{count}{unit}" if count else ""
    return pieces or "0s"


def parse_rate(text: str) -> int | None:
    """Bytes a second from ``"10MiB/s"``, or None from ``"unlimited"``."""
    if text == UNLIMITED_TEXT:
        return None
    if text.lower() in _TWO_MEANINGS:
        raise ValueError(
            f'a rate is a size a second, and "{text}" could mean no limit as well as no bytes: '
            'write "unlimited", or stop with `uploaderd pause`'
        )
    size, slash, per = text.partition("/")
    if not slash or per != "s" or size.isdigit():
        raise ValueError('a rate is a size a second, such as "10MiB/s", or "unlimited"')
    rate = parse_size(size)
    if rate < 1:
        raise ValueError("at a rate of nothing no file would ever arrive; stop with `pause`")
    return rate


def format_rate(rate_bps: int | None) -> str:
    """The exact text that ``parse_rate`` reads as ``rate_bps``."""
    return UNLIMITED_TEXT if rate_bps is None else f"{format_size(rate_bps)}/s"


UNLIMITED = Timetable()


def format_timetable(table: Timetable) -> str:
    """The shortest text that ``parse_timetable`` reads as ``table``.

    What holds on all days is written once, what holds on fewer with its days.
    """
    if len(table.entries) == 1:
        return format_rate(table.entries[0][1])
    by_time: dict[int, dict[int, int | None]] = {}
    for day, start_s, rate in table.by_day():
        by_time.setdefault(start_s, {})[day] = rate
    daily = {s: _most(days) for s, days in by_time.items() if len(days) == len(_DAYS)}
    words = [f"{_clock(start_s)},{format_rate(daily[start_s])}" for start_s in sorted(daily)]
    words += [
        f"{_DAYS[day]}-{_clock(start_s)},{format_rate(rate)}"
        for day, start_s, rate in sorted(table.by_day(), key=lambda entry: entry[:2])
        if start_s not in daily or rate != daily[start_s]
    ]
    return " ".join(words)


def _most(days: dict[int, int | None]) -> int | None:
    rates = list(days.values())
    return max(rates, key=rates.count)


def _clock(start_s: int) -> str:
    return f"{start_s // 3600:02}:{start_s // 60 % 60:02}"


def parse_timetable(text: str) -> Timetable:
    """From one rate for always, or from entries in any order.

    ``"08:00,2MiB/s 18:00,unlimited"`` is the same on each day; ``"Mon-08:00,2MiB/s
    Fri-18:00,unlimited"`` is not. In a mixture an entry without a day is there on each day, and
    one with a day takes the place of the one without at that very time.
    """
    if "," not in text:
        return Timetable(((0, parse_rate(text)),))
    daily: dict[int, int | None] = {}
    days: dict[tuple[int, int], int | None] = {}
    for item in text.split():
        start, comma, rate = item.partition(",")
        match = _START.fullmatch(start)
        if not comma or match is None:
            raise ValueError(
                "each entry is HH:MM,RATE, from 00:00 to 23:59, or Mon-HH:MM,RATE with any day"
                " from Mon to Sun, with spaces between"
            )
        begins_s = int(match[2]) * 3600 + int(match[3]) * 60
        day = None if match[1] is None else _DAYS.index(match[1].capitalize())
        if begins_s in daily if day is None else (day, begins_s) in days:
            raise ValueError(f"{start} is there twice")
        if day is None:
            daily[begins_s] = parse_rate(rate)
        else:
            days[day, begins_s] = parse_rate(rate)
    return weekly(daily, days)


def human_bytes(size: float) -> str:
    """A size for people: ``"512 B"``, ``"1.5 MiB"``."""
    amount, unit = float(size), "B"
    for larger in _BINARY[1:]:
        if round(amount, 1) < 1024:  # noqa: PLR2004 - the step of binary units
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def human_rate(rate_bps: float | None) -> str:
    """A rate for people: ``"10.0 MiB/s"``; None is unlimited."""
    return UNLIMITED_TEXT if rate_bps is None else f"{human_bytes(rate_bps)}/s"


def human_duration(duration_s: float) -> str:
    """A duration for people, its two largest units: ``"1h 30m"``, ``"45s"``, ``"0.2s"``."""
    if duration_s < 9.95:  # noqa: PLR2004 - from here on "10s" says as much as "10.0s"
        return f"{max(duration_s, 0.0):.1f}s".replace(".0s", "s")
    left, pieces = round(duration_s), []
    for unit in ("d", "h", "m", "s"):
        count, left = divmod(left, _MILLISECONDS[unit] // 1000)
        pieces.append(f"{count}{unit}" if count else "")
    first = next(index for index, piece in enumerate(pieces) if piece)
    return " ".join(filter(None, pieces[first : first + 2]))
