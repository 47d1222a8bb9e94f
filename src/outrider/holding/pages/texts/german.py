"""The pages in German."""

from __future__ import annotations

from typing import Final

from outrider.holding.pages.texts.form import Texts

GERMAN: Final = Texts(
    language="de",
    months=(
        *("Januar", "Februar", "März", "April", "Mai", "Juni"),
        *("Juli", "August", "September", "Oktober", "November", "Dezember"),
    ),
    date="{day}. {month} {year}, {hour}:{minute} Uhr (UTC)",
    decimal_sign=",",
    units=("Byte", "kB", "MB", "GB"),
    kept="{date} – {left}",
    days_left=("noch 1 Tag", "noch {count} Tage"),
    hours_left=("noch 1 Stunde", "noch {count} Stunden"),
    moments_left="noch weniger als eine Stunde",
    waiting_title="Eine Nachricht für Sie von {site}",
    waiting_heading="Eine Nachricht wartet auf Sie",
    from_label="Von",
    to_label="An",
    about_heading="Was der Absender dazu angibt",
    here_heading="Was für Sie aufbewahrt wird",
    subject_label="Betreff",
    no_subject="(kein Betreff)",
    kind_label="Art",
    kinds={
        "bulk": "Massensendung, etwa ein Rundbrief",
        "business": "geschäftliche Post",
        "government": "Post einer Behörde",
        "gov": "Post einer Behörde",
        "educational": "Post aus Schule, Hochschule, Bildung",
        "edu": "Post aus Schule, Hochschule, Bildung",
        "commerce": "Angebote, Bestellungen, Rechnungen",
        "personal": "persönliche Post",
    },
    written_label="Geschrieben",
    size_label="Größe",
    attachments_label="Anhänge",
    no_attachments="keine",
    kept_label="Aufbewahrt bis",
    proven_heading="Die Herkunft wurde geprüft",
    proven="Ihr Mailserver ({server}) hat am {date} zurückgefragt: Die Nachricht ist von {site}.",
    proven_limit="Das sagt, von wem sie ist. Ob Sie ihm trauen, entscheiden Sie selbst.",
    unproven_heading="Niemand hat die Herkunft geprüft",
    unproven="Prüfen Sie selbst: In der Adresszeile Ihres Browsers muss {host} stehen. Steht dort ein "
    "anderer "
    "Name, schließen Sie diese Seite.",
    unproven_limit="Dann ist die Nachricht von {site}. Ob Sie dem Absender trauen, entscheiden Sie selbst.",
    open_button="Nachricht anzeigen",
    open_effect="Der Absender erfährt dann, dass und wann Sie sie abgeholt haben.",
    open_nothing_yet="Dass Sie diese Seite ansehen, wird niemandem gemeldet.",
    open_again_button="Nachricht noch einmal anzeigen",
    opened_before="Sie haben sie zuerst am {date} abgeholt. Der Absender weiß es.",
    received_before="Sie haben den Empfang am {date} bestätigt. Die Nachricht kann hier nicht mehr "
    "angezeigt werden.",
    what_heading="Was ist das für eine Seite?",
    what_held="Die Nachricht wurde Ihnen noch nicht geschickt. {site} bewahrt sie für Sie auf; Sie holen "
    "sie hier "
    "ab, wenn Sie sie haben möchten.",
    what_ignored="Wenn Sie sie nicht möchten, tun Sie nichts: Sie wird am {date} gelöscht.",
    what_page="Diese Seite führt keine Skripte aus, setzt keine Cookies und lädt nichts von anderswo.",
    checksum_label="Prüfsumme",
    checksum="Sie steht auch in der Mitteilung, die Sie bekommen haben: Was Sie abholen, ist, was "
    "angekündigt war.",
    message_title="Nachricht von {site}",
    told="Abgeholt am {date}. Der Absender weiß es.",
    text_heading="Text",
    text_from_html="Diese Nachricht ist wie eine Webseite gemacht. Sie sehen nur ihren Text: Bilder fehlen, "
    "und "
    "die Adressen von Links sind ausgeschrieben.",
    text_cut="Nur der Anfang wird gezeigt. Speichern Sie die ganze Nachricht, um weiterzulesen.",
    no_text="Die Nachricht hat keinen eigenen Text.",
    unreadable="Die Nachricht lässt sich hier nicht anzeigen. Speichern Sie sie und öffnen Sie sie mit Ihrem "
    "Mailprogramm.",
    attachments_heading="Anhänge",
    attachments_care="Öffnen Sie nur, was Sie von diesem Absender erwartet haben.",
    attachments_differ="Die Anhänge sind nicht die angekündigten. Seien Sie vorsichtig mit ihnen.",
    unnamed="ohne Namen",
    save_button="Speichern",
    whole_label="Die ganze Nachricht",
    whole_hint="für Ihr Mailprogramm (.eml)",
    done_heading="Haben Sie alles?",
    done_button="Empfang bestätigen",
    done_effect="Der Absender bekommt eine Empfangsbestätigung, und die Kopie hier kann gelöscht werden. "
    "Speichern Sie vorher, was Sie behalten möchten.",
    done_not_needed="Sie müssen nichts bestätigen. Die Kopie wird ohnehin am {date} gelöscht.",
    done_title="Empfang bestätigt",
    done="{sender} erfährt, dass Sie die Nachricht haben.",
    done_kept="Die für Sie aufbewahrte Kopie wird nicht mehr gebraucht und gelöscht. Sie können diese Seite "
    "schließen.",
    missing_title="Hier ist nichts",
    missing="Unter dieser Adresse ist keine Nachricht zu haben. Vielleicht",
    missing_reasons=(
        "wurde sie abgeholt und ist inzwischen gelöscht,",
        "ist ihre Frist vorbei, oder der Absender hat sie zurückgezogen,",
        "ist der Link nicht vollständig: Kopieren Sie ihn ganz aus der Mitteilung.",
    ),
    busy_title="Bitte versuchen Sie es später noch einmal",
    busy=("Versuchen Sie es in einer Minute wieder.", "Versuchen Sie es in {count} Minuten wieder."),
    foreign_title="Es wurde nichts getan",
    foreign="Diese Anfrage kam nicht vom Knopf unserer Seite. Öffnen Sie den Link aus der Mitteilung noch "
    "einmal.",
)
