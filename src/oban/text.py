"""Text that a database can hold, made from text it cannot."""

from typing import Final

MAX_BYTES: Final = 64_000
MARK: Final = "\n… (cut, the rest was left out)"


def storable(text: str) -> str:
    """Replace NUL characters and lone surrogates by U+FFFD."""
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def bounded(text: str, limit: int = MAX_BYTES) -> str:
    """Storable text of at most `limit` bytes, with a mark where it was cut."""
    clean = storable(text)
    if len(clean) * 4 <= limit:
        return clean
    encoded = clean.encode("utf-8")
    if len(encoded) <= limit:
        return clean
    kept = encoded[: limit - len(MARK.encode("utf-8"))]
    return kept.decode("utf-8", "ignore") + MARK
