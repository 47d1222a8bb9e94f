"""The pages in English."""

from __future__ import annotations

from typing import Final

from outrider.holding.pages.texts.form import Texts

ENGLISH: Final = Texts(
    language="en",
    months=(
        *("January", "February", "March", "April", "May", "June"),
        *("July", "August", "September", "October", "November", "December"),
    ),
    date="{day} {month} {year}, {hour}:{minute} UTC",
    decimal_sign=".",
    units=("bytes", "kB", "MB", "GB"),
    kept="{date} ({left})",
    days_left=("1 day left", "{count} days left"),
    hours_left=("1 hour left", "{count} hours left"),
    moments_left="less than an hour left",
    waiting_title="A message for you from {site}",
    waiting_heading="A message is waiting for you",
    from_label="From",
    to_label="To",
    about_heading="What the sender says it is",
    here_heading="What is kept for you",
    subject_label="Subject",
    no_subject="(no subject)",
    kind_label="Kind",
    kinds={
        "bulk": "mass mailing, such as a newsletter",
        "business": "business mail",
        "government": "mail of a public authority",
        "gov": "mail of a public authority",
        "educational": "educational mail",
        "edu": "educational mail",
        "commerce": "offers, orders, invoices",
        "personal": "personal mail",
    },
    written_label="Written",
    size_label="Size",
    attachments_label="Attachments",
    no_attachments="none",
    kept_label="Kept until",
    proven_heading="The sender’s site was checked",
    proven="Your mail server ({server}) asked back on {date}: this message is from {site}.",
    proven_limit="That says who sent it. Whether you trust them is for you to decide.",
    unproven_heading="Nobody has checked the sender",
    unproven="Check it yourself: the address line of your browser must show {host}. If it shows another "
    "name, "
    "close this page.",
    unproven_limit="Then the message is from {site}. Whether you trust them is for you to decide.",
    open_button="Show the message",
    open_effect="The sender then learns that you fetched it, and when.",
    open_nothing_yet="Looking at this page is not reported to anybody.",
    open_again_button="Show the message again",
    opened_before="You fetched it first on {date}. The sender knows.",
    received_before="You confirmed receipt on {date}. It can no longer be shown here.",
    what_heading="What is this page?",
    what_held="The message has not been sent to you yet. {site} keeps it for you, and you fetch it from "
    "here if "
    "you want it.",
    what_ignored="If you do not want it, do nothing: it is deleted on {date}.",
    what_page="This page runs no scripts, sets no cookies and loads nothing from other sites.",
    checksum_label="Checksum",
    checksum="It stands in the notice that you got by mail too: what you fetch is what was announced.",
    message_title="Message from {site}",
    told="Fetched on {date}. The sender knows.",
    text_heading="Text",
    text_from_html="This message was made like a web page. You see its text only: pictures are left out, and "
    "addresses of links are written out.",
    text_cut="Only the beginning is shown. Save the whole message to read on.",
    no_text="The message has no text of its own.",
    unreadable="The message cannot be shown here. Save it, and open it with your mail program.",
    attachments_heading="Attachments",
    attachments_care="Open only what you expected from this sender.",
    attachments_differ="The attachments are not those that were announced. Be careful with them.",
    unnamed="without a name",
    save_button="Save",
    whole_label="The whole message",
    whole_hint="for your mail program (.eml)",
    done_heading="Have you got everything?",
    done_button="Confirm receipt",
    done_effect="The sender gets a receipt, and the copy here can be deleted. Save first what you want to "
    "keep.",
    done_not_needed="You need not confirm anything. The copy is deleted on {date} in any case.",
    done_title="Receipt confirmed",
    done="{sender} is told that you have the message.",
    done_kept="The copy that was kept for you is no longer needed and will be deleted. You can close this "
    "page.",
    missing_title="There is nothing here",
    missing="No message can be had at this address. Perhaps",
    missing_reasons=(
        "it was fetched and has been deleted,",
        "its time is over, or its sender has withdrawn it,",
        "the link is not complete: copy all of it from the notice.",
    ),
    busy_title="Please try again later",
    busy=("Try again in a minute.", "Try again in {count} minutes."),
    foreign_title="Nothing was done",
    foreign="This request did not come from the button of our page. Open the link in your notice again.",
)
