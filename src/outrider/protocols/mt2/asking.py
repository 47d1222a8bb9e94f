"""Our requests, their answers, and what the other side says unasked. XFER is asked by `outgoing`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.codes import Result, Word
from outrider.protocols.mt2.events import VERSION, Answered, Greeted, NoticeReceived, PeerLeaves
from outrider.protocols.mt2.frames import ProtocolViolation
from outrider.protocols.mt2.identity import certificate_frame, helo_request
from outrider.protocols.mt2.lines import (
    PLAIN_RESPONSE,
    Extension,
    Param,
    Request,
    find,
    format_request,
)
from outrider.protocols.mt2.options import Offer, first_grant, granted, read_option_list
from outrider.protocols.mt2.session import Asked, Session, State

MOST_EXTENSIONS: Final = 20_000
"""In one answer, over all the lines that it comes in."""
MOST_KNOWN_ANSWERS: Final = 256
ASK_TLS: Final = Extension("TLS", ("ON",))


class Asking:
    """What we ask for, one request after the other."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._collected: dict[int, list[Extension]] = {}  # of answers that come in several lines
        self._known: dict[bytes, Result] = {}  # answers without extensions, by what follows their tag

    # -- requests ------------------------------------------------------------------------------------

    def helo(self, certificate: bytes, host: str, *, nonce: str = "", prove: bool = False) -> int:
        """See `Mt2Peer.helo`."""
        if not self.is_open():
            return 0
        tag = self._begin(Asked("HELO", certificate))
        self._write(helo_request(tag, len(certificate), host, nonce, prove=prove))
        return tag

    def opt(self, options: Sequence[Extension]) -> int:
        """See `Mt2Peer.opt`."""
        if not self.is_open():
            return 0
        tag = self._begin(Asked("OPT", options=tuple(options)))
        self._write(Request(tag, "OPT", (), tuple(options)))
        return tag

    def abort(self, transfer_id: str) -> bool:
        """See `Mt2Peer.abort`."""
        tag = self._session.outgoing.abort(transfer_id)
        if tag:
            abor = self._begin(Asked("ABOR", transfer_id=transfer_id))
            self._write(Request(abor, "ABOR", (str(tag),)))
        return tag is not None

    def is_open(self) -> bool:
        """A request can be made. Not so when the session has ended, which our driver may not have heard yet.

        Raises `RuntimeError` before the greeting and after QUIT: our driver knew that.
        """
        if self._session.state is State.AWAITING_GREETING or self._session.our_quit:
            raise RuntimeError("no request may be made now")
        return self._session.state is State.OPEN

    def begin_answers(self) -> None:
        """A request goes out: from now on an answer is due."""
        if not self._session.outstanding:
            self._session.timers.answered_at = self._session.wire.now

    def ask(self, verb: str, params: Sequence[Param] = (), extensions: Sequence[Extension] = ()) -> int:
        """A verb without data."""
        tag = self._begin(Asked(verb))
        self._write(Request(tag, verb, tuple(params), tuple(extensions)))
        return tag

    def _begin(self, asked: Asked) -> int:
        self.begin_answers()
        tag = self._session.next_tag()
        self._session.asked[tag] = asked
        return tag

    def _write(self, request: Request) -> None:
        self._session.wire.out.append(format_request(request))

    # -- answers -------------------------------------------------------------------------------------

    def plain_response(self, line: bytes) -> bool:
        """A response without extensions; most are like one we have seen."""
        digits, _, rest = line.partition(b" ")
        result = self._known.get(rest)
        if result is None or not digits.isdigit() or len(digits) > 10 or digits[:1] == b"0":
            match = PLAIN_RESPONSE.fullmatch(line)
            if match is None:
                return False
            result = Result(Word(match[2].decode()), match[3].decode(), (match[4] or b"").decode())
            if len(self._known) < MOST_KNOWN_ANSWERS and len(rest) < 128:
                self._known[rest] = result
        self.response(int(digits), result)
        return True

    def response(self, tag: int, result: Result) -> None:
        """Any response with a tag."""
        self._session.timers.answered_at = self._session.wire.now
        if result.word is Word.TMP and result.code == codes.MORE_RESULTS:
            self._collect(tag, result)
            return
        if self._collected and tag in self._collected and result.word is not Word.TMP:
            result = replace(result, extensions=(*self._collected.pop(tag), *result.extensions))
        if not self._session.outgoing.response(tag, result):
            self._answered(tag, result)

    def _collect(self, tag: int, result: Result) -> None:
        """An answer that comes in several lines."""
        if tag not in self._session.asked and not self._session.outgoing.awaits(tag):
            raise ProtocolViolation("a response to no request")
        collected = self._collected.setdefault(tag, [])
        collected += result.extensions
        if sum(map(len, self._collected.values())) > MOST_EXTENSIONS:
            raise ProtocolViolation("an answer that is too long")

    def _answered(self, tag: int, result: Result) -> None:
        asked = self._session.asked.get(tag)
        if asked is None:
            raise ProtocolViolation("a response to no request")
        if result.word is Word.TMP:
            self._send_identity(tag, asked)
            return
        del self._session.asked[tag]
        offer = None
        if asked.verb == "HELO":
            offer = self._helo_answered(asked, result)
        elif asked.verb == "OPT":
            outgoing = self._session.outgoing
            outgoing.grant = granted(outgoing.grant, asked.options, result.extensions)
        elif asked.verb == "ABOR":
            self._session.outgoing.aborted(asked.transfer_id, result)
        self._session.wire.events.append(Answered(tag, asked.verb, result, offer))
        if asked.verb == "QUIT":
            self._session.end("the session was ended by QUIT", orderly=True)
        elif asked.verb == "OPT" and asked.options == (ASK_TLS,) and result.is_ok:
            self._session.begin_tls()
        self._session.outgoing.pump()

    def _send_identity(self, tag: int, asked: Asked) -> None:
        if not asked.certificate:
            raise ProtocolViolation("a permission for nothing")
        self._session.wire.out.append(certificate_frame(tag, asked.certificate))
        asked.certificate = None

    def _helo_answered(self, asked: Asked, result: Result) -> Offer | None:
        if not result.is_ok:
            return None
        if asked.certificate:
            raise ProtocolViolation("an identity accepted that was not sent")
        offer = read_option_list(result.extensions)
        self._session.outgoing.grant = first_grant(offer)
        return offer

    # -- unasked -------------------------------------------------------------------------------------

    def unsolicited(self, result: Result) -> None:
        """A response to nothing: the greeting, a farewell, news."""
        if result.word is Word.ERR:
            self._session.wire.events.append(NoticeReceived(result))
            self._session.end(f"the other side ended the session ({result.code})", orderly=False)
        elif result.code == codes.GREETING:
            self._greeted(result)
        elif self._session.state is State.AWAITING_GREETING:
            raise ProtocolViolation("no greeting")
        elif result.code == codes.GOING_AWAY:
            self._they_leave(result)
        else:
            self._session.wire.events.append(NoticeReceived(result))

    def _greeted(self, result: Result) -> None:
        if self._session.state is not State.AWAITING_GREETING:
            raise ProtocolViolation("a greeting out of place")
        versions = find(result.extensions, "VER")
        if versions is None or VERSION not in versions.values:
            raise ProtocolViolation("no common version", codes.UNKNOWN_VERSION)
        host, nonce = find(result.extensions, "HOST"), find(result.extensions, "NONCE")
        offer = read_option_list(result.extensions)
        self._session.outgoing.grant = first_grant(offer)
        self._session.state = State.OPEN
        self._session.wire.events.append(
            Greeted(
                host.values[0] if host and host.values else "",
                nonce.values[0] if nonce and nonce.values else "",
                offer,
                result.text,
            )
        )

    def _they_leave(self, result: Result) -> None:
        last = find(result.extensions, "LAST")
        digits = last.values[0] if last and last.values else ""
        if not digits.isascii() or not digits.isdigit() or len(digits) > 10:
            raise ProtocolViolation("a notice without its number")
        self._session.their_last = int(digits)
        self._session.wire.events.append(PeerLeaves(self._session.their_last, result.text))
        self._session.outgoing.give_back()
