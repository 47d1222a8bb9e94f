"""The words of the subscription service's pages, in the languages of its letters.

What somebody wishes is said in the letters' words (`letter_texts`), so that the page which a link opens says
what the letter said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from outrider.holding.pages.texts import LANGUAGES, texts_for
from outrider.holding.subscriptions.letter_texts import LETTERS, LetterTexts
from outrider.holding.subscriptions.wishes import Fault


@dataclass(frozen=True, slots=True)
class PageTexts:
    """What the pages say; ``{...}`` is filled in. Plain text, no markup."""

    language: str
    """Tag of RFC 5646, for `lang`."""

    # the form
    form_title: str
    form_how: str
    address_label: str
    kind_label: str
    kinds: Mapping[str, str]
    """By what can be asked for."""
    sender_label: str
    class_label: str
    every_class: str
    apply_button: str
    faults: Mapping[Fault, str]
    """What cannot be asked for."""

    # after it
    applied_title: str
    applied: str

    # by a link
    confirm_title: str
    confirm: str
    """{wish}"""
    confirm_whom: str
    """{address}"""
    confirm_button: str
    done_title: str
    done: str
    """{wish}"""
    done_before: str
    leave_title: str
    leave: str
    """{mail}"""
    leave_button: str
    left: str
    """{mail}"""

    # what one has
    mine_title: str
    mine_button: str
    mine_whom: str
    """{address}"""
    mine_none: str
    """{address}"""
    wanted: str
    """{mail}"""
    unwanted: str
    """{mail}"""
    leave_one: str
    """{mail}: what a screen reader says of the button beside it."""

    # what is not
    missing_title: str
    missing: str
    refused_title: str
    foreign_form: str
    no_form: str
    later_title: str
    too_many: str
    not_now: str

    @property
    def wishes(self) -> LetterTexts:
        """The letters' words in this language."""
        return LETTERS[self.language]


ENGLISH: Final = PageTexts(
    language="en",
    form_title="Subscriptions",
    form_how="You get a letter with a link. Nothing happens until you open it and confirm.",
    address_label="Your mail address",
    kind_label="What you wish",
    kinds={
        "accept": "I want this mail",
        "deny": "I do not want this mail",
        "leave": "forget what I said about it",
        "show": "show me what I have subscribed to",
    },
    sender_label="Whose mail: an address, a list, a domain; empty for anybody’s",
    class_label="Which kind of mail",
    every_class="all mail",
    apply_button="Send me the link",
    faults={
        Fault.KIND: "Please choose what you wish.",
        Fault.ADDRESS: "That is no mail address. It looks like ann@example.org.",
        Fault.EVERYTHING: "Please name a sender or a kind of mail: a wish for all mail, or for none, is no "
        "subscription.",
        Fault.SENDER: "Please name the sender by an address, like news@example.org, or by a domain, like "
        "example.org.",
        Fault.CLASS: "That kind of mail is not written as it must be. Please choose one of the list.",
    },
    applied_title="Look into your mail",
    applied="If that address takes part here, a letter is on its way to it, with a link to confirm this. "
    "Nothing happens before that. An address that was asked often enough today gets no more letters.",
    confirm_title="Please confirm",
    confirm="Do you want to {wish}?",
    confirm_whom="This is about the address {address}.",
    confirm_button="Yes, I want this",
    done_title="Done",
    done="As you wished: {wish}.",
    done_before="This was confirmed before; nothing more was changed now.",
    leave_title="Leave",
    leave="End your subscription to {mail}?",
    leave_button="Leave",
    left="You have left: {mail}.",
    mine_title="Your subscriptions",
    mine_button="Show them",
    mine_whom="For the address {address}:",
    mine_none="There is nothing that {address} has subscribed to here.",
    wanted="Wanted: {mail}",
    unwanted="Not wanted: {mail}",
    leave_one="Leave: {mail}",
    missing_title="Not here",
    missing="This link is not good, or is not good any more. You can apply again.",
    refused_title="Nothing was done",
    foreign_form="That form is on a page of another site.",
    no_form="That is not what this form sends.",
    later_title="Not now",
    too_many="Too much was asked from your address. Please come back later.",
    not_now="This cannot be done at the moment. Please try again soon.",
)

