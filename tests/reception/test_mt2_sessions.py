"""MT2's sessions: identities, options generated from the policy, seals and policy before the data."""

from __future__ import annotations

from dataclasses import replace

import pytest

from outrider.config.schema import Partner, Rule
from outrider.identity.checks import Check
from outrider.identity.mt2_identity import Mt2Check, Mt2IdentityFailure
from outrider.identity.seals import Sealer
from outrider.message.objects.envelope import DeliveryExtension, read_envelope, write_envelope
from outrider.model.facts import Provenance
from outrider.model.mpc import parse_mpc
from outrider.model.reply import Reply
from outrider.model.verdict import Stage
from outrider.protocols.mt2 import codes
from outrider.protocols.mt2.lines import Extension, find
from outrider.reception import mt2_results, replies
from outrider.reception.mt2_settings import HostNames
from outrider.reception.settings import ReceptionSettingsError
from tests.identity.mt2_papers import NOW, handover
from tests.reception.mt2_rig import HOST, PEER, SITE, Letter, Mt2Rig, changed, got, letter, mt2_rig


def rule(name: str, action: str = "refuse", **when: object) -> Rule:
    """A rule; `__` in a fact's name stands for a dot, `_` for a hyphen."""
    facts = {key.replace("__", "."): value for key, value in when.items()}
    return Rule(name=name, when=facts, action=action)  # type: ignore[arg-type]


# --- identity ------------------------------------------------------------------------------------------


@pytest.mark.covers("MT2-10a", "MT2-22", "MT2-26")
async def test_a_host_that_proves_nothing_is_refused() -> None:
    async with mt2_rig() as rig:
        session = await rig.greeted()
        cases = {
            Mt2Check.HOST_NAME: codes.HOST_NAME_MISMATCH,
            Mt2Check.PROOF: codes.PROOF_FAILED,
            Mt2Check.LOOKUP_FAILED: codes.IDENTITY_NOT_CHECKED,
            Check.EXPIRED: codes.INVALID_HOST_CERTIFICATE,
        }
        for check, code in cases.items():
            result = await got(rig.reception.identified(session, Mt2IdentityFailure(check, "secret reason")))
            assert result.code == code
            assert "secret" not in result.text
        assert session.facts.get("host") is None


@pytest.mark.covers("MT2-25")
async def test_the_issuer_of_a_failed_identity_is_claimed() -> None:
    async with mt2_rig() as rig:
        session = await rig.greeted()
        failure = Mt2IdentityFailure(Check.UNKNOWN_CA, "unknown", ("ca.example",))
        await got(rig.reception.identified(session, failure))
        fact = session.facts.get("mt2.issuer")
        assert fact is not None
        assert (fact.value, fact.provenance) == (("ca.example",), Provenance.CLAIMED)


@pytest.mark.covers("MT2-22")
async def test_a_proven_host_is_a_fact_and_stands_in_the_trace() -> None:
    async with mt2_rig() as rig:
        session = await rig.identified()
        assert session.facts.value("host", Provenance.PROVEN) == "mx.b.example"
        assert session.facts.value("mt2.identity") == "private"
        await rig.sent_whole(session, letter())
        (message,) = rig.rig.spool.given
        assert b"mx.b.example" in message.trace
        assert any(fact.name == "mt2.trace" and fact.value == "good" for fact in message.facts)


@pytest.mark.covers("MT2-22")
async def test_nothing_concluded_from_one_name_stays_for_another() -> None:
    async with mt2_rig() as rig:
        session = await rig.identified()
        found = await rig.peers.host(SITE.c.chain, "mx.c.example", "", NOW)
        session.hello_name = "mx.c.example"
        assert (await got(rig.reception.identified(session, found, SITE.c.chain))).is_ok
        assert session.facts.value("host") == "mx.c.example"
        assert session.facts.value("tls.client.name") == ("mx.c.example",)
        assert session.proof_chain == SITE.c.chain


@pytest.mark.covers("MT2-26", "MT2-15")
async def test_policy_at_connect_and_hello() -> None:
    blocked = (rule("no b", host="mx.b.example"),)
    async with mt2_rig(rules=blocked) as rig:
        session = await rig.greeted()
        found = await rig.peers.host(PEER.chain, PEER.name, "", NOW)
        session.hello_name = PEER.name
        result = await got(rig.reception.identified(session, found, PEER.chain))
        assert result.code == codes.HOST_REFUSED
        assert "no b" in result.text
    async with mt2_rig(rules=(rule("nobody", protocol="mt2"),)) as rig:
        await rig.rig.spool.start(NOW)
        assert (await got(rig.reception.connected(rig.new_session()))).code == codes.HOST_REFUSED


