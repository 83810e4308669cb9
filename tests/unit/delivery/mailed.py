"""Reports as mail servers and mailbox providers send them, for the tests of what comes back by mail."""

from __future__ import annotations

HEADERS = """\
From: News <news@t.example>
To: ada@example.org
Subject: A new room
Message-ID: <0000000000000001@t.example>
List-Unsubscribe: <{unsubscribe}>
List-Unsubscribe-Post: List-Unsubscribe=One-Click
"""

BOUNCE = """\
From: MAILER-DAEMON@mx.example.org
To: bounces@t.example
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="part"

--part
Content-Type: text/plain; charset=us-ascii

I'm sorry to have to inform you that your message could not be delivered.

--part
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.org
Arrival-Date: Tue, 14 Nov 2023 22:13:20 +0000

Final-Recipient: rfc822; {address}
Action: {action}
Status: {status}
Diagnostic-Code: smtp; 550 5.1.1 <{address}>:
    no such mailbox

--part
Content-Type: {quoted}

{headers}

--part--
"""

COMPLAINT = """\
From: feedback@mailbox.example
To: abuse@t.example
Subject: FW: A new room
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="part"

--part
Content-Type: text/plain; charset=us-ascii

This is an email abuse report.

--part
Content-Type: message/feedback-report

Feedback-Type: {kind}
User-Agent: SomeGenerator/1.0
Version: 1
Original-Rcpt-To: <ada@example.org>

--part
Content-Type: message/rfc822

{headers}
The text of the message.

--part--
"""


def bounce(
    unsubscribe: str,
    *,
    address: str = "ada@example.org",
    action: str = "failed",
    status: str = "5.1.1",
    quoted: str = "text/rfc822-headers",
) -> bytes:
    """Return a delivery status notification about a message with a link to unsubscribe."""
    headers = HEADERS.format(unsubscribe=unsubscribe)
    return BOUNCE.format(address=address, action=action, status=status, quoted=quoted, headers=headers).encode()


def complaint(unsubscribe: str, *, kind: str = "abuse") -> bytes:
    """Return an abuse report about a message with a link to unsubscribe."""
    return COMPLAINT.format(kind=kind, headers=HEADERS.format(unsubscribe=unsubscribe)).encode()
