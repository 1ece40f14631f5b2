"""Numbers and texts for people."""

from __future__ import annotations

from datetime import UTC, datetime


def one_line(text: str, longest: int) -> str:
    """Return a text on one line, without what cannot be printed, cut at so many characters."""
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def seconds(value: float | None) -> str:
    """Return a duration of a fault; a dash for what did not happen."""
    return "—" if value is None else f"{value:.2f} s"


def duration(value: float) -> str:
    """Return a duration of any size, in the unit that suits it: 0.1 ms, 32 s, 1 h 17 min."""
    if value >= 3600:
        return f"{int(value // 3600)} h {int(value % 3600 // 60)} min"
    if value >= 120:
        return f"{int(value // 60)} min {int(value % 60)} s"
    return f"{value:.3g} s" if value >= 0.1 else f"{value * 1000:.3g} ms"


def count(value: int) -> str:
    """Return a number with its thousands set apart."""
    return f"{value:,}"


def moment(text: str) -> str:
    """Return an ISO 8601 time as people write it, or the text if it is none."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{at.astimezone(UTC):%-d %B %Y, %H:%M} UTC"


def visible(text: str) -> str:
    """Return a text with a sign in place of each control character, which no page may hold."""
    return "".join(char if char.isprintable() or char in "\n\t" else "�" for char in text)