@pytest.mark.covers("MT2-9")
async def test_in_the_clear_nothing_is_proven() -> None:
    async with mt2_rig() as rig:
        session = await rig.greeted(tls=False)
        found = await rig.peers.host(PEER.chain, PEER.name, "", NOW)
        session.hello_name = PEER.name
        assert (await got(rig.reception.identified(session, found))).is_ok
        assert session.facts.get("host") is None
        assert session.facts.value("client.name") == PEER.name
        assert not rig.reception.offer(session).pipe


# --- options -------------------------------------------------------------------------------------------


@pytest.mark.covers("MT2-18d", "MT2-11")
@pytest.mark.parametrize(
    ("pipe", "granted"), [((), False), (("*",), True), ((".b.example",), True), (("x.example",), False)]
)
async def test_pipelining_is_for_those_whom_the_operator_names(pipe: tuple[str, ...], granted: bool) -> None:
    async with mt2_rig(pipe=pipe) as rig:
        stranger = await rig.greeted()
        assert not rig.reception.offer(stranger).pipe
        known = rig.reception.offer(await rig.identified())
        assert known.pipe is granted
        assert known.window > rig.reception.offer(stranger).window


@pytest.mark.covers("MT2-18d")
async def test_partners_may_pipeline() -> None:
    partner = Partner(sender_domains=("b.example",), hosts=("mx.b.example",))
    async with mt2_rig(partners={"b": partner}) as rig:
        assert rig.reception.offer(await rig.identified()).pipe
        assert not rig.reception.offer(await rig.identified(SITE.c)).pipe


@pytest.mark.covers("ITP-4d", "MT2-10a")
async def test_an_option_that_would_be_refused_is_not_offered() -> None:
    rules = (
        rule("b stays slow", mt2__options="pipe", host="mx.b.example"),
        rule("headers stay hidden", mt2__encryption="none", host="mx.c.example"),
        rule("nothing commercial", mpc="com/*"),
    )
    async with mt2_rig(rules=rules, pipe=("*",)) as rig:
        b, c = await rig.identified(), await rig.identified(SITE.c)
        assert not rig.reception.offer(b).pipe
        assert rig.reception.offer(c).pipe
        assert find(rig.reception.offer(b).others, "ENCRYPTION") is None
        declared = find(rig.reception.offer(c).others, "ENCRYPTION")
        assert declared is not None
        assert declared.values == ("headers",)
        codes_ = find(rig.reception.offer(b).others, "MPC")
        assert codes_ is not None


@pytest.mark.covers("ITP-4d")
async def test_what_is_offered_is_taken_and_what_is_not_is_refused() -> None:
    rules = (rule("hide the headers", mt2__encryption="none"),)
    async with mt2_rig(rules=rules) as rig:
        session = await rig.identified()
        # A refusal that meets every message is no refusal of one value; this one meets only one of two.
        declared = find(rig.reception.offer(session).others, "ENCRYPTION")
        assert declared is not None
        answer = await rig.put(session, "t1", "message/envelope", letter().envelope)
        assert answer.result.code == codes.SENDER_REFUSED


@pytest.mark.covers("MT2-11")
async def test_an_unknown_option_is_answered() -> None:
    async with mt2_rig() as rig:
        session = await rig.identified()
        (answer,) = rig.reception.options_asked(session, (Extension("BAZ", ("FOO",)),))
        assert answer.result is not None
        assert answer.result.code == codes.UNKNOWN_OPTION
        assert (await rig.reception.verb_asked(session, "FROB", (), ())).code == codes.UNKNOWN_VERB


def test_host_names() -> None:
    names = HostNames.of("mt2.pipe", ("A.example", ".b.example"))
    assert names.cover(("a.example",))
    assert names.cover(("x.b.example", "z.example"))
    assert names.cover(("b.example",))
    assert not names.cover(("xb.example", "sub.a.example"))
    with pytest.raises(ReceptionSettingsError, match=r"mt2\.pipe"):
        HostNames.of("mt2.pipe", ("not a host",))


# --- seals ---------------------------------------------------------------------------------------------


def spoilt(mail: Letter) -> Letter:
    """With another recipient than was sealed."""
    envelope = read_envelope(mail.envelope)
    other = replace(envelope, recipients=letter_recipients("ann@a.example"))
    return replace(mail, envelope=write_envelope(other))


def letter_recipients(*names: str) -> tuple:  # type: ignore[type-arg]
    """As an envelope has them."""
    return read_envelope(letter(*names, by=None).envelope).recipients


