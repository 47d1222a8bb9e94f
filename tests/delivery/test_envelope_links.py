"""Envelopes of AMDP on their way out: by SMTP, and for everybody else with a link that opens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from outrider.delivery.interface import Job
from outrider.delivery.mt2_departure import Departure
from outrider.delivery.next_hops import HopPlanner
from outrider.delivery.service_hops import ServiceSending
from outrider.model.mpc import parse_mpc
from outrider.protocols.amdp.envelope import retrieval_link
from outrider.routing.channels import Channel
from outrider.routing.ways import MxWay
from tests.delivery.support import FakeLookup, mx, new_message, srv, surroundings
from tests.delivery.test_service_hops import Memory
from tests.net.client_jobs import HELLO
from tests.net.client_jobs import job as job_of
from tests.reception.envelope_rig import held, octets

pytestmark = pytest.mark.covers("AMDP-4a", "AMDP-5a")
TOKEN = "t" * 26
LINK = f"\r\n{retrieval_link(held())}/{TOKEN}\r\n".encode()


def envelope_job() -> Job:
    return job_of(octets(held()), "ann@a.example", link_token=TOKEN)


def content(job: Job) -> bytes:
    whole = job.message.content
    assert whole is not None
    return whole.headers + b"".join(whole.body.chunks())


@pytest.mark.parametrize("protocol", ["amtp", "mt2", "qmtp", "lmtp"])
def test_protocols_without_the_keyword_carry_the_link(protocol: str) -> None:
    going = Departure(None).dressed(envelope_job(), protocol, "mx.a.example")
    assert LINK in content(going)
    assert not going.message.envelope.link_token, "an ordinary message from here on"
    again = Departure(None).dressed(envelope_job(), protocol, "mx.a.example")
    assert content(again) == content(going), "the same octets at every attempt"


def test_smtp_decides_when_it_knows_the_server() -> None:
    job = envelope_job()
    assert Departure(None).dressed(job, "smtp", "mx.a.example") is job


@pytest.mark.parametrize("transport", ["maildir", "pipe", "discard"])
def test_a_mailbox_of_this_machine_gets_the_link(transport: str) -> None:
    (part,) = Departure(None).for_transport(envelope_job(), transport)
    assert LINK in content(part)


def test_ordinary_mail_is_the_same_object() -> None:
    job = job_of(HELLO, "ann@a.example")
    assert Departure(None).dressed(job, "qmtp", "mx.a.example") is job
    assert Departure(None).for_transport(job, "maildir")[0] is job


def test_what_lost_its_link_on_the_way_goes_as_it_is() -> None:
    job = job_of(HELLO, "ann@a.example", link_token=TOKEN)
    assert content(Departure(None).dressed(job, "amtp", "mx.a.example")) == HELLO


@pytest.mark.covers("ITP-7")
@pytest.mark.parametrize(
    ("channel", "protocol"),
    [
        (Channel(), "smtp"),
        (Channel(("amtp",)), "amtp"),
        (Channel(stays=frozenset({"amtp"})), "amtp"),
    ],
)
async def test_envelopes_prefer_smtp_where_no_more_is_demanded(channel: Channel, protocol: str) -> None:
    lookup = FakeLookup()
    lookup.service_answers["b.example"] = srv((10, "amtp.b.example"))
    lookup.mx_answers["b.example"] = mx((10, "mx.b.example"))
    planner = HopPlanner(surroundings(lookup, None, None), (ServiceSending("amtp", 10_125, Memory()),))
    usual = replace(new_message("m", "ann@b.example").envelope, mpc=parse_mpc("com/optin"))
    by_envelope = await planner.plan(MxWay(channel=channel), "b.example", replace(usual, link_token=TOKEN))
    assert [hop.protocol for hop in by_envelope.hops] == [protocol]
    ordinary = await planner.plan(MxWay(channel=channel), "b.example", usual)
    assert [hop.protocol for hop in ordinary.hops] == ["amtp"]
