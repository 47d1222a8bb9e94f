"""What the outgoing gateway says when it does not take a submission: reason and remedy, in the session and in
the user's language where there is a text in it (AMDP-1).

The language is that of the message (Content-Language, or AMDP-Language). Texts beyond ASCII are said only to
clients that asked for SMTPUTF8 (RFC 6531 section 3.7.4.2); all here are written without.
"""

from __future__ import annotations

from outrider.model.reply import Reply

_CODES: dict[str, tuple[int, str]] = {
    "foreign-from": (550, "5.7.1"),
    "no-from": (550, "5.6.0"),
    "not-ours": (550, "5.7.1"),
    "too-big": (552, "5.3.4"),
    "too-many": (452, "4.7.1"),
    "bad-type": (550, "5.6.0"),
    "bad-expiry": (550, "5.6.0"),
    "scanned": (550, "5.7.1"),
    "not-scanned": (451, "4.3.0"),
    "not-counted": (451, "4.3.0"),
}
_TEXTS: dict[str, dict[str, str]] = {
    "en": {
        "foreign-from": "The From address {address} is not yours; write from an address of your account",
        "no-from": "The message needs one From address; write it from one address and send it again",
        "not-ours": "Mail of {address} is not held here; its domain is none of ours",
        "too-big": "The message has {size} octets, your account may send {limit}; send less, or in parts",
        "too-many": "Your account may send {limit} messages an hour; try again in {minutes} minutes",
        "bad-type": "AMDP-Message-Type is not one plain word; write one, such as invoice",
        "bad-expiry": "AMDP-Expire-On is not a date in UTC in the future; write one, or leave it out",
        "scanned": "The message was refused by the check of outgoing mail: {words}",
        "not-scanned": "The check of outgoing mail does not work now; try again later",
        "not-counted": "Your account cannot be checked now; try again later",
    },
    "de": {
        "foreign-from": "Die Adresse {address} gehoert nicht zu Ihrem Konto; bitte eine eigene verwenden",
        "no-from": "Die Nachricht braucht genau eine Absenderadresse (From); bitte so noch einmal senden",
        "not-ours": "Post von {address} wird hier nicht aufbewahrt; die Domain ist keine der unseren",
        "too-big": "Die Nachricht hat {size} Byte, erlaubt sind {limit}; bitte kleiner oder in Teilen senden",
        "too-many": "Ihr Konto darf {limit} Nachrichten in der Stunde senden; bitte in {minutes} Minuten",
        "bad-type": "AMDP-Message-Type ist nicht ein einfaches Wort; bitte eines angeben, etwa invoice",
        "bad-expiry": "AMDP-Expire-On ist kein kuenftiges Datum in UTC; bitte eines angeben oder weglassen",
        "scanned": "Die Nachricht wurde bei der Pruefung ausgehender Post abgewiesen: {words}",
        "not-scanned": "Die Pruefung ausgehender Post ist gestoert; bitte spaeter noch einmal senden",
        "not-counted": "Ihr Konto kann gerade nicht geprueft werden; bitte spaeter noch einmal senden",
    },
    "fr": {
        "foreign-from": "L'adresse From {address} n'est pas la votre; ecrivez depuis une des votres",
        "no-from": "Le message doit avoir une seule adresse From; corrigez et renvoyez-le",
        "not-ours": "Le courrier de {address} n'est pas garde ici; son domaine n'est pas des notres",
        "too-big": "Le message a {size} octets, votre compte peut en envoyer {limit}; envoyez-en moins",
        "too-many": "Votre compte peut envoyer {limit} messages par heure; reessayez dans {minutes} minutes",
        "bad-type": "AMDP-Message-Type n'est pas un mot simple; donnez-en un, par exemple invoice",
        "bad-expiry": "AMDP-Expire-On n'est pas une date future en UTC; donnez-en une, ou omettez-la",
        "scanned": "Le message a ete refuse par le controle du courrier sortant: {words}",
        "not-scanned": "Le controle du courrier sortant ne fonctionne pas; reessayez plus tard",
        "not-counted": "Votre compte ne peut pas etre controle maintenant; reessayez plus tard",
    },
}
LANGUAGES = frozenset(_TEXTS)


def refusal(name: str, language: str, **values: object) -> Reply:
    """The reply of that name; English where the language (ISO 639, with or without a region) has no text."""
    code, status = _CODES[name]
    texts = _TEXTS.get(language.partition("-")[0].lower(), _TEXTS["en"])
    return Reply(code, status, texts[name].format(**values)[:450])
