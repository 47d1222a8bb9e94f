"""Who lives in the small Internet: every site, what it takes, and whom it wants mail from.

Sites are shared between scenes, since each is a process of its own. There are a provider (alpha, out), an ISP
with its customer (isp; gate, inner), one whose taste is known (beta) and one that it stands in for (delta),
a bank, one who lies (mallory), two who speak no AMTP (gamma, quick), and three who speak MT2: north writes to
south by way of transit. Alpha, beta, the bank and north speak AMDP: alpha holds mail of two of its users, the
others take envelopes, and the bank is asked what classes senders have.
"""

from __future__ import annotations

from outrider.playground.packages import CHESS
from outrider.playground.people import POSTAGE
from outrider.playground.site import AMDP_PORT, MT2_PORT, SitePlan, private_way


def _refuse(name: str, when: str, reason: str, unless: str = "") -> str:
    spared = f"unless = {{ {unless} }}\n" if unless else ""
    return (
        f'[[policy.rules]]\nname = "{name}"\naction = "refuse"\nwhen = {{ {when} }}\n{spared}'
        f'reason = "{reason}"\n'
    )


def _codes_from(network: str, value: str) -> str:
    """What is handed in from a network is of that code, and may go anywhere."""
    return (
        f'[relay]\nnetworks = ["{network}"]\n\n'
        f'[[mpc.assigned]]\nvalue = "{value}"\nnetworks = ["{network}"]\n'
    )


_ALPHA = f"""\
[auth]
users_file = "users"

[mpc.accounts]
bob = "per/individual"
offers = "com/optin"
party = "pol/optin"

[routes]
"vault.example" = {{ to = "mx", tls = "verify" }}
"customer.example" = {private_way("out.alpha.example", "alpha")}

{_refuse("no-lottery", '"header.subject" = "*lottery*"', "lottery mail is not taken here")}
[[policy.rules]]
name = "kept-until-asked-for"
action = "route"
when = {{ login = ["olga", "news"] }}
value = "amdp"

[limits]
message_size = 300_000_000

[amdp.outgoing.classes]
"news@alpha.example" = "Agent::Bulk"

[amdp.postage]
vouched_by = ["amdp-mis.bank.example:{AMDP_PORT}"]

[amdp.postage.accounts]
"beta.example" = "alpha:{POSTAGE}"
"""

_OUT = f"""\
[amtp]
private_auth = "none"

[relay]
certificate_names = ["mx.alpha.example"]

{_refuse("no-unsolicited", 'mpc = "*/optout"', "nobody asked for it")}
"""

_BETA = f"""\
[[mpc.assigned]]
value = "com/individual"
networks = ["127.0.2.9"]

[relay]
networks = ["127.0.2.9"]
domains = ["late.example"]

[routes]
"late.example" = {private_way("mx.delta.example", "delta")}

[amdp.policy]
accept = {{ "*" = "", "*::Bulk::*" = "0.001" }}

[amdp.postage]
provider = "ledger"

[amdp.classification]
services = ["https://amdp-mis.bank.example:{AMDP_PORT}"]

[partners.bank]
sender_domains = ["bank.example", "branch.bank.example"]
hosts = ["mx.bank.example"]
inbound = "amtp"
inbound_mode = "refuse"
outbound = "amtp"

{_refuse("no-politics", 'mpc = "pol/*"', "we are not political")}
{
    _refuse(
        "dave-buys-nothing",
        'mpc = ["com/optin", "com/optout"], recipient = "dave@beta.example"',
        "dave wants no offers",
    )
}
"""

_BANK = f"""\
{_codes_from("127.0.8.9", "com/customer")}
[amdp.policy]
deny = ["*::Bulk::*"]

[amdp.classification]
vouched = "vouched"
"""

_DELTA = """\
[amtp]
private_auth = "none"
"""

_ISP = f"""\
[auth]
users_file = "users"

[relay]
domains = ["customer.example"]

[routes]
"customer.example" = {private_way("gate.customer.example", "customer")}

{_refuse("no-unsolicited", 'mpc = "*/optout"', "our customers do not want it")}
{
    _refuse(
        "business-tariff",
        'mpc = "per/*", "amtp.connection" = "private"',
        "this tariff is for mail of companies",
        unless='login = "rosa@isp.example"',
    )
}
"""

_GATE = f"""\
[amtp]
private_auth = "none"

[relay]
domains = ["customer.example"]

[routes]
"customer.example" = {private_way("inner.customer.example", "customer")}

{_refuse("company-mail", 'mpc = ["ngo/*", "pol/*", "*/optout"]', "not for the company")}
"""

_INNER = f"""\
[amtp]
private_auth = "none"

{_refuse("no-advertising", 'mpc = ["com/optin", "com/optout"]', "no advertising at work")}
"""

