"""Mail Policy Codes in reception: where they come from, who may use which, and what becomes of fields."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.config.schema import MpcAssignment, MpcCodes, Rule
from outrider.identity.credentials import parse_users
from outrider.model.content import Content, InlineBody
from outrider.model.envelope import Arrival
from outrider.model.facts import Provenance
from outrider.model.mpc import LEGAL, Mpc, parse_mpc
from outrider.reception.mail_codes import MailCodes
from outrider.reception.settings import ReceptionSettingsError
from tests.reception.amtp_rig import amtp_rig
from tests.reception.rig import CLIENT, FRIEND, MESSAGE, Rig

USERS = parse_users(
    "ann senders=ann@b.example,shop@b.example certificates=ann.example\n"
    "bea senders=ann@b.example certificates=bea.example\n"
    "hub senders=* certificates=hub.example"
)
VIOLATION = "MPC policy violation"


def codes(*assigned: MpcAssignment, **more: object) -> MpcCodes:
    return MpcCodes(assigned=assigned, **more)  # type: ignore[arg-type]


@pytest.mark.covers("AMTP-14", "ITP-1")
async def test_the_code_of_mail_goes_into_the_envelope(tmp_path: Path) -> None:
    rig = amtp_rig(tmp_path)
    session = await rig.host()
    for number, code in enumerate(LEGAL):
        assert (await rig.send(session, mpc=code)).is_positive
        message = rig.spool.given[number]
        assert message.envelope.mpc == code
        assert message.envelope.arrival is Arrival.AMTP_PUBLIC
        [fact] = [one for one in message.facts if one.name == "mpc"]
        assert (fact.value, fact.provenance) == (str(code), Provenance.CLAIMED)
        assert b" with AMTP id " in message.trace


@pytest.mark.covers("AMTP-14")
async def test_mail_without_a_code_has_none(tmp_path: Path) -> None:
    rig = Rig()
    await rig.send(await rig.session())
    assert rig.spool.given[0].envelope.mpc is None
    assert rig.spool.given[0].envelope.arrival is Arrival.OTHER
    assert not [fact for fact in rig.spool.given[0].facts if fact.name == "mpc"]


@pytest.mark.covers("AMTP-14")
@pytest.mark.parametrize("field", [b"MPC: com/optin", b"mpc:", b"Mpc : x/y", b"MPC: com/optin\r\n\tfolded"])
async def test_a_field_over_amtp_is_refused_at_the_end(field: bytes, tmp_path: Path) -> None:
    rig = amtp_rig(tmp_path)
    session = await rig.host()
    reply = await rig.send(session, content=b"Subject: x\r\n" + field + b"\r\n\r\nbody\r\n", mpc=LEGAL[0])
    assert (reply.code, reply.status) == (550, "5.6.0")
    assert rig.spool.given == []
    assert (
        await rig.send(session, content=b"Subject: MPC\r\n\r\nMPC: com/optin\r\n", mpc=LEGAL[0])
    ).is_positive


@pytest.mark.covers("AMTP-15")
@pytest.mark.parametrize(
    ("login", "sender", "code"),
    [
        ("ann", "ann@b.example", "com/customer"),
        ("ANN", "shop@b.example", "com/customer"),
        ("hub", "shop@b.example", "com/optin"),
        ("hub", "ann@b.example", None),
        ("hub", "", None),
        ("", "shop@b.example", None),
    ],
)
async def test_an_account_or_address_is_bound_to_a_code(login: str, sender: str, code: str | None) -> None:
    accounts = {"ann": "com/customer", "Shop@b.example": "com/optin"}
    rig = Rig(users=USERS, mpc=MpcCodes(accounts=accounts))
    session = await rig.session(FRIEND, login=login)
    assert (await rig.send(session, sender=sender)).is_positive
    message = rig.spool.given[0]
    assert message.envelope.mpc == (parse_mpc(code) if code else None)
    facts = [fact.provenance for fact in message.facts if fact.name == "mpc"]
    assert facts == ([Provenance.PROVEN] if code else [])


@pytest.mark.covers("AMTP-15", "AMTP-9")
@pytest.mark.parametrize(
    ("login", "code", "taken"),
    [
        ("ann", "com/customer", True),
        ("ann", "com/optin", False),
        ("ann", "mpc/individual", False),
        ("bea", "com/optin", True),
        ("bea", "mpc/individual", False),
        ("hub", "mpc/individual", True),
        ("", "mpc/individual", True),
    ],
)
async def test_over_amtp_an_account_names_its_own_code(
    login: str, code: str, taken: bool, tmp_path: Path
) -> None:
    """`hub` may send as anybody: it is a relay, and what it brings was submitted elsewhere."""
    rig = amtp_rig(tmp_path, users=USERS, mpc=MpcCodes(accounts={"ann": "com/customer"}))
    session = await rig.host(private=bool(login), login=login)
    _, reply = await rig.mail(session, code)
    assert reply.is_positive is taken
    if not taken:
        assert (reply.code, reply.status) == (550, "5.7.1")
        assert reply.text.startswith(VIOLATION)


@pytest.mark.covers("AMTP-15")
@pytest.mark.parametrize(
    ("login", "field", "taken", "code"),
    [
        ("ann", b"MPC: com/customer\r\n", True, "com/customer"),
        ("ann", b"MPC: com/optin\r\n", False, ""),
        ("ann", b"MPC: com/customer\r\nMPC: com/customer\r\n", False, ""),
        ("ann", b"MPC: nonsense\r\n", False, ""),
        ("bea", b"MPC: com/optin\r\n", True, ""),
        ("bea", b"MPC: mpc/individual\r\n", False, ""),
    ],
)
async def test_a_field_in_a_submission_names_the_accounts_own_code_or_none(
    login: str, field: bytes, taken: bool, code: str
) -> None:
    rig = Rig(users=USERS, mpc=MpcCodes(accounts={"ann": "com/customer"}))
    reply = await rig.send(await rig.session(login=login), content=field + MESSAGE)
    assert reply.is_positive is taken
    if taken:
        [message] = rig.spool.given
        assert str(message.envelope.mpc or "") == code
        assert (field in message.content.headers) is not bool(code)
    else:
        assert reply.text.startswith(VIOLATION)


@pytest.mark.covers("AMTP-14", "ITP-6")
@pytest.mark.parametrize("where", [0, 1])
async def test_a_trusted_peers_field_moves_and_nothing_else_changes(where: int) -> None:
    lines = [b"From: ann@b.example\r\n", b"Subject: x\r\n"]
    lines.insert(where, b"MPC:\r\n  Com/Optin\r\n")
    body = b"\r\nMPC: not a field\r\n"
    rig = Rig(mpc=MpcCodes(field_from=(f"{CLIENT}/32",)))
    await rig.send(await rig.session(), content=b"".join(lines) + body)
    [message] = rig.spool.given
    assert message.envelope.mpc == parse_mpc("com/optin")
    assert b"".join(message.content.chunks()) == b"From: ann@b.example\r\nSubject: x\r\n" + body


@pytest.mark.covers("AMTP-14")
async def test_a_large_messages_field_moves_too() -> None:
    rig = Rig(mpc=MpcCodes(field_from=(f"{CLIENT}/32",)))
    transaction = await rig.begun(await rig.session())
    await rig.recipient(transaction, "bob@a.example")
    headers = b"MPC: com/optin\r\nSubject: x\r\n\r\n"
    assert rig.reception.headers(transaction, headers).is_positive  # type: ignore[union-attr]
    body = InlineBody(b"x" * 1000)
    assert (await rig.reception.finish(transaction, Content(headers, body))).is_positive
    assert rig.spool.given[0].content.headers == b"Subject: x\r\n\r\n"
    assert rig.spool.given[0].envelope.mpc == parse_mpc("com/optin")


@pytest.mark.covers("AMTP-14", "ITP-4a")
async def test_rules_on_codes_are_asked_again_when_a_field_brings_one() -> None:
    rules = (Rule(name="no adverts", action="refuse", when={"mpc": "com/optout"}),)
    rig = Rig(mpc=MpcCodes(field_from=(f"{CLIENT}/32",)), rules=rules)
    session = await rig.session()
    reply = await rig.send(session, content=b"MPC: com/optout\r\n" + MESSAGE)
    assert (reply.code, reply.status) == (550, "5.7.1")
    assert (await rig.send(session, content=b"MPC: com/optin\r\n" + MESSAGE)).is_positive


@pytest.mark.covers("AMTP-14")
@pytest.mark.parametrize(
    "field", [b"MPC: com/optin\r\nMPC: com/optin\r\n", b"MPC: com\r\n", b"MPC: \xff\r\n"]
)
async def test_what_is_not_one_code_stays_content(field: bytes) -> None:
    rig = Rig(mpc=MpcCodes(field_from=(f"{CLIENT}/32",)))
    assert (await rig.send(await rig.session(), content=field + MESSAGE)).is_positive
    assert rig.spool.given[0].envelope.mpc is None
    assert rig.spool.given[0].content.headers.startswith(field)


@pytest.mark.covers("AMTP-14")
async def test_a_strangers_field_is_content() -> None:
    rig = Rig(mpc=MpcCodes(field_from=(f"{FRIEND}/32",)))
    assert (await rig.send(await rig.session(), content=b"MPC: com/optin\r\n" + MESSAGE)).is_positive
    assert rig.spool.given[0].envelope.mpc is None


@pytest.mark.covers("AMTP-15")
@pytest.mark.parametrize(
    ("one", "given"),
    [
        (MpcAssignment(value="com/optin", networks=(f"{CLIENT}/32",)), True),
        (MpcAssignment(value="com/optin", networks=(f"{FRIEND}/32",)), False),
        (MpcAssignment(value="com/optin", listeners=("smtp", "qmtp")), True),
        (MpcAssignment(value="com/optin", listeners=("lmtp",)), False),
        (MpcAssignment(value="com/optin", sender_domains=("B.example",)), True),
        (MpcAssignment(value="com/optin", sender_domains=("c.example",)), False),
        (MpcAssignment(value="com/optin", listeners=("smtp",), sender_domains=("c.example",)), False),
    ],
)
async def test_a_code_is_assigned_where_all_that_is_named_holds(one: MpcAssignment, given: bool) -> None:
    rig = Rig(mpc=codes(one, MpcAssignment(value="net/individual", networks=("0.0.0.0/0",))))
    await rig.send(await rig.session())
    [message] = rig.spool.given
    assert str(message.envelope.mpc) == ("com/optin" if given else "net/individual")
    [fact] = [fact for fact in message.facts if fact.name == "mpc"]
    assert (fact.provenance, fact.how) == (Provenance.CLAIMED, "assigned by [mpc]")


@pytest.mark.covers("AMTP-15")
async def test_the_null_sender_is_in_no_domain() -> None:
    rig = Rig(mpc=codes(MpcAssignment(value="com/optin", sender_domains=("b.example",))))
    await rig.send(await rig.session(), sender="")
    assert rig.spool.given[0].envelope.mpc is None


@pytest.mark.covers("AMTP-18", "AMTP-16")
async def test_the_way_of_every_final_recipient_counts(tmp_path: Path) -> None:
    rig = amtp_rig(tmp_path, private_routes=frozenset({"backup.example"}))
    session = await rig.host()
    for recipient, code in (("away@a.example", 550), ("bob@a.example", 250), ("x@backup.example", 250)):
        transaction, _ = await rig.mail(session, "net/individual")
        assert transaction is not None
        reply = await rig.recipient(transaction, recipient)
        assert reply.code == code, recipient
        assert code == 250 or reply.status == "5.7.1"
        assert bool(transaction.recipients) is (code == 250)


@pytest.mark.covers("AMTP-18")
async def test_a_rules_route_makes_a_way_private(tmp_path: Path) -> None:
    rules = (
        Rule(
            name="inside",
            action="route",
            value="smtp:inside.a.example",
            when={"recipient.domain": "a.example"},
        ),
    )
    rig = amtp_rig(tmp_path, rules=rules)
    transaction, _ = await rig.mail(await rig.host(), "net/individual")
    assert transaction is not None
    assert (await rig.recipient(transaction, "away@a.example")).is_positive


@pytest.mark.covers("AMTP-18")
async def test_a_private_connections_mail_may_go_anywhere(tmp_path: Path) -> None:
    rig = amtp_rig(tmp_path, users=USERS)
    session = await rig.host(private=True, login="hub")
    transaction, _ = await rig.mail(session, "net/individual")
    assert transaction is not None
    assert (await rig.recipient(transaction, "x@elsewhere.example")).is_positive
    assert (await rig.send(session, mpc=LEGAL[0])).is_positive
    assert rig.spool.given[0].envelope.arrival is Arrival.AMTP_PRIVATE
    assert b" with AMTPA id " in rig.spool.given[0].trace


WRONG = {
    "mpc.accounts.": MpcCodes(accounts={"ann": "com/nothing"}),
    'mpc.accounts."a@"': MpcCodes(accounts={"a@": "com/optin"}),
    "mpc.assigned[1].value": codes(
        MpcAssignment(value="com/optin", listeners=("smtp",)),
        MpcAssignment(value="mpc/individual", listeners=("smtp",)),
    ),
    "mpc.assigned[0].listeners": codes(MpcAssignment(value="com/optin", listeners=("amtp",))),
    "mpc.assigned[0].networks": codes(MpcAssignment(value="com/optin", networks=("x",))),
    "mpc.assigned[0].sender_domains": codes(MpcAssignment(value="com/optin", sender_domains=("a b",))),
    "mpc.assigned[0]": codes(MpcAssignment(value="com/optin")),
    "mpc.field_from": MpcCodes(field_from=("10.0.0.0/33",)),
}


@pytest.mark.covers("AMTP-15", "AMTP-9")
@pytest.mark.parametrize("key", WRONG)
def test_settings_that_mean_nothing_name_their_key(key: str) -> None:
    with pytest.raises(ReceptionSettingsError) as caught:
        MailCodes(WRONG[key])
    assert str(caught.value).startswith(key.removesuffix(".") if key == "mpc.accounts." else key)


@pytest.mark.covers("AMTP-9", "AMTP-14")
@given(st.binary(max_size=80))
def test_no_field_breaks_the_reader(value: bytes) -> None:
    class Trusted:
        protocol, login, client_address = "smtp", "", CLIENT

    reader = MailCodes(MpcCodes(field_from=(f"{CLIENT}/32",)))
    found = reader.code_in(Trusted(), b"MPC: " + value + b"\r\n\r\n", None)  # type: ignore[arg-type]
    assert found is None or isinstance(found.mpc, Mpc)  # type: ignore[union-attr]
