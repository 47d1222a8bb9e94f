"""The OID registry: one branch for each extension that comes with Outrider (MT2-8, MT2-20).

A branch under 2.25 is a UUID as a number (X.667), which anybody may make for himself and nobody has to
assign. These were made once and never change. An extension's own result codes lie in its branch, as
``branch.class.number``: class 2 done, 3 go on, 4 transient failure, 5 permanent failure.
"""

from __future__ import annotations

import re
from typing import Final

from outrider.protocols.mt2.codes import STAT_BRANCH

STAT: Final = STAT_BRANCH
"""What became of a transfer (MT2-13); the core serves it."""
TRACE: Final = "2.25.28293218585755898241595629553797358713"
HASHCASH: Final = "2.25.149322994342843144128891297693138234235"
ALLOW_LIST: Final = "2.25.115652566570894422833415884229797051733"
NOTIFICATION: Final = "2.25.206961292544637135254783823231464460595"
SPAM_TRAP: Final = "2.25.308322238944571064947336552019794996376"
VCARD: Final = "2.25.274215442404325306673896678131093912782"
DISPOSITION: Final = "2.25.279869125054992117701546656820932643631"
CHALLENGE: Final = "2.25.163819777634606109452837373036405646628"
LIST_COMMAND: Final = "2.25.254573556410732253332449698912637648727"
POSTAGE: Final = "2.25.64873602761261778879203506656201249529"

MAX_OID_LENGTH: Final = 128
_OID = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]{0,38})){1,31}")
"""An arc of 39 digits holds every UUID."""


def is_oid(text: str) -> bool:
    """Whether it is an object identifier in dotted decimals, of a length that anybody needs."""
    return len(text) <= MAX_OID_LENGTH and _OID.fullmatch(text) is not None


def code_of(oid: str, code_class: int, number: int = 0) -> str:
    """A result code in an extension's own branch."""
    return f"{oid}.{code_class}.{number}"