GERMAN: Final = PageTexts(
    language="de",
    form_title="Abonnements",
    form_how="Sie bekommen einen Brief mit einem Link. Nichts geschieht, bevor Sie ihn öffnen und zustimmen.",
    address_label="Ihre Mailadresse",
    kind_label="Was Sie möchten",
    kinds={
        "accept": "Ich möchte diese Post",
        "deny": "Ich möchte diese Post nicht",
        "leave": "vergessen, was ich dazu gesagt habe",
        "show": "mir zeigen, was ich abonniert habe",
    },
    sender_label="Wessen Post: eine Adresse, eine Liste, eine Domain; leer für beliebige Absender",
    class_label="Welche Art von Post",
    every_class="jede Post",
    apply_button="Link zuschicken",
    faults={
        Fault.KIND: "Bitte wählen Sie, was Sie möchten.",
        Fault.ADDRESS: "Das ist keine Mailadresse. Eine sieht aus wie anna@example.org.",
        Fault.EVERYTHING: "Bitte nennen Sie einen Absender oder eine Art von Post: Alle Post zu wünschen, "
        "oder keine, ist kein Abonnement.",
        Fault.SENDER: "Bitte nennen Sie den Absender durch eine Adresse wie news@example.org oder durch eine "
        "Domain wie example.org.",
        Fault.CLASS: "Diese Art von Post ist nicht so geschrieben, wie sie sein muss. Bitte wählen Sie eine "
        "aus der Liste.",
    },
    applied_title="Sehen Sie in Ihre Post",
    applied="Wenn diese Adresse hier teilnimmt, ist ein Brief an sie unterwegs, mit einem Link, durch den "
    "Sie zustimmen. Vorher geschieht nichts. Eine Adresse, die heute oft genug gefragt wurde, bekommt "
    "keine Briefe mehr.",
    confirm_title="Bitte bestätigen",
    confirm="Möchten Sie {wish}?",
    confirm_whom="Es geht um die Adresse {address}.",
    confirm_button="Ja, das möchte ich",
    done_title="Erledigt",
    done="Wie Sie es wünschen: {wish}.",
    done_before="Das wurde schon früher bestätigt; jetzt wurde nichts mehr geändert.",
    leave_title="Abmelden",
    leave="Das Abonnement beenden: {mail}?",
    leave_button="Abmelden",
    left="Sie sind abgemeldet: {mail}.",
    mine_title="Ihre Abonnements",
    mine_button="Zeigen",
    mine_whom="Für die Adresse {address}:",
    mine_none="{address} hat hier nichts abonniert.",
    wanted="Erwünscht: {mail}",
    unwanted="Nicht erwünscht: {mail}",
    leave_one="Abmelden: {mail}",
    missing_title="Hier ist nichts",
    missing="Dieser Link gilt nicht, oder nicht mehr. Sie können es neu beantragen.",
    refused_title="Es wurde nichts getan",
    foreign_form="Dieses Formular steht auf der Seite einer anderen Website.",
    no_form="Das ist nicht, was dieses Formular schickt.",
    later_title="Nicht jetzt",
    too_many="Von Ihrer Adresse wurde zu viel angefragt. Bitte kommen Sie später wieder.",
    not_now="Das geht im Augenblick nicht. Bitte versuchen Sie es bald noch einmal.",
)

FRENCH: Final = PageTexts(
    language="fr",
    form_title="Abonnements",
    form_how="Vous recevez une lettre avec un lien. Rien ne se passe avant que vous ne l’ouvriez et ne "
    "confirmiez.",
    address_label="Votre adresse de courrier",
    kind_label="Ce que vous souhaitez",
    kinds={
        "accept": "je veux ce courrier",
        "deny": "je ne veux pas ce courrier",
        "leave": "oublier ce que j’en ai dit",
        "show": "me montrer à quoi je suis abonné",
    },
    sender_label="De qui\u00a0: une adresse, une liste, un domaine\u00a0; vide pour n’importe qui",
    class_label="Quelle sorte de courrier",
    every_class="tout le courrier",
    apply_button="Envoyez-moi le lien",
    faults={
        Fault.KIND: "Choisissez ce que vous souhaitez.",
        Fault.ADDRESS: "Ce n’est pas une adresse de courrier. Elle ressemble à anne@example.org.",
        Fault.EVERYTHING: "Nommez un expéditeur ou une sorte de courrier\u00a0: vouloir tout le courrier, ou "
        "aucun, n’est pas un abonnement.",
        Fault.SENDER: "Nommez l’expéditeur par une adresse, comme news@example.org, ou par un domaine, comme "
        "example.org.",
        Fault.CLASS: "Cette sorte de courrier n’est pas écrite comme il faut. Choisissez dans la liste.",
    },
    applied_title="Regardez votre courrier",
    applied="Si cette adresse participe ici, une lettre est en route vers elle, avec un lien pour confirmer. "
    "Rien ne se passe avant cela. Une adresse à laquelle on a assez écrit aujourd’hui ne reçoit plus de "
    "lettre.",
    confirm_title="Merci de confirmer",
    confirm="Souhaitez-vous {wish}\u00a0?",
    confirm_whom="Il s’agit de l’adresse {address}.",
    confirm_button="Oui, je le souhaite",
    done_title="C’est fait",
    done="Comme vous le souhaitez\u00a0: {wish}.",
    done_before="Cela a déjà été confirmé\u00a0; rien de plus n’a été changé.",
    leave_title="Se désabonner",
    leave="Mettre fin à l’abonnement\u00a0: {mail}\u00a0?",
    leave_button="Se désabonner",
    left="Vous êtes désabonné\u00a0: {mail}.",
    mine_title="Vos abonnements",
    mine_button="Les montrer",
    mine_whom="Pour l’adresse {address}\u00a0:",
    mine_none="{address} n’est abonné à rien ici.",
    wanted="Souhaité\u00a0: {mail}",
    unwanted="Refusé\u00a0: {mail}",
    leave_one="Se désabonner\u00a0: {mail}",
    missing_title="Il n’y a rien ici",
    missing="Ce lien n’est pas valable, ou ne l’est plus. Vous pouvez refaire votre demande.",
    refused_title="Rien n’a été fait",
    foreign_form="Ce formulaire est sur la page d’un autre site.",
    no_form="Ce n’est pas ce que ce formulaire envoie.",
    later_title="Pas maintenant",
    too_many="Trop de demandes sont venues de votre adresse. Revenez plus tard.",
    not_now="Ce n’est pas possible en ce moment. Réessayez bientôt.",
)

PAGES: Final = {texts.language: texts for texts in (ENGLISH, GERMAN, FRENCH)}


def page_texts_for(accept_language: str, otherwise: str = ENGLISH.language) -> PageTexts:
    """The words for an `Accept-Language`, chosen as the retrieval pages choose theirs; where it names no
    language that we have, those of `otherwise`."""
    return PAGES[texts_for(accept_language, LANGUAGES[otherwise]).language]