@pytest.mark.covers("MT2-23a", "MT2-15", "MT2-26")
@pytest.mark.parametrize(
    ("mail", "place"),
    [
        (letter(by=None), "trace"),
        (spoilt(letter()), "recipients"),
        (letter(to="mx.other.example"), "mx.other.example"),
        (letter(by=SITE.c), "trace"),
    ],
    ids=["unsealed", "changed", "for another host", "by another than the peer"],
)
async def test_a_broken_trace_is_refused_and_named(mail: Letter, place: str) -> None:
    async with mt2_rig() as rig:
        answer = await rig.put(await rig.identified(), "t1", "message/envelope", mail.envelope)
        assert answer.result.code == codes.INVALID_TRACE
        assert place in answer.result.text
        ((kind, problem, refused),) = rig.rig.observer.transfers
        assert (kind, refused) == ("broken", "True")
        assert place in problem
        assert rig.rig.observer.refusals[-1][0] == "envelope"


@pytest.mark.covers("MT2-23a", "MT2-26")
async def test_a_rule_may_take_a_broken_trace_upon_itself() -> None:
    rules = (Rule(name="look", when={"mt2.trace": "broken"}, action="tag", value="broken-trace"),)
    async with mt2_rig(rules=rules) as rig:
        session = await rig.identified()
        assert (await rig.sent_whole(session, spoilt(letter()))).code == codes.MESSAGE_TAKEN
        (message,) = rig.rig.spool.given
        assert any(fact.name == "mt2.trace.place" for fact in message.facts)
        unsealed = await rig.put(session, "t2", "message/envelope", letter(by=None).envelope)
        assert unsealed.result.code == codes.INVALID_TRACE, "the rule said nothing of those"


@pytest.mark.covers("MT2-23a", "MT2-22")
async def test_seals_over_two_hops_and_a_user() -> None:
    async with mt2_rig() as rig:
        first = letter(by=None)
        envelope = read_envelope(first.envelope)
        user = SITE.user("ann@b.example")
        sealed = user.sealer.seal_core(envelope, handover("ann@b.example", "mx.b.example"), NOW - 3)
        hop = handover("mx.b.example", HOST, "ann@b.example", NOW - 2)
        passed = PEER.sealer.seal_hop(sealed, sealed.recipients, hop, NOW - 1)
        mail = replace(first, envelope=write_envelope(passed))
        assert (await rig.sent_whole(await rig.identified(), mail)).code == codes.MESSAGE_TAKEN
        facts = {fact.name: fact for fact in rig.rig.spool.given[0].facts}
        assert facts["mt2.sender"].value == "ann@b.example"
        assert facts["mt2.sender"].provenance is Provenance.PROVEN
        assert facts["mt2.trace.hops"].value == 2


@pytest.mark.covers("MT2-23b")
async def test_many_are_verified_at_once() -> None:
    async with mt2_rig() as rig:
        import asyncio

        session = await rig.identified()
        mails = [letter() if number % 3 else spoilt(letter()) for number in range(20)]
        answers = await asyncio.gather(
            *(
                rig.put(session, f"t{number}", "message/envelope", mail.envelope)
                for number, mail in enumerate(mails)
            )
        )
        good = [answer.result.is_ok for answer in answers]
        assert good == [bool(number % 3) for number in range(20)]


@pytest.mark.covers("MT2-23a")
async def test_seals_are_not_looked_at_where_the_operator_says_so() -> None:
    async with mt2_rig(verify_seals=False) as rig:
        assert (await rig.sent_whole(await rig.identified(), letter(by=None))).code == codes.MESSAGE_TAKEN
        assert not any(fact.name == "mt2.trace" for fact in rig.rig.spool.given[0].facts)


# --- policy --------------------------------------------------------------------------------------------


@pytest.mark.covers("MT2-26", "MT2-15")
@pytest.mark.parametrize(
    ("condition", "change"),
    [
        ({"sender": "ann@b.example"}, {}),
        ({"mt2.extensions": "2.25.77"}, {"extensions": (DeliveryExtension("2.25.77", "x"),)}),
        ({"mt2.encryption": "none"}, {}),
        ({"mt2.options": "trace"}, {}),
        ({"mt2.trace": "good"}, {}),
        ({"mpc": "*/bulk"}, {"mpc": None}),
    ],
)
async def test_filters_before_the_data(condition: dict[str, object], change: dict[str, object]) -> None:
    if "mpc" in change:
        from outrider.model.mpc import LEGAL

        code = next(one for one in LEGAL if one.mail_class.value != "individual")
        condition, change = {"mpc": str(code)}, {"mpc": code}
        assert parse_mpc(str(code)) == code
    refusing = Rule(name="filter", when=condition, action="refuse")
    async with mt2_rig(rules=(refusing,)) as rig:
        session = await rig.identified()
        session.options = frozenset({"TRACE"})
        answer = await rig.put(session, "t1", "message/envelope", letter(change=changed(**change)).envelope)
        assert answer.result.code == codes.SENDER_REFUSED, answer
        assert "filter" in answer.result.text


