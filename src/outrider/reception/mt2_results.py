"""From reception's replies to MT2's results: the one place where the two vocabularies meet (MT2-8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from outrider.extensions.interface import Part, Refusal
from outrider.identity.checks import Check
from outrider.identity.mt2_identity import Mt2Check, Mt2IdentityFailure
from outrider.model.layered import RecipientResult
from outrider.model.reply import Reply
from outrider.model.verdict import Stage
from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.codes import ROWS, Result, Word, code_class, err
from outrider.protocols.mt2.lines import Extension, Pair
from outrider.protocols.mt2.recipients import recipient_extensions
from outrider.reception import replies

MAX_TEXT: Final = 400
"""Characters of a result's text: a line has room for several."""

_EXACT: Final[dict[Reply, str]] = {
    replies.NO_ROOM: codes.NO_STORAGE,
    replies.NO_MEMORY: codes.TOO_BUSY,
    replies.TOO_MANY_HOPS: codes.LOOP,
    replies.TOO_MANY_RECIPIENTS: codes.RECIPIENT_NOT_NOW,
    replies.NO_RECIPIENTS: codes.NO_RECIPIENTS,
}
_BY_STATUS: Final = {
    "5.1.1": codes.UNKNOWN_RECIPIENT,
    "5.3.4": codes.MESSAGE_TOO_LARGE,
    "5.4.6": codes.LOOP,
    "4.4.3": codes.LOOKUP_FAILED,
    "4.3.1": codes.NO_STORAGE,
    "4.7.0": codes.DEFERRED_BY_POLICY,
    "4.7.1": codes.DEFERRED_BY_POLICY,
}
_REFUSED_AT: Final = {
    Stage.CONNECT: codes.HOST_REFUSED,
    Stage.HELLO: codes.HOST_REFUSED,
    Stage.SENDER: codes.SENDER_REFUSED,
    Stage.RECIPIENT: codes.RECIPIENT_REFUSED,
    Stage.HEADERS: codes.CONTENT_REFUSED,
    Stage.BODY: codes.CONTENT_REFUSED,
}


def refusal(reply: Reply, stage: Stage) -> Result:
    """The ERR for a 4yz or 5yz; its own status code goes along where the result code's is another."""
    code = _code(reply, stage)
    text = plain(reply.text)
    if not reply.status or reply.status == ROWS[code].status:
        return err(code, text=text)
    return err(code, Extension("STATUS", (reply.status,)), text=text)


def _code(reply: Reply, stage: Stage) -> str:
    exact = _EXACT.get(reply) or _BY_STATUS.get(reply.status)
    if exact is not None:
        return exact
    if reply.is_temporary:
        return codes.RECIPIENT_NOT_NOW if stage is Stage.RECIPIENT else codes.NOT_NOW
    return _REFUSED_AT[stage]


def plain(text: str) -> str:
    """One line that a response may carry as its text. It never begins like an extension."""
    if not text.isprintable():
        text = "".join(one if one.isprintable() else " " for one in text)
    line = " ".join(text.split())
    return line.lstrip("( ")[:MAX_TEXT]


_CERTIFICATE_OF_OTHER = frozenset({Check.NAME, Mt2Check.HOST_NAME, Mt2Check.ADDRESS})


def not_identified(failure: Mt2IdentityFailure) -> Result:
    """The answer to a HELO that proved nothing (MT2-24a)."""
    if failure.temporary:
        return err(codes.IDENTITY_NOT_CHECKED, text=failure.peer_text)
    if failure.check in _CERTIFICATE_OF_OTHER:
        return err(codes.HOST_NAME_MISMATCH, text=failure.peer_text)
    code = codes.PROOF_FAILED if failure.check is Mt2Check.PROOF else codes.INVALID_HOST_CERTIFICATE
    return err(code, text=failure.peer_text)


def from_extension(said: Refusal) -> Result:
    """What an extension does not want (MT2-21b)."""
    return err(
        said.code if code_class(said.code) in (4, 5) else codes.EXTENSION_REFUSED, text=plain(said.text)
    )


def extension_parts(parts: Iterable[Part]) -> tuple[Extension, ...]:
    """What extensions say within an answer (MT2-7)."""
    return tuple(
        Extension(part.name.upper(), result=Result(Word(part.word), part.code, plain(part.text)))
        if part.word
        else Extension(part.name.upper(), params=(plain(part.text),))
        for part in parts
    )


# --- recipients -----------------------------------------------------------------------------------------


def said_of_recipients(results: Mapping[int, Result]) -> tuple[Extension, ...]:
    """Results that differ from the answer's own, by position from 1 (MT2-16)."""
    return recipient_extensions(results)


def kept_results(results: Mapping[int, Result]) -> tuple[RecipientResult, ...]:
    """The same, to be remembered with the transfer (MT2-18a)."""
    return tuple(
        RecipientResult(position, one.word.value, one.code, one.text, _own_status(one))
        for position, one in sorted(results.items())
    )


def remembered_results(kept: Iterable[RecipientResult]) -> dict[int, Result]:
    """And back."""
    return {
        one.position: Result(
            Word(one.word), one.code, one.text, (Extension("STATUS", (one.status,)),) if one.status else ()
        )
        for one in kept
    }


def _own_status(result: Result) -> str:
    return next((one.values[0] for one in result.extensions if one.name == "STATUS" and one.values), "")


def option_values(extension: Extension) -> tuple[str, ...]:
    """The values that an option of OPT names, however it is written: ``(BAZ=FOO;BAR)`` or ``(BAZ FOO)``."""
    loose = (str(one) for one in extension.params if not isinstance(one, Pair))
    return (*extension.values, *loose)
