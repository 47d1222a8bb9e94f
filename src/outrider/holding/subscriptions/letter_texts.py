"""The words of the subscription service's letters, in the languages of the retrieval pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from outrider.holding.pages.texts import texts_for


@dataclass(frozen=True, slots=True)
class LetterTexts:
    """What a letter says; ``{...}`` is filled in."""

    language: str
    anybody: str
    mail: str
    """Of whom, behind the verbs of `wishes`."""
    of_class: str
    classes: Mapping[str, str]
    """What people call the classes that they choose from."""
    wishes: Mapping[str, str]
    """By kind of application, each a clause of its own."""
    subject: str
    subjects: Mapping[str, str]
    """By kind, where it is another than `subject`."""
    writer_name: str
    text: str


ENGLISH: Final = LetterTexts(
    language="en",
    anybody="anybody",
    mail="mail from {sender}",
    of_class=" of the class {pattern}",
    classes={
        "*::Bulk::*": "newsletters and other bulk mail",
        "*::Commerce::*": "offers and orders",
        "*::Business::*": "business",
        "*::Government::*": "government",
        "*::Educational::*": "education",
        "*::Personal::*": "personal mail",
    },
    wishes={
        "accept": "accept {mail}",
        "deny": "refuse {mail}",
        "leave": "end your subscription to {mail}",
        "subscribe": "subscribe to the list {sender}",
        "unsubscribe": "leave the list {sender}",
        "show": "see what you have subscribed to here",
    },
    subject="Please confirm your subscription",
    subjects={
        "show": "Your subscriptions",
        "leave": "Please confirm: leave",
        "unsubscribe": "Please confirm: leave",
    },
    writer_name="Subscriptions at {site}",
    text="""\
Somebody, we hope you, asks in the name of
    {address}
to {wish}.

If you want this, open

    {link}

and press the button there. The link is for you alone and is good for seven days.
If you do not want it, do nothing, and nothing will happen.
""",
)

GERMAN: Final = LetterTexts(
    language="de",
    anybody="beliebigen Absendern",
    mail="Post von {sender}",
    of_class=" der Klasse {pattern}",
    classes={
        "*::Bulk::*": "Newsletter und andere Massensendungen",
        "*::Commerce::*": "Angebote und Bestellungen",
        "*::Business::*": "Geschäftliches",
        "*::Government::*": "Behörden",
        "*::Educational::*": "Bildung",
        "*::Personal::*": "Persönliches",
    },
    wishes={
        "accept": "{mail} annehmen",
        "deny": "{mail} ablehnen",
        "leave": "das Abonnement beenden: {mail}",
        "subscribe": "die Liste {sender} abonnieren",
        "unsubscribe": "die Liste {sender} verlassen",
        "show": "sehen, was hier abonniert ist",
    },
    subject="Bitte bestätigen: Ihr Abonnement",
    subjects={
        "show": "Ihre Abonnements",
        "leave": "Bitte bestätigen: Abmeldung",
        "unsubscribe": "Bitte bestätigen: Abmeldung",
    },
    writer_name="Abonnements bei {site}",
    text="""\
Jemand, hoffentlich Sie selbst, hat im Namen von
    {address}
um Folgendes gebeten:
    {wish}

Wenn Sie das möchten, öffnen Sie bitte

    {link}

und drücken Sie dort auf den Knopf. Der Link ist nur für Sie bestimmt und gilt sieben Tage.
Wenn Sie es nicht möchten, brauchen Sie nichts zu tun, und nichts wird geschehen.
""",
)

FRENCH: Final = LetterTexts(
    language="fr",
    anybody="n’importe qui",
    mail="le courrier de {sender}",
    of_class=" de la classe {pattern}",
    classes={
        "*::Bulk::*": "lettres d’information et autres envois en nombre",
        "*::Commerce::*": "offres et commandes",
        "*::Business::*": "courrier professionnel",
        "*::Government::*": "administrations",
        "*::Educational::*": "enseignement",
        "*::Personal::*": "courrier personnel",
    },
    wishes={
        "accept": "accepter {mail}",
        "deny": "refuser {mail}",
        "leave": "mettre fin à l’abonnement\u00a0: {mail}",
        "subscribe": "s’abonner à la liste {sender}",
        "unsubscribe": "quitter la liste {sender}",
        "show": "voir les abonnements pris ici",
    },
    subject="Merci de confirmer votre abonnement",
    subjects={
        "show": "Vos abonnements",
        "leave": "Merci de confirmer\u00a0: désabonnement",
        "unsubscribe": "Merci de confirmer\u00a0: désabonnement",
    },
    writer_name="Abonnements chez {site}",
    text="""\
Quelqu’un, vous-même nous l’espérons, a fait au nom de
    {address}
la demande suivante\u00a0:
    {wish}

Si vous le souhaitez, ouvrez

    {link}

et appuyez sur le bouton. Ce lien n’est que pour vous et reste valable sept jours.
Si vous ne le souhaitez pas, ne faites rien, et rien ne se passera.
""",
)

LETTERS: Final = {texts.language: texts for texts in (ENGLISH, GERMAN, FRENCH)}


def letter_texts_for(accept_language: str) -> LetterTexts:
    """The words for an `Accept-Language`, chosen as the retrieval pages choose theirs."""
    return LETTERS[texts_for(accept_language).language]
