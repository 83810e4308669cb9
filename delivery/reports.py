"""What comes back by mail: bounces (RFC 3464) and complaints (RFC 5965), read as events about the message that they quote.

Whoever can send mail to the address that bounces go to can write such a report. It counts only where it quotes a message's
List-Unsubscribe header with a link that we have signed: that says whose message it was, whatever else the report claims.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage, Message

from delivery.links import PATHS, BadLinkError, Links, LinkToken

DELIVERY, FEEDBACK = "delivery-status", "feedback-report"
QUOTED = frozenset({"message/rfc822", "text/rfc822-headers", "message/rfc822-headers"})
NO_COMPLAINTS = frozenset({"not-spam"})
"""Types of feedback that say that all is well."""
_TOKEN = re.compile(rf"<[^>]*/{PATHS['unsubscribe']}/([^>/\s]+)>")
LONGEST_REASON = 200


class BadReportError(ValueError):
    """This is no report about a message of ours."""


@dataclass(frozen=True)
class Report:
    """What was reported of a message.

    `kind`: bounce (it never will be delivered), delayed, delivered, relayed, expanded, complaint. `address`: whom it was for as far
    as the report says, "" where it does not. `reason`: the carrier's words.
    """

    kind: str
    user_id: str
    channel: str
    grant_id: str
    address: str
    reason: str


def read_report(raw: bytes, links: Links) -> Report:
    """Return what a mailed report says; raises BadReportError, which says what is missing."""
    message = message_from_bytes(raw, policy=policy.default)
    kind = message.get_content_type()
    if kind != "multipart/report":
        raise BadReportError(f"a report is multipart/report (RFC 6522); this is {kind}")
    parts = [part for part in message.walk() if part is not message]
    link = _link(parts, links)
    for part in parts:
        if part.get_content_type() == f"message/{DELIVERY}":
            return _delivery(part, link)
        if part.get_content_type() == f"message/{FEEDBACK}":
            return _complaint(part, link)
    raise BadReportError(f"a report has a part message/{DELIVERY} or message/{FEEDBACK}; this has neither")


def _link(parts: list[EmailMessage], links: Links) -> LinkToken:
    """Return whose message is quoted."""
    for headers in _quoted(parts):
        for token in _TOKEN.findall(str(headers.get("List-Unsubscribe", ""))):
            try:
                return links.read("unsubscribe", token)
            except BadLinkError:
                continue
    raise BadReportError("it quotes no message of ours: there is no List-Unsubscribe header with a link that we have signed")


def _quoted(parts: list[EmailMessage]) -> Iterator[Message]:
    for part in parts:
        if part.get_content_type() not in QUOTED:
            continue
        if part.is_multipart():
            yield from (inner for inner in part.get_payload() if isinstance(inner, Message))
        else:
            yield _as_fields(part)


def _delivery(part: EmailMessage, link: LinkToken) -> Report:
    """Return what a delivery status says of its first recipient: a message of ours has no other."""
    fields = next((block for block in _blocks(part) if block.get("Action")), None)
    if fields is None:
        raise BadReportError("its delivery status names no recipient with an Action (RFC 3464, section 2.3.3)")
    action, status = str(fields["Action"]).strip().lower(), str(fields.get("Status", "")).strip()
    for_good = action == "failed" and not status.startswith("4")
    kind = "bounce" if for_good else "delayed" if action == "failed" else action
    address = _typed(fields.get("Original-Recipient")) or _typed(fields.get("Final-Recipient"))
    return _report(kind, link, address, _typed(fields.get("Diagnostic-Code")) or status)


def _complaint(part: EmailMessage, link: LinkToken) -> Report:
    fields = next((block for block in _blocks(part) if block.get("Feedback-Type")), None)
    if fields is None:
        raise BadReportError("its feedback report has no Feedback-Type (RFC 5965, section 3.1)")
    kind = str(fields["Feedback-Type"]).strip().lower()
    if kind in NO_COMPLAINTS:
        raise BadReportError(f"feedback of type {kind} is no complaint")
    return _report("complaint", link, str(fields.get("Original-Rcpt-To", "")).strip(" <>"), kind)


def _report(kind: str, link: LinkToken, address: str, reason: str) -> Report:
    return Report(kind, link.user_id, link.channel, link.grant_id, address, " ".join(reason.split())[:LONGEST_REASON])


def _blocks(part: EmailMessage) -> list[Message]:
    """Return the groups of fields of a status part: the library parses a delivery status as messages, a feedback report as text."""
    if part.is_multipart():
        return [block for block in part.get_payload() if isinstance(block, Message)]
    return [_as_fields(part)]


def _as_fields(part: EmailMessage) -> Message:
    """Return the fields that the text of a part consists of."""
    text = part.get_payload(decode=True)
    return message_from_bytes(text if isinstance(text, bytes) else b"", policy=policy.default)


def _typed(value: object) -> str:
    """Return the value of a field such as `rfc822; ada@example.org`."""
    kind, separator, text = str(value or "").partition(";")
    return (text if separator else kind).strip(" <>")