@pytest.mark.covers("MT2-26", "MT2-16")
async def test_a_prohibited_recipient() -> None:
    async with mt2_rig(rules=(rule("not ann", recipient="ann@a.example"),)) as rig:
        session = await rig.identified()
        mail = letter("ann@a.example", "bob@a.example")
        answer = await rig.put(session, "t1", "message/envelope", mail.envelope)
        assert answer.result.is_ok
        said = find(answer.result.extensions, "RCPT")
        assert said is not None
        assert said.values == ("1",)
        assert said.result is not None
        assert said.result.code == codes.RECIPIENT_REFUSED


@pytest.mark.covers("MT2-26")
@pytest.mark.parametrize(
    ("content_type", "fact"),
    [
        (b"application/pkcs7-mime; smime-type=enveloped-data", "smime"),
        (b'multipart/encrypted; protocol="application/pgp-encrypted"; boundary=x', "openpgp"),
        (b"application/pkcs7-mime; smime-type=signed-data", "none"),
        (b"text/plain", "none"),
    ],
)
async def test_encrypted_bodies_are_told_apart(content_type: bytes, fact: str) -> None:
    rules = (Rule(name="level", when={"body.encryption": fact}, action="refuse"),)
    section = b"From: ann@b.example\r\nContent-Type: " + content_type + b"\r\n\r\n"
    async with mt2_rig(rules=rules) as rig:
        result = await rig.sent_whole(await rig.identified(), letter(section=section))
        assert result.code == codes.CONTENT_REFUSED


@pytest.mark.covers("MT2-22")
async def test_partner_terms_hold_over_mt2() -> None:
    partner = Partner(sender_domains=("b.example",), hosts=("mx.b.example",), inbound="mt2")
    async with mt2_rig(partners={"b": partner}) as rig:
        assert (await rig.sent_whole(await rig.identified(), letter())).is_ok
        assert not rig.rig.observer.breaches
        await rig.sent_whole(await rig.identified(SITE.c), letter(by=SITE.c))
        assert rig.rig.observer.breaches


# --- results -------------------------------------------------------------------------------------------


@pytest.mark.covers("MT2-8")
@pytest.mark.parametrize(
    ("reply", "stage", "code"),
    [
        (replies.NO_ROOM, Stage.SENDER, codes.NO_STORAGE),
        (replies.LOCAL_ERROR, Stage.BODY, codes.NOT_NOW),
        (replies.unknown_user("x@y"), Stage.RECIPIENT, codes.UNKNOWN_RECIPIENT),
        (replies.not_our_domain("y"), Stage.RECIPIENT, codes.RECIPIENT_REFUSED),
        (replies.ALIAS_LOOP, Stage.RECIPIENT, codes.RECIPIENT_NOT_NOW),
        (replies.TOO_MANY_HOPS, Stage.HEADERS, codes.LOOP),
        (replies.message_too_big(5), Stage.SENDER, codes.MESSAGE_TOO_LARGE),
        (Reply(554, "5.7.1", "no"), Stage.CONNECT, codes.HOST_REFUSED),
        (Reply(550, "5.7.26", "no"), Stage.SENDER, codes.SENDER_REFUSED),
        (Reply(451, "4.7.1", "later"), Stage.SENDER, codes.DEFERRED_BY_POLICY),
        (Reply(550, "5.6.0", "no"), Stage.BODY, codes.CONTENT_REFUSED),
    ],
)
def test_every_reply_has_its_result(reply: Reply, stage: Stage, code: str) -> None:
    result = mt2_results.refusal(reply, stage)
    assert result.code == code
    assert result.is_transient is reply.is_temporary
    assert codes.status_of(result) == reply.status


@pytest.mark.covers("MT2-8")
def test_texts_cannot_be_taken_for_extensions() -> None:
    result = mt2_results.refusal(Reply(550, "5.7.1", "(RCPT=1 OK)\nx\x00y"), Stage.SENDER)
    assert result.text == "RCPT=1 OK) x y"


def test_results_of_recipients_come_back_as_they_were() -> None:
    given = {
        2: mt2_results.refusal(replies.unknown_user("a b@c"), Stage.RECIPIENT),
        5: mt2_results.refusal(Reply(550, "5.7.26", "no spf"), Stage.RECIPIENT),
    }
    assert mt2_results.remembered_results(mt2_results.kept_results(given)) == given


def test_the_rig_has_a_sealer() -> None:
    assert isinstance(PEER.sealer, Sealer)
    assert isinstance(Mt2Rig, type)