_PIPE = '[mt2]\npipe = ["*"]\n'


def _nearby(network: str) -> str:
    return f'[relay]\nnetworks = ["{network}"]\n\n'


def _extensions(*names: str) -> str:
    enabled = ", ".join(f'"{name}"' for name in (*names, *(["chess"] if CHESS.is_dir() else [])))
    return f"[mt2.extensions]\nenabled = [{enabled}]\n\n"


_NORTH = f"""\
{_nearby("127.0.10.9")}
[routes]
"gamma.example" = "mt2:mx.transit.example:{MT2_PORT}"

{_PIPE}
[mt2.encrypt_headers]
"vera@south.example" = "vera.pem"

{_extensions("vcard")}
[amdp.classification]
services = ["https://amdp-mis.bank.example:{AMDP_PORT}"]
unvouched = "hold"
"""

_TRANSIT = f"""\
[relay]
domains = ["south.example", "gamma.example"]

[routes]
"south.example" = "mt2:mx.south.example:{MT2_PORT}"

{_PIPE}
{_extensions()}
"""

_SOUTH = f"""\
[limits]
message_size = 100_000_000

{_PIPE}
{_extensions("vcard")}
"""

PLANS = (
    SitePlan(
        "alpha",
        "127.0.1.1",
        {
            "alpha.example": 'users = ["ann", "bob", "party", "olga", "news"]',
            "shop.example": 'users = ["offers"]',
        },
        submission=True,
        amdp=("omg", "mhf"),
        member_of=("alpha",),
        extra=_ALPHA,
    ),
    SitePlan("out", "127.0.1.2", {}, host="out.alpha.example", takes_private="alpha", extra=_OUT),
    SitePlan(
        "beta",
        "127.0.2.1",
        {"beta.example": 'users = ["carol", "dave", "jürgen"]\naliases = { team = ["carol", "dave"] }',
         "many.example": 'users = "*"'},
        amtp=True,
        amdp=("img", "mis"),
        backs_up=("late.example",),
        member_of=("delta",),
        extra=_BETA,
    ),
    SitePlan(
        "gamma", "127.0.3.1", {"gamma.example": 'users = ["erin"]', "vault.example": 'users = "*"'}, tls=False
    ),
    SitePlan(
        "delta",
        "127.0.4.1",
        {"delta.example": 'users = ["frank"]', "late.example": 'users = ["lea"]'},
        amtp=True,
        takes_private="delta",
        extra=_DELTA,
    ),
    SitePlan("quick", "127.0.5.1", {"quick.example": 'users = ["grace"]'}, tls=False, qmtp=True),
    SitePlan(
        "isp",
        "127.0.6.1",
        {"isp.example": 'users = ["rosa", "sam"]'},
        amtp=True,
        fronts=("customer.example",),
        takes_private="isp",
        member_of=("customer",),
        extra=_ISP,
    ),
    SitePlan(
        "gate",
        "127.0.7.1",
        {},
        host="gate.customer.example",
        takes_private="customer",
        member_of=("customer",),
        extra=_GATE,
    ),
    SitePlan(
        "inner",
        "127.0.7.2",
        {"customer.example": 'users = ["desk"]'},
        host="inner.customer.example",
        published=False,
        takes_private="customer",
        extra=_INNER,
    ),
    SitePlan(
        "bank",
        "127.0.8.1",
        {"bank.example": 'users = ["teller"]'},
        amtp=True,
        amdp=("img", "mis", "classification"),
        extra=_BANK,
    ),
    SitePlan(
        "mallory",
        "127.0.9.1",
        {"mallory.example": 'users = "*"', "branch.bank.example": 'users = "*"'},
        amtp=True,
        # He has forged the DNS of the bank's branch, but no CA has given him a certificate for its name.
        unproven=("branch.bank.example",),
        ptr="line-9-1.dialup.example",
        extra=_codes_from("127.0.9.9", "com/optout"),
    ),
    SitePlan(
        "north",
        "127.0.10.1",
        {"north.example": 'users = ["nora"]'},
        mt2=True,
        amdp=("img", "mis"),
        extra=_NORTH,
    ),
    SitePlan(
        "transit",
        "127.0.11.1",
        {"transit.example": 'users = ["tina"]'},
        mt2=True,
        fronts=("south.example",),
        extra=_TRANSIT,
    ),
    SitePlan(
        "south",
        "127.0.12.1",
        {"south.example": 'users = ["sven", "vera"]'},
        mt2=True,
        published=False,
        extra=_SOUTH,
    ),
)  # fmt: skip
"""All of them; `delta` comes up late, and others are told when."""


def site_of(domain: str) -> str:
    """The short name of the site whose mailboxes a domain has."""
    return next(plan.name for plan in PLANS if domain in plan.domains)
