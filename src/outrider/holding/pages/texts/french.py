"""The pages in French."""

from __future__ import annotations

from typing import Final

from outrider.holding.pages.texts.form import Texts

FRENCH: Final = Texts(
    language="fr",
    months=(
        *("janvier", "février", "mars", "avril", "mai", "juin"),
        *("juillet", "août", "septembre", "octobre", "novembre", "décembre"),
    ),
    date="{day} {month} {year}, {hour} h {minute} (UTC)",
    decimal_sign=",",
    units=("octets", "ko", "Mo", "Go"),
    kept="{date} – {left}",
    days_left=("encore 1 jour", "encore {count} jours"),
    hours_left=("encore 1 heure", "encore {count} heures"),
    moments_left="encore moins d’une heure",
    waiting_title="Un message pour vous de {site}",
    waiting_heading="Un message vous attend",
    from_label="De",
    to_label="À",
    about_heading="Ce qu’en dit l’expéditeur",
    here_heading="Ce qui est gardé pour vous",
    subject_label="Objet",
    no_subject="(sans objet)",
    kind_label="Nature",
    kinds={
        "bulk": "envoi en nombre, comme une lettre d’information",
        "business": "courrier professionnel",
        "government": "courrier d’une administration",
        "gov": "courrier d’une administration",
        "educational": "courrier du monde de l’enseignement",
        "edu": "courrier du monde de l’enseignement",
        "commerce": "offres, commandes, factures",
        "personal": "courrier personnel",
    },
    written_label="Écrit le",
    size_label="Taille",
    attachments_label="Pièces jointes",
    no_attachments="aucune",
    kept_label="Gardé jusqu’au",
    proven_heading="L’origine a été vérifiée",
    proven="Votre serveur de courrier ({server}) s’est renseigné le {date}\u00a0: "
    "ce message vient de {site}.",
    proven_limit="Cela dit d’où il vient. À vous de décider si vous faites confiance à l’expéditeur.",
    unproven_heading="Personne n’a vérifié l’origine",
    unproven="Vérifiez vous-même\u00a0: la barre d’adresse de votre navigateur doit montrer {host}. Si elle "
    "montre un "
    "autre nom, fermez cette page.",
    unproven_limit="Alors le message vient de {site}. À vous de décider si vous lui faites confiance.",
    open_button="Afficher le message",
    open_effect="L’expéditeur saura alors que vous l’avez retiré, et quand.",
    open_nothing_yet="Regarder cette page n’est signalé à personne.",
    open_again_button="Afficher encore le message",
    opened_before="Vous l’avez retiré d’abord le {date}. L’expéditeur le sait.",
    received_before="Vous avez confirmé la réception le {date}. Il ne peut plus être affiché ici.",
    what_heading="Quelle est cette page\u00a0?",
    what_held="Le message ne vous a pas encore été envoyé. {site} le garde pour vous, et vous le retirez "
    "ici si vous "
    "le voulez.",
    what_ignored="Si vous n’en voulez pas, ne faites rien\u00a0: il sera supprimé le {date}.",
    what_page="Cette page n’exécute aucun script, ne pose aucun cookie et ne charge rien d’ailleurs.",
    checksum_label="Somme de contrôle",
    checksum="Elle figure aussi dans l’avis que vous avez reçu\u00a0: ce que vous retirez est ce qui était "
    "annoncé.",
    message_title="Message de {site}",
    told="Retiré le {date}. L’expéditeur le sait.",
    text_heading="Texte",
    text_from_html="Ce message est fait comme une page web. Vous n’en voyez que le texte\u00a0: les images "
    "sont "
    "omises, et les adresses des liens sont écrites en entier.",
    text_cut="Seul le début est affiché. Enregistrez le message entier pour lire la suite.",
    no_text="Le message n’a pas de texte propre.",
    unreadable="Le message ne peut pas être affiché ici. Enregistrez-le et ouvrez-le avec votre logiciel de "
    "courrier.",
    attachments_heading="Pièces jointes",
    attachments_care="N’ouvrez que ce que vous attendiez de cet expéditeur.",
    attachments_differ="Les pièces jointes ne sont pas celles qui étaient annoncées. Soyez prudent.",
    unnamed="sans nom",
    save_button="Enregistrer",
    whole_label="Le message entier",
    whole_hint="pour votre logiciel de courrier (.eml)",
    done_heading="Avez-vous tout ce qu’il vous faut\u00a0?",
    done_button="Confirmer la réception",
    done_effect="L’expéditeur reçoit un accusé de réception, et la copie gardée ici peut être supprimée. "
    "Enregistrez "
    "d’abord ce que vous voulez conserver.",
    done_not_needed="Vous n’êtes pas obligé de confirmer. La copie sera de toute façon supprimée le {date}.",
    done_title="Réception confirmée",
    done="{sender} apprend que vous avez le message.",
    done_kept="La copie gardée pour vous n’est plus nécessaire et sera supprimée. Vous pouvez fermer cette "
    "page.",
    missing_title="Il n’y a rien ici",
    missing="Aucun message n’est disponible à cette adresse. Peut-être",
    missing_reasons=(
        "a-t-il été retiré puis supprimé,",
        "son délai est-il passé, ou l’expéditeur l’a-t-il repris,",
        "le lien est-il incomplet\u00a0: copiez-le en entier depuis l’avis.",
    ),
    busy_title="Veuillez réessayer plus tard",
    busy=("Réessayez dans une minute.", "Réessayez dans {count} minutes."),
    foreign_title="Rien n’a été fait",
    foreign="Cette demande ne vient pas du bouton de notre page. Ouvrez de nouveau le lien de votre avis.",
)
