"""Spans, moments and counts as people say them."""

import time

MINUTE, HOUR, DAY = 60, 3_600, 86_400


def span(seconds: float) -> str:
    """A duration in its two greatest units: "42 s", "3 min", "5 h 20 min", "2 d 3 h"."""
    left = max(0, round(seconds))
    if left < MINUTE:
        return f"{left} s"
    if left < HOUR:
        return f"{left // MINUTE} min" + (f" {left % MINUTE} s" if left < 10 * MINUTE else "")
    if left < DAY:
        return f"{left // HOUR} h {left % HOUR // MINUTE} min"
    return f"{left // DAY} d {left % DAY // HOUR} h"


def clock(moment: float, now: float) -> str:
    """A moment as UTC, as exactly as its distance asks for."""
    away = abs(moment - now)
    form = "%H:%M:%S" if away < HOUR else "%H:%M" if away < DAY else "%d %b %H:%M"
    return time.strftime(f"{form} UTC", time.gmtime(moment))


def count(number: float | None) -> str:
    """With separators; nothing when unknown."""
    return "" if number is None else f"{number:,.0f}"


def share(rate: float | None) -> str:
    """A success rate; 100 % is said only when nothing failed."""
    if rate is None:
        return ""
    return f"{rate:.1%}" if 0.99 < rate < 1 else f"{rate:.0%}"


def size(number: float) -> str:
    """Bytes."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def plain(text: object) -> str:
    """A text from outside with nothing in it that a terminal would obey."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(text)
    )
