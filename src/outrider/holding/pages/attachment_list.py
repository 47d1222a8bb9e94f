"""The attachments of a message, as AMDP-Attachments tells of them: counted alike by who sends and who
receives (AMDP-4a, AMDP-4b)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from outrider.holding.pages.message_parts import Decoder, FoundPart, PartFinder, UnreadableError, decoder
from outrider.protocols.amdp.attachments import MAX_NAME, MOST, HeldAttachment
from outrider.protocols.amdp.values import clean_text

Chunks = Callable[[], Iterable[bytes]]
"""The octets of a message in pieces, from the start each time."""
_UNKNOWN_TYPE = "application/octet-stream"


def attachments_of(chunks: Chunks) -> tuple[HeldAttachment, ...]:
    """The first `MOST` attachments with their sizes when decoded; none of a message that cannot be taken
    apart. Two passes over the octets at most, none of them kept."""
    finder = PartFinder()
    try:
        for chunk in chunks():
            finder.feed(chunk)
        parts = [one for one in finder.finish() if not one.is_text][:MOST]
    except UnreadableError:
        return ()
    if not parts:
        return ()
    sizes = _decoded_sizes(parts, chunks())
    return tuple(
        HeldAttachment(_name(one), one.headers.media_type or _UNKNOWN_TYPE, size)
        for one, size in zip(parts, sizes, strict=True)
    )


def _name(part: FoundPart) -> str:
    name = clean_text(part.headers.name)
    while len(name.encode()) > MAX_NAME:
        name = name[:-1]
    return name


def _decoded_sizes(parts: list[FoundPart], chunks: Iterable[bytes]) -> Iterator[int]:
    counts = [0] * len(parts)
    decoders: list[Decoder] = [decoder(one.headers.encoding) for one in parts]
    offset = 0
    for chunk in chunks:
        end = offset + len(chunk)
        for at, part in enumerate(parts):
            if part.start < end and part.end > offset:
                piece = chunk[max(part.start - offset, 0) : part.end - offset]
                counts[at] += len(decoders[at].feed(piece))
        offset = end
    return iter([count + len(one.finish()) for count, one in zip(counts, decoders, strict=True)])
