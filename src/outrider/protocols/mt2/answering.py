"""Their requests, and our answers to them. XFER is answered by `incoming`, HELO's data goes to `identity`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.codes import Result, err, ok, text_of
from outrider.protocols.mt2.events import OptionsAsked, StatusAsked, Takes, VerbAsked
from outrider.protocols.mt2.frames import ProtocolViolation
from outrider.protocols.mt2.lines import (
    MAX_MEDIA_TYPE,
    MAX_TAG,
    MAX_TRANSFER_ID,
    Extension,
    Pair,
    Request,
    find,
)
from outrider.protocols.mt2.options import (
    CORE_OPTIONS,
    Offer,
    first_grant,
    negotiate,
    opt_result,
    option_list,
    refusal,
)
from outrider.protocols.mt2.session import Session


class Answering:
    """What is asked of us, and what our driver says to it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._options: dict[int, tuple[list[Extension], list[str]]] = {}  # of OPT: answered, and asked
        self._errors = 0

    # -- requests ------------------------------------------------------------------------------------

    def admit(self, tag: int, verb: str) -> bool:
        """Whether a request may be made now; tags rise, and pipelining is for those who have it (MT2-18d)."""
        if not self._session.incoming.last_tag < tag <= MAX_TAG:
            raise ProtocolViolation("a tag that does not rise")
        self._session.incoming.last_tag = tag
        if self._session.their_quit:
            raise ProtocolViolation("a request after QUIT")
        if verb in ("NOOP", "ABOR") or self._session.their_requests < self._session.incoming.grant.requests:
            return True
        pipelined = not self._session.incoming.grant.pipe
        code = codes.NO_PIPELINING if pipelined else codes.TOO_MANY_REQUESTS
        self._session.wire.respond(tag, err(code))
        self._session.end(text_of(code), orderly=False, misbehaved=True)
        return False

    def request(self, request: Request) -> None:
        """Any request but the usual XFER."""
        if not self.admit(request.tag, request.verb):
            return
        handler = _VERBS.get(request.verb)
        if handler is not None:
            code = handler(self, request)
        elif request.verb in self._session.settings.extension_verbs:
            self._session.pending[request.tag] = request.verb
            self._session.wire.events.append(
                VerbAsked(request.tag, request.verb, request.params, request.extensions)
            )
            code = None
        else:
            code = codes.UNKNOWN_VERB
        if code is not None:
            self._refuse(request.tag, code)

    def _refuse(self, tag: int, code: str) -> None:
        self._session.wire.respond(tag, err(code))
        if code in (codes.UNKNOWN_VERB, codes.WRONG_PARAMETERS, codes.NO_SUCH_REQUEST):
            self._errors += 1
            if self._errors > self._session.settings.limits.errors:
                raise ProtocolViolation("too many errors", codes.TOO_MANY_ERRORS)

    def _xfer(self, request: Request) -> str | None:
        """XFER in any form (MT2-14, MT2-18b)."""
        match request.params:
            case (str(transfer_id), str(media_type), int(size), int(to_come)):
                pass
            case _:
                return codes.WRONG_PARAMETERS
        if not 0 < len(transfer_id) <= MAX_TRANSFER_ID or not 0 < len(media_type) <= MAX_MEDIA_TYPE:
            return codes.WRONG_PARAMETERS
        offset = _offset(find(request.extensions, "OFFSET"))
        if offset is None:
            return codes.WRONG_PARAMETERS
        self.transfer_asked(request.tag, transfer_id, media_type, size, to_come, offset)
        return None

    def transfer_asked(
        self, tag: int, transfer_id: str, media_type: str, size: int, to_come: int, offset: int
    ) -> None:
        """XFER, once it has been read."""
        refused = self._not_taken()
        if refused is not None:
            self._session.wire.respond(tag, err(refused))
            return
        self._session.incoming.request(tag, transfer_id, media_type, size, to_come, offset)

    def _not_taken(self) -> str | None:
        """Why XFER and STAT are refused whatever they say."""
        if self._session.settings.takes is Takes.NOBODY:
            return codes.TAKES_NO_MAIL
        if self._session.settings.takes is Takes.IDENTIFIED and not self._session.their_identity.accepted:
            return codes.IDENTITY_REQUIRED
        return None

    def _helo(self, request: Request) -> str | None:
        if self._session.incoming.under_way:
            return codes.WRONG_ORDER
        return self._session.their_identity.request(request)

    def _opt(self, request: Request) -> str | None:
        """OPT (MT2-11); options may stand with parentheses or without."""
        options: list[Extension] = []
        for param in request.params:
            if not isinstance(param, Pair):
                return codes.WRONG_PARAMETERS
            options.append(Extension(param.key, param.values))
        options += request.extensions
        if not options:
            return codes.WRONG_PARAMETERS
        if len(options) == 1 and options[0].name == "TLS":
            self._opt_tls(request.tag, options[0])
        else:
            self._opt_all(request.tag, options)
        return None

    def _opt_all(self, tag: int, options: Sequence[Extension]) -> None:
        offered = {extension.name for extension in self._session.offer.others}
        answers: list[Extension] = []
        asked: list[Extension] = []
        incoming = self._session.incoming
        busy = bool(incoming.under_way)
        for option in options:
            if option.name in CORE_OPTIONS:
                incoming.grant, answer = negotiate(incoming.grant, self._session.offer, option, busy=busy)
                answers.append(answer)
            elif option.name in offered:
                asked.append(option)
            else:
                answers.append(refusal(option, codes.UNKNOWN_OPTION))
        if asked:
            self._session.pending[tag] = "OPT"
            self._options[tag] = (answers, [option.name for option in asked])
            self._session.wire.events.append(OptionsAsked(tag, tuple(asked)))
        else:
            self._session.wire.respond(tag, opt_result(tuple(answers)))

    def _opt_tls(self, tag: int, option: Extension) -> None:
        """TLS (MT2-9): alone, with nothing under way, and nothing behind it before TLS stands."""
        if option.values != ("ON",):
            code = codes.WRONG_OPTION_VALUE
        elif self._session.over_tls or not self._session.offer.tls or not self._session.is_server:
            code = codes.OPTION_NOT_GRANTED
        elif not self._session.is_idle:
            code = codes.WRONG_ORDER
        else:
            code = ""
        if code:
            self._session.wire.respond(tag, opt_result((refusal(option, code),)))
            return
        self._session.wire.respond(tag, opt_result((Extension("TLS", ("ON",), result=ok(codes.OPTION_SET)),)))
        self._session.begin_tls()

    def _noop(self, request: Request) -> str | None:
        self._session.wire.respond(request.tag, ok(codes.ALIVE))
        return None

    def _stat(self, request: Request) -> str | None:
        """STAT (MT2-13)."""
        match request.params:
            case (str(transfer_id),) if 0 < len(transfer_id) <= MAX_TRANSFER_ID:
                pass
            case _:
                return codes.WRONG_PARAMETERS
        refused = self._not_taken()
        if refused is None:
            self._session.pending[request.tag] = "STAT"
            self._session.wire.events.append(StatusAsked(request.tag, transfer_id))
        return refused

    def _abor(self, request: Request) -> str | None:
        """ABOR, in both spellings (MT2-12)."""
        match request.params:
            case (str(digits),) | (Pair(key="ABOR", values=(digits,)),):
                pass
            case _:
                return codes.WRONG_PARAMETERS
        if not digits.isascii() or not digits.isdigit() or len(digits) > 10:
            return codes.WRONG_PARAMETERS
        tag = int(digits)
        if tag and tag == self._session.their_identity.pending_tag:
            missing = self._session.their_identity.kill(request.tag)
            self._session.incoming.arrivals.skippable += max(0, missing)
        else:
            self._session.incoming.abort(request.tag, tag)
        return None

    def _quit(self, request: Request) -> str | None:
        """QUIT: answered when all else is (`Mt2Peer`)."""
        self._session.their_quit = request.tag
        self._session.outgoing.give_back()
        return None

    # -- our driver's answers ------------------------------------------------------------------------

    def welcome(self, tag: int, offer: Offer, *, text: str = "") -> bool:
        """See `Mt2Peer.welcome`."""
        if not tag or tag != self._session.their_identity.pending_tag:
            return False
        self._session.their_identity.accepted = True
        self._session.their_identity.forget()
        self._session.offer = offer
        self._session.incoming.grant = first_grant(offer)
        self._session.wire.respond(tag, ok(codes.IDENTIFIED, *option_list(offer), text=text))
        return True

    def answer(self, tag: int, result: Result, *, parts: Sequence[tuple[str, int]] = ()) -> bool:
        """See `Mt2Peer.answer`."""
        if tag in self._session.pending:
            del self._session.pending[tag]
            self._session.wire.respond(tag, result)
            done = True
        elif tag and tag == self._session.their_identity.pending_tag:
            done = self._refuse_identity(tag, result)
        else:
            done = self._session.incoming.answer(tag, result, parts)
        return done

    def _refuse_identity(self, tag: int, result: Result) -> bool:
        if result.is_ok:
            raise ValueError("an identity is accepted by welcome()")
        self._session.their_identity.forget()
        self._session.wire.respond(tag, result)
        return True

    def answer_options(self, tag: int, answers: Sequence[Extension]) -> bool:
        """See `Mt2Peer.answer_options`."""
        if self._session.pending.pop(tag, "") != "OPT":
            return False
        said = {answer.name: answer for answer in answers if answer.result is not None}
        known, asked = self._options.pop(tag)
        ours = [said.get(name, refusal(Extension(name), codes.UNKNOWN_OPTION)) for name in asked]
        self._session.wire.respond(tag, opt_result((*known, *ours)))
        return True


def _offset(extension: Extension | None) -> int | None:
    """The value of ``(OFFSET=n)``: 0 without it, None when it is no number."""
    if extension is None:
        return 0
    digits = extension.values[0] if len(extension.values) == 1 else ""
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 15 else None


_VERBS: Final[dict[str, Callable[[Answering, Request], str | None]]] = {
    "ABOR": Answering._abor,
    "HELO": Answering._helo,
    "NOOP": Answering._noop,
    "OPT": Answering._opt,
    "QUIT": Answering._quit,
    "STAT": Answering._stat,
    "XFER": Answering._xfer,
}
