"""Answers for users who are away: to persons, once, and never in a circle (RFC 3834)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from outrider.config.schema import Config, Domain, MpcCodes, Vacation
from outrider.delivery.interface import Expansion, Job
from outrider.lists.mailing import Mailing
from outrider.lists.responding import FRESH_S, Parts, Responder, RespondingTransport
from outrider.lists.store import Away, ListStoreThread, open_list_store
from outrider.lists.vacation import vacation_settings
from outrider.message.header_fields import field_values
from outrider.model.address import parse_address
from outrider.model.envelope import Arrival
from outrider.model.message import MessageId, NewMessage
from outrider.model.mpc import LEGAL, MailClass
from outrider.model.result import DeliveryResult, Kind
from outrider.routing.local_tables import load_tables
from outrider.routing.routes import RouteTable
from tests.lists.support import START, Observer, octets, stored

DAY = 86_400.0
TO_ANN = "From: Eve <eve@far.example>\r\nTo: Ann <ann@alpha.example>\r\nSubject: hello\r\n"


class Mailbox:
    """Delivers as told."""

    def __init__(self) -> None:
        self.kind = Kind.DELIVERED
        self.closed = False

    async def deliver(self, job: Job, instruction: str) -> Mapping[int, DeliveryResult]:
        return dict.fromkeys(job.recipients, DeliveryResult(self.kind, "2.0.0", instruction))

    def close(self) -> None:
        self.closed = True


class Desk:
    """A responder with everything around it; ann and bob are away."""

    def __init__(self, folder: Path, *, mpc: MpcCodes | None = None, **vacation: Any) -> None:
        self.now = START
        self.config = Config(
            hostname="mx.alpha.example",
            data_dir=str(folder),
            domains={
                "alpha.example": Domain(
                    deliver="maildir:/var/mail/{user}",
                    users=("ann", "bob", "postmaster"),
                    aliases={"boss": ("ann",), "all": ("ann", "bob")},
                    vacation=Vacation(**vacation),
                ),
                "alias.example": Domain(domain_alias_of="alpha.example"),
                "quiet.example": Domain(deliver="maildir:/var/mail/{user}", users=("ann", "postmaster")),
            },
            mpc=mpc or MpcCodes(),
        )
        self.tables = load_tables(self.config, lambda _: "")
        self.store = ListStoreThread(lambda: open_list_store(self.config, folder), "lists")
        self.observer = Observer()
        self.inner = Mailbox()
        mailing = Mailing(
            "mx.alpha.example", self.tables, RouteTable(self.config), lambda _: MessageId("MADE00000000001")
        )
        settings = vacation_settings(self.config)
        parts = Parts(settings, self.tables, self.store, mailing, self.observer, lambda: self.now)
        self.transport = RespondingTransport(self.inner, Responder(parts))

    async def leave(self, user: str = "ann", away: Away = Away("", "I am away.\n")) -> None:  # noqa: B008
        await self.store.call(lambda store: store.set_away(f"{user}@alpha.example", away))

    async def deliver(self, *recipients: str, **options: Any) -> list[NewMessage]:
        options = {"headers": TO_ANN, **options}
        message = stored(*(recipients or ("ann@alpha.example",)), **options)
        job = Job(message, tuple(range(len(message.envelope.recipients))))
        done = await self.transport.deliver(job, "")
        assert isinstance(done, Expansion)
        assert len(done.results) == len(job.recipients)
        return list(done.messages)


@pytest.fixture
async def desk(tmp_path: Path) -> Any:
    """Ann is away."""
    made = Desk(tmp_path)
    await made.leave()
    yield made
    made.store.close()


@pytest.fixture
def make_desk(tmp_path: Path) -> Iterator[Any]:
    """Makes desks with settings."""
    desks: list[Desk] = []

    def make(**options: Any) -> Desk:
        desks.append(Desk(tmp_path, **options))
        return desks[-1]

    yield make
    for one in desks:
        one.store.close()


@pytest.mark.covers("AMTP-17", "SMTP-8", "SEC-172")
async def test_a_person_gets_one_letter(desk: Desk) -> None:
    headers = TO_ANN + "Message-ID: <1@far.example>\r\nReferences: <0@far.example> junk\r\n"
    [answer] = await desk.deliver(headers=headers, mpc="com/individual", arrival=Arrival.AMTP_PUBLIC)
    assert answer.envelope.sender is None
    assert [str(one.address) for one in answer.envelope.recipients] == ["eve@far.example"]
    assert str(answer.envelope.mpc) == "net/autoresponse"
    values = {
        name: field_values(answer.content.headers, name.encode())[0].decode()
        for name in ("From", "To", "Subject", "Auto-Submitted", "In-Reply-To", "References")
    }
    assert values == {
        "From": "<ann@alpha.example>",
        "To": "<eve@far.example>",
        "Subject": "Auto: hello",
        "Auto-Submitted": "auto-replied (vacation)",
        "In-Reply-To": "<1@far.example>",
        "References": "<0@far.example> <1@far.example>",
    }
    assert octets(answer).endswith(b"I am away.\r\n")


@pytest.mark.covers("AMTP-17")
async def test_the_same_sender_is_answered_again_only_after_a_week(desk: Desk) -> None:
    assert await desk.deliver(name="M1")
    assert await desk.deliver(name="M1")  # the same message, after a crash
    assert not await desk.deliver(name="M2")
    assert await desk.deliver(name="M3", sender="zoe@far.example")
    assert not await desk.deliver(name="M4", sender="zoe@FAR.example")
    desk.now += 7 * DAY - 1
    assert not await desk.deliver(name="M5")
    desk.now += 1
    assert await desk.deliver(name="M6")


@pytest.mark.covers("AMTP-17")
@pytest.mark.parametrize("mpc", LEGAL, ids=str)
async def test_only_class_individual_is_answered(desk: Desk, mpc: Any) -> None:
    answers = await desk.deliver(mpc=str(mpc), arrival=Arrival.AMTP_PUBLIC)
    assert bool(answers) is (mpc.mail_class is MailClass.INDIVIDUAL)
    assert all(str(one.envelope.mpc).endswith("/autoresponse") for one in answers)


@pytest.mark.covers("SEC-172", "AMTP-17")
@pytest.mark.parametrize(
    "case",
    [
        {"sender": None},
        {"headers": TO_ANN + "Auto-Submitted: auto-generated\r\n"},
        {"headers": TO_ANN + "auto-submitted:AUTO-REPLIED;x=y\r\n"},
        {"headers": TO_ANN + "Auto-Submitted: no\r\nAuto-Submitted: auto-replied\r\n"},
        {"headers": TO_ANN + "Precedence: LIST\r\n"},
        {"headers": TO_ANN + "Precedence: junk\r\n"},
        {"headers": TO_ANN + "List-Id: <x.example>\r\n"},
        {"headers": TO_ANN + "List-Unsubscribe: <mailto:x@x.example>\r\n"},
        {"sender": "MAILER-DAEMON@far.example"},
        {"sender": "owner-news@far.example"},
        {"sender": "news-request@far.example"},
        {"sender": "noreply@far.example"},
        {"sender": "staff-bounces+1-x@far.example"},
        {"sender": "ann@alpha.example"},
        {"sender": "ann+x@alias.example"},
        {"sender": "boss@alpha.example"},
        {"headers": "To: somebody@far.example\r\n"},
        {"headers": "To: all@alpha.example\r\n"},
        {"headers": "To: bob@alpha.example\r\nCc: ann@other.example\r\n"},
        {"headers": "Subject: no To at all\r\n"},
    ],
)
async def test_programs_lists_and_strangers_get_none(desk: Desk, case: dict[str, Any]) -> None:
    assert await desk.deliver(**case) == []
    assert len(desk.observer.named("vacation_withheld")) == 1


@pytest.mark.parametrize(
    "headers",
    [
        "Cc: x@y.example, ann@alpha.example\r\n",
        "To: boss@alpha.example\r\n",
        "To: ANN+shop@alias.example\r\n",
        "Resent-To: ann@alpha.example\r\n",
        "Auto-Submitted: no\r\nTo: ann@alpha.example\r\n",
    ],
)
async def test_every_address_of_the_user_alone_counts(desk: Desk, headers: str) -> None:
    assert len(await desk.deliver(headers=headers)) == 1


async def test_only_delivered_mail_is_answered(desk: Desk) -> None:
    for kind in (Kind.DEFERRED, Kind.FAILED):
        desk.inner.kind = kind
        assert await desk.deliver() == []


async def test_each_user_who_is_away_answers_for_himself(desk: Desk) -> None:
    await desk.leave("bob", Away("Out: of the office", "Bob is away.\n"))
    headers = "To: ann@alpha.example, bob@alpha.example\r\nSubject: hello\r\n"
    answers = await desk.deliver("ann@alpha.example", "bob@alpha.example", headers=headers)
    assert [field_values(one.content.headers, b"subject")[0] for one in answers] == [
        b"Auto: hello",
        b"Out: of the office",
    ]
    assert await desk.deliver("ann@quiet.example", headers="To: ann@quiet.example\r\n") == []


async def test_an_absence_begins_and_ends_by_itself(desk: Desk) -> None:
    await desk.leave("ann", Away("", "x", START + 10, START + 20))
    answered = []
    for at in (0, 10, 20):
        desk.now = START + at
        answered.append(len(await desk.deliver(name=f"M{at}")))
    assert answered == [0, 1, 0]


async def test_what_is_set_or_ended_holds_soon(desk: Desk) -> None:
    assert await desk.deliver(name="M1")
    await desk.store.call(lambda store: store.end_away("ann@alpha.example"))
    desk.now += FRESH_S
    assert not await desk.deliver(name="M2", sender="zoe@far.example")


@pytest.mark.covers("SMTP-6")
async def test_a_store_that_cannot_be_used_costs_the_answer_and_not_the_mail(desk: Desk) -> None:
    await desk.store.call(lambda store: store._database.execute("ALTER TABLE vacations RENAME TO gone"))
    assert await desk.deliver() == []
    assert len(desk.observer.named("lists_failed")) == 1


@pytest.mark.covers("AMTP-17")
@pytest.mark.parametrize(
    ("accounts", "role", "code"),
    [
        ({}, "net", "net/autoresponse"),
        ({}, "com", "com/autoresponse"),
        (
            {"ann@alpha.example": "gov/individual", "bob@alpha.example": "com/optin"},
            "net",
            "gov/autoresponse",
        ),
        ({"ann@alpha.example": "mpc/individual", "ann": "pol/individual"}, "ngo", "ngo/autoresponse"),
    ],
)
async def test_an_answer_has_the_role_of_the_account(
    make_desk: Any, accounts: dict[str, str], role: str, code: str
) -> None:
    desk = make_desk(mpc=MpcCodes(accounts=accounts), role=role)
    await desk.leave()
    [answer] = await desk.deliver()
    assert str(answer.envelope.mpc) == code


@pytest.mark.parametrize(
    "domain",
    [
        Domain(deliver="lmtp:[127.0.0.1]:24", vacation=Vacation()),
        Domain(aliases={"x": ("a@b.example",)}, vacation=Vacation()),
        Domain(deliver="maildir:/x", vacation=Vacation(role="nonsense")),
        Domain(deliver="maildir:/x", vacation=Vacation(role="mpc")),
    ],
)
def test_mistakes_are_named_by_their_key(domain: Domain) -> None:
    with pytest.raises(ValueError, match=r'^domains\."alpha\.example"\.vacation'):
        vacation_settings(Config(hostname="x", data_dir="/x", domains={"alpha.example": domain}))


async def test_the_subject_of_a_stranger_is_only_text(desk: Desk) -> None:
    headers = (
        "To: ann@alpha.example\r\nSubject: =?utf-8?q?x=0D=0AEvil=3A_1=E2=80=AE?=\r\nMessage-ID: <a b>\r\n"
    )
    [answer] = await desk.deliver(headers=headers)
    assert field_values(answer.content.headers, b"evil") == ()
    assert field_values(answer.content.headers, b"in-reply-to") == ()
    assert parse_address("eve@far.example") == answer.envelope.recipients[0].address


def test_what_is_inside_is_closed(make_desk: Any) -> None:
    desk = make_desk()
    desk.transport.close()
    assert desk.inner.closed
