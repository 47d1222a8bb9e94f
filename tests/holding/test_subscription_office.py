"""The subscription service as people meet it: apply, get a letter, confirm, see, leave."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from outrider.holding.pages.html import escaped
from outrider.holding.pages.texts import LANGUAGES
from outrider.holding.subscriptions.letter_texts import LETTERS, LetterTexts
from outrider.holding.subscriptions.office import GUESSES_PER_HOUR, KINDS, network_of
from outrider.holding.subscriptions.page_texts import PAGES, PageTexts
from outrider.holding.subscriptions.wishes import Fault, Standing
from outrider.holding.web import WebResponse
from outrider.lists.distribution import list_fields
from outrider.lists.tokens import Tokens
from outrider.model.address import parse_address
from outrider.routing.list_addresses import Purpose
from outrider.spool.interface import SpoolFull
from outrider.tables.database import StoreUnavailable
from tests.holding.subscription_support import ServiceRig, link_of
from tests.lists.support import field_of, octets, stored

ANN = "ann@alpha.example"
MakeService = Callable[..., ServiceRig]


@pytest.fixture
def make_service(tmp_path: Path) -> Iterator[MakeService]:
    rigs: list[ServiceRig] = []

    def make(**more: Any) -> ServiceRig:
        rigs.append(ServiceRig(tmp_path, **more))
        return rigs[-1]

    yield make
    for one in rigs:
        one.close()


@pytest.fixture
def service(make_service: MakeService) -> ServiceRig:
    return make_service()


def text(response: WebResponse) -> str:
    return response.body.decode()


# --- apply and confirm ------------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-19")
async def test_a_person_applies_gets_a_letter_and_confirms_by_post(service: ServiceRig) -> None:
    path = await service.apply("accept", ANN, "news.example", "*::Bulk::*")
    [letter] = service.letters
    assert letter.envelope.sender is None
    assert [str(one.address) for one in letter.envelope.recipients] == [ANN]
    assert field_of(letter, "Auto-Submitted") == "auto-replied"
    assert "accept mail from news.example of the class *::Bulk::*" in octets(letter).decode()
    shown = await service.get(path)
    assert shown.status == 200
    assert "mail from news.example of the class *::Bulk::*" in text(shown)
    assert await service.wishes(ANN) == []
    assert (await service.post(path)).status == 200
    assert await service.wishes(ANN) == [("accept", "news.example", "*::Bulk::*")]


@pytest.mark.covers("AMDP-19", "SEC-195")
async def test_looking_at_a_link_never_does_anything(service: ServiceRig) -> None:
    """Link scanners and previews open every link of a letter."""
    accept = await service.apply("accept", ANN, "news.example")
    for method in ("GET", "HEAD"):
        assert (await service.ask(service.pages, method, accept)).status == 200
    assert await service.wishes(ANN) == []
    await service.post(accept)
    mine = await service.apply("show", ANN)
    assert "news.example" not in text(await service.get(mine))
    [leave] = re.findall(r'action="(/subscriptions/leave/[^"]+)"', text(await service.post(mine)))
    for method in ("GET", "HEAD"):
        assert (await service.ask(service.pages, method, leave)).status == 200
    assert await service.wishes(ANN) == [("accept", "news.example", "*")]


@pytest.mark.covers("AMDP-19")
async def test_nobody_learns_whether_an_address_exists(service: ServiceRig) -> None:
    """Page and API say the same, with the same work done, of a user, a stranger, a list and nobody at all."""
    addresses = [
        ANN,
        "nobody@alpha.example",
        "eve@far.example",
        "staff@alpha.example",
        "mailer-daemon@alpha.example",
    ]
    answers = set()
    for address in addresses:
        fields = {"kind": "accept", "address": address, "sender": "news.example", "class": ""}
        page = await service.post("/subscriptions", fields)
        body = b'{"wish": "accept", "address": "%s", "sender": "news.example"}' % address.encode()
        program = await service.json("/amdp/v1/subscriptions/apply", body)
        answers.add((page.status, page.body, tuple(page.headers.items()), program.status, program.body))
    assert len(answers) == 1
    await service.office.write_letters()
    assert {str(one.envelope.recipients[0].address) for one in service.letters} == {ANN}


@pytest.mark.covers("AMDP-19")
@pytest.mark.parametrize(
    ("languages", "language", "subject", "wish"),
    [
        ("", "en", "Please confirm your subscription", "accept mail from news.example of the class"),
        ("de-AT, en;q=0.5", "de", "Bitte bestätigen: Ihr Abonnement", "Post von news.example der Klasse"),
        ("nl, fr;q=0.9, en;q=0.1", "fr", "Merci de confirmer votre abonnement", "accepter le courrier de"),
        ("tlh", "en", "Please confirm your subscription", "accept mail from news.example of the class"),
    ],
)
async def test_letters_are_in_the_language_of_who_applies(
    service: ServiceRig, languages: str, language: str, subject: str, wish: str
) -> None:
    """By the page and by the API, as the retrieval page chooses its own."""
    fields = {"kind": "accept", "address": ANN, "sender": "news.example", "class": "*::Bulk::*"}
    program = {"wish": "accept", "address": ANN, "sender": "news.example", "mail_class": "*::Bulk::*"}
    wanted = {"accept-language": languages}
    await service.post("/subscriptions", fields, headers=wanted)
    path = "/amdp/v1/subscriptions/apply"
    headers = {"content-type": "application/json", **wanted}
    await service.json(path, json.dumps(program).encode(), headers=headers)
    await service.office.write_letters()
    assert len(service.letters) == 2
    for one in service.letters:
        letter = message_from_bytes(octets(one), policy=default)
        assert isinstance(letter, EmailMessage)
        assert str(letter["Subject"]) == subject
        words = letter.get_content()
        for expected in (wish, ANN, LETTERS[language].classes["*::Bulk::*"], link_of(one)):
            assert expected in words


@pytest.mark.covers("AMDP-19")
@pytest.mark.parametrize("texts", LETTERS.values(), ids=LETTERS)
def test_every_language_of_the_letters_says_everything(texts: LetterTexts) -> None:
    english = LETTERS["en"]
    assert texts.classes.keys() == english.classes.keys()
    assert texts.wishes.keys() == english.wishes.keys() == set(KINDS) | {"subscribe", "unsubscribe"}
    assert texts.subjects.keys() == english.subjects.keys()
    assert LETTERS.keys() == LANGUAGES.keys(), "as many as the pages have"
    assert all(name in texts.text for name in ("{address}", "{wish}", "{link}"))


@pytest.mark.covers("AMDP-19")
@pytest.mark.parametrize("texts", PAGES.values(), ids=PAGES)
def test_every_language_of_the_pages_says_everything(texts: PageTexts) -> None:
    assert PAGES.keys() == LANGUAGES.keys()
    assert set(texts.kinds) == set(KINDS)
    assert set(texts.faults) == set(Fault)
    for field in fields(PageTexts):
        ours, theirs = (_words(getattr(one, field.name)) for one in (texts, PAGES["en"]))
        assert all(one.strip() for one in ours), field.name
        filled_in = [[re.findall(r"\{\w+\}", one) for one in several] for several in (ours, theirs)]
        assert filled_in[0] == filled_in[1], field.name
        assert not any("<" in one or "&" in one for one in ours), field.name


def _words(value: str | Mapping[object, str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value.values())


@pytest.mark.covers("AMDP-19")
@pytest.mark.parametrize("language", LANGUAGES)
async def test_refusals_and_failures_are_told_in_the_readers_language(
    make_service: MakeService, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, texts = make_service(requests_per_hour=5), PAGES[language]
    wanted = {"accept-language": language}
    asked = {"kind": "accept", "address": ANN, "sender": "news.example", "class": ""}
    for change, fault in (
        ({"kind": "all"}, Fault.KIND),
        ({"address": "ann"}, Fault.ADDRESS),
        ({"address": "@"}, Fault.ADDRESS),
        ({"sender": ""}, Fault.EVERYTHING),
        ({"sender": "a b"}, Fault.SENDER),
        ({"sender": "x" * 400}, Fault.SENDER),
        ({"class": "https://evil.example"}, Fault.CLASS),
        ({"class": ":::"}, Fault.CLASS),
    ):
        wrong = await service.post("/subscriptions", asked | change, headers=wanted)
        assert (wrong.status, wrong.headers["Content-Language"]) == (400, language)
        assert escaped(texts.faults[fault]).markup in text(wrong), change
    foreign = await service.post("/subscriptions", asked, headers={**wanted, "sec-fetch-site": "cross-site"})
    assert (foreign.status, escaped(texts.foreign_form).markup in text(foreign)) == (403, True)
    for _ in range(5):
        assert (await service.post("/subscriptions", asked, headers=wanted)).status == 200
    refused = await service.post("/subscriptions", asked, headers=wanted)
    assert (refused.status, escaped(texts.too_many).markup in text(refused)) == (429, True)

    async def gone(*_: object) -> None:
        raise StoreUnavailable("no database")

    monkeypatch.setattr(service.store, "call", gone)
    failed = await service.get(f"/subscriptions/confirm/{'a' * 26}", headers=wanted)
    assert (failed.status, escaped(texts.not_now).markup in text(failed)) == (503, True)


@pytest.mark.covers("AMDP-19")
async def test_letters_that_cannot_be_stored_are_written_later(service: ServiceRig) -> None:
    service.spool_is_full = True
    await service.office.apply("accept", ANN, "news.example", "", ip_address("192.0.2.1"))
    with pytest.raises(SpoolFull):
        await service.office.write_letters()
    service.spool_is_full = False
    assert await service.office.write_letters() == 0
    service.now += 301
    assert await service.office.write_letters() == 1
    assert await service.office.write_letters() == 0
    assert len(service.letters) == 1


@pytest.mark.covers("AMDP-19")
async def test_a_running_service_writes_letters_when_somebody_applies(service: ServiceRig) -> None:
    running = asyncio.create_task(service.office.run())
    await service.office.apply("accept", ANN, "news.example", "", ip_address("192.0.2.1"))
    async with asyncio.timeout(60):
        while not service.letters:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.covers("AMDP-19")
async def test_one_address_applies_so_often_and_a_whole_network_counts_as_one(
    make_service: MakeService,
) -> None:
    service = make_service(requests_per_hour=3)
    fields = {"kind": "accept", "address": ANN, "sender": "news.example"}
    clients = [ip_address(f"2001:db8::{number}") for number in range(4)]
    answers = [await service.post("/subscriptions", fields, client=one) for one in clients]
    assert [one.status for one in answers] == [200, 200, 200, 429]
    assert 0 < int(answers[3].headers["Retry-After"]) <= 3601
    other = await service.post("/subscriptions", fields, client=ip_address("2001:db8:0:1::1"))
    assert other.status == 200
    service.now += 3600
    assert (await service.post("/subscriptions", fields, client=clients[0])).status == 200
    assert network_of(ip_address("::ffff:192.0.2.1")) == network_of(ip_address("192.0.2.1"))


@pytest.mark.covers("AMDP-19", "SEC-181", "SEC-186")
async def test_wrong_links_are_all_answered_alike_and_then_not_at_all(service: ServiceRig) -> None:
    path = await service.apply("accept", ANN, "news.example")
    wrong = ["a" * 26, "..", "%2e%2e", "x" * 5000, path.rpartition("/")[2][:-1], "\x00", "'; --"]
    pages = ("confirm", "mine", "leave", "leave/staff@alpha.example", "leave/none@alpha.example")
    tried = [f"/subscriptions/{page}/{token}" for page in pages for token in wrong]
    answers = {((await service.post(one)).status, (await service.post(one)).body) for one in tried[:20]}
    assert len(answers) == 1
    assert {status for status, _ in answers} == {404}
    for number in range(GUESSES_PER_HOUR):
        await service.get(f"/subscriptions/confirm/{number:026d}")
    assert (await service.post(path)).status == 429
    assert (await service.post(path, client=ip_address("198.51.100.1"))).status == 200


@pytest.mark.covers("SEC-195", "SEC-196")
async def test_a_form_of_another_site_is_refused_and_what_is_shown_is_text(service: ServiceRig) -> None:
    fields = {"kind": "accept", "address": ANN, "sender": "news.example"}
    cross = await service.post("/subscriptions", fields, headers={"sec-fetch-site": "cross-site"})
    assert cross.status == 403
    plain = await service.ask(
        service.pages, "POST", "/subscriptions", body=b"{}", headers={"content-type": "text/plain"}
    )
    assert plain.status == 400
    evil = '"><script>alert(1)</script>'
    shown = await service.get("/subscriptions", query={"sender": evil, "class": evil, "kind": evil})
    again = await service.post(
        "/subscriptions", {"kind": "accept", "address": evil, "sender": evil, "class": evil}
    )
    for one in (shown, again):
        assert "<script" not in text(one)
        assert "script-src" not in one.headers["Content-Security-Policy"]
        assert "default-src 'none'" in one.headers["Content-Security-Policy"]
    assert again.status == 400
    many = await service.post("/subscriptions", {f"f{number}": "x" for number in range(100)})
    assert many.status == 400
    assert not service.pages.serves("evil.example", "/subscriptions")
    assert not service.api.serves("evil.example", "/amdp/v1/subscriptions/apply")


@pytest.mark.covers("AMDP-19", "SEC-195", "SEC-204")
@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"token": "aaaaaaaaaaaaaaaaaaaaaaaaaa"}', {"content-type": "text/plain"}, 415),
        (b"[" * 100_000, None, 400),
        (b'{"token": 5}', None, 400),
        (b'{"token": "' + b"x" * 100 + b'"}', None, 400),
        (b'{"token": "aaaaaaaaaaaaaaaaaaaaaaaaaa", "more": 1}', None, 200),
    ],
)
async def test_what_programs_send_is_bounded(
    service: ServiceRig, body: bytes, headers: dict[str, str] | None, status: int
) -> None:
    more = {} if headers is None else {"headers": headers}
    answer = await service.json("/amdp/v1/subscriptions/confirm", body, **more)
    assert answer.status == status
    assert (await service.ask(service.api, "GET", "/amdp/v1/subscriptions/confirm")).status == 405


@pytest.mark.covers("AMDP-19")
async def test_a_program_confirms_and_leaves_as_a_page_does(service: ServiceRig) -> None:
    token = (await service.apply("accept", ANN, "news.example")).rpartition("/")[2]
    body = b'{"token": "%s"}' % token.encode()
    assert (await service.json("/amdp/v1/subscriptions/confirm", body)).body == b'{"done":true}'
    [rule] = await service.store.call(lambda store: store.rules_of(parse_address(ANN)))
    leave = (await service.office.leave_path(rule)).rpartition("/")[2]
    body = b'{"token": "%s"}' % leave.encode()
    assert (await service.json("/amdp/v1/subscriptions/leave", body)).body == b'{"done":true}'
    assert await service.wishes(ANN) == []
    assert (
        await service.json("/amdp/v1/subscriptions/leave", b'{"token": "1-aaaaaaaaaaaa"}')
    ).body == b'{"done":false}'


# --- leaving ----------------------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-19")
async def test_one_click_ends_a_subscription_and_said_again_it_is_the_same(service: ServiceRig) -> None:
    await service.subscribed("accept", ANN, "news.example")
    [rule] = await service.store.call(lambda store: store.rules_of(parse_address(ANN)))
    leave = await service.office.leave_path(rule)
    for _ in range(GUESSES_PER_HOUR + 5):
        answer = await service.post(leave, {"List-Unsubscribe": "One-Click"})
        assert answer.status == 200
    assert await service.wishes(ANN) == []
    # What the link was for may begin again, with a letter.
    await service.subscribed("accept", ANN, "news.example")
    assert await service.wishes(ANN) == [("accept", "news.example", "*")]


@pytest.mark.covers("AMDP-19")
async def test_what_one_has_is_shown_to_the_letters_reader_alone_with_a_way_out(service: ServiceRig) -> None:
    await service.subscribed("accept", ANN, "news.example", "*::Bulk::*")
    await service.subscribed("deny", ANN, "spam.example")
    await service.subscribed("accept", "bob@alpha.example", "secret.example")
    await service.lists.join(ANN)
    page = text(await service.post(await service.apply("show", ANN)))
    assert "Wanted: mail from news.example of the class *::Bulk::*" in page
    assert "Not wanted: mail from spam.example" in page
    assert "staff@alpha.example" in page
    assert "secret.example" not in page
    links = re.findall(r'action="(/subscriptions/leave/[^"]+)"', page)
    assert len(links) == 3
    for one in links:
        assert (await service.post(one)).status == 200
    assert await service.wishes(ANN) == []
    assert await service.lists.members() == []


# --- lists of this server ---------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-19")
async def test_a_confirmed_subscription_to_a_list_here_joins_it_and_leaving_ends_it(
    service: ServiceRig,
) -> None:
    """For people from elsewhere too, who get no letter about anything else."""
    eve = "eve@far.example"
    path = await service.apply("accept", eve, "Staff@alpha.example", "*::Bulk::*")
    assert field_of(service.letters[-1], "From").endswith("<staff-request@alpha.example>")
    assert await service.lists.members() == []
    await service.post(path)
    assert await service.lists.members() == [eve]
    await service.post(path)
    assert await service.wishes(eve) == []
    await service.post(await service.apply("leave", eve, "staff@alpha.example"))
    assert await service.lists.members() == []
    await service.post(path)
    assert await service.lists.members() == [], "a link used before joins nobody again"
    assert await service.apply("accept", eve, "news.example") == ""


@pytest.mark.covers("AMDP-19")
async def test_nobody_joins_a_closed_list(make_service: MakeService) -> None:
    service = make_service(settings={"subscription": "closed"})
    assert await service.apply("accept", ANN, "staff@alpha.example") == ""
    assert service.letters == []


@pytest.mark.covers("AMDP-19")
async def test_each_copy_of_a_list_names_the_page_that_leaves_at_one_click(service: ServiceRig) -> None:
    await service.lists.join(ANN)
    root = "https://mx.alpha.example/subscriptions"
    service.lists.mailing = replace(service.lists.mailing, subscriptions=lambda _: root)
    service.lists.transport = service.lists.make_transport()
    [copy] = (await service.lists.handle(stored("staff@alpha.example", sender=ANN))).made
    assert field_of(copy, "List-Unsubscribe-Post") == "List-Unsubscribe=One-Click"
    link, mail = field_of(copy, "List-Unsubscribe").split(", ")
    assert mail.startswith("<mailto:staff-unsubscribe+")
    path = link.removeprefix("<https://mx.alpha.example").removesuffix(">")
    assert (await service.get(path)).status == 200
    assert await service.lists.members() == [ANN]
    assert (await service.post(path, {"List-Unsubscribe": "One-Click"})).status == 200
    assert await service.lists.members() == []
    assert (await service.post(path)).status == 200
    without = list_fields(service.lists.staff, parse_address("x@alpha.example"))
    assert b"https" not in without
    assert b"List-Unsubscribe-Post" not in without


@pytest.mark.covers("AMDP-19")
async def test_a_seal_of_one_list_or_purpose_opens_nothing_else(service: ServiceRig) -> None:
    await service.subscribed("accept", ANN, "news.example")
    await service.lists.join(ANN)
    seals = Tokens(await service.lists.store.call(lambda store: store.key))
    name = "staff@alpha.example"
    good = seals.for_member(name, Purpose.UNSUBSCRIBE, 1)
    for path in (
        f"/subscriptions/leave/{good}",
        f"/subscriptions/leave/other@alpha.example/{good}",
        f"/subscriptions/leave/{name}/{seals.for_member(name, Purpose.BOUNCES, 1)}",
    ):
        assert (await service.post(path)).status == 404
    assert await service.wishes(ANN) == [("accept", "news.example", "*")]
    assert (await service.post(f"/subscriptions/leave/{name}/{good}")).status == 200


# --- those who judge --------------------------------------------------------------------------------------


@pytest.mark.covers("AMDP-19", "AMDP-22")
async def test_the_gateway_learns_what_the_recipient_wishes_of_a_sender(service: ServiceRig) -> None:
    await service.subscribed("accept", ANN, "news.example", "*::Bulk::*")
    await service.subscribed("deny", ANN, "news.example", "Agent::Bulk::offers")
    sender = parse_address("a@news.example")

    async def said(recipient: str, mail_class: str) -> Standing | None:
        return await service.office.standing(parse_address(recipient), sender, mail_class, vouched=False)

    assert await said("Ann@alpha.example", "Agent::Bulk::letter") is Standing.ACCEPT
    assert await said(ANN, "Agent::Bulk::Offers") is Standing.DENY
    assert await said(ANN, "Agent::Personal::note") is None
    assert await said("bob@alpha.example", "Agent::Bulk::letter") is None
    # The same person by an alias, and with a detail; not one of several behind an address.
    assert await said("boss@alpha.example", "Agent::Bulk::letter") is Standing.ACCEPT
    assert await said("ann+shop@alpha.example", "Agent::Bulk::letter") is Standing.ACCEPT
    assert await said("all@alpha.example", "Agent::Bulk::letter") is None


@pytest.mark.covers("AMDP-19", "SEC-211")
async def test_links_are_told_to_the_reader_of_the_letter_and_to_no_log(service: ServiceRig) -> None:
    await service.apply("accept", ANN, "news.example")
    token = link_of(service.letters[0]).rpartition("/")[2]
    await service.post(f"/subscriptions/confirm/{token}")
    await service.get(f"/subscriptions/mine/{token}")
    assert token not in repr(service.observer.facts)
