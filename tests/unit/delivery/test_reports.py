"""Bounces and complaints that come by mail, and what they change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.feedback import Feedback, MemoryEventLog
from delivery.links import Links, LinkSettings
from delivery.reports import BadReportError, Report, read_report
from delivery.suppression import MemorySuppressionStore, Suppression
from lake.meta import Meta
from lake.profiles import MemoryProfileStore, blank
from tests.unit.delivery.examples import LINKS, NOW
from tests.unit.delivery.mailed import bounce, complaint

META = Meta(shards=2)
GRANT = f"{1:016x}"
LINK = LINKS.unsubscribe("ada", "email", GRANT)


@pytest.mark.parametrize("quoted", ["text/rfc822-headers", "message/rfc822"])
def test_a_bounce_says_whose_message_it_was_by_the_link_it_quotes(quoted: str) -> None:
    reason = "550 5.1.1 <ada@example.org>: no such mailbox"
    assert read_report(bounce(LINK, quoted=quoted), LINKS) == Report("bounce", "ada", "email", GRANT, "ada@example.org", reason)


@pytest.mark.parametrize(
    ("action", "status", "kind"),
    [
        ("failed", "5.1.1", "bounce"),
        ("Failed", "5.7.1", "bounce"),
        ("failed", "4.4.7", "delayed"),
        ("delayed", "4.4.1", "delayed"),
        ("delivered", "2.1.5", "delivered"),
        ("relayed", "2.1.9", "relayed"),
    ],
)
def test_only_what_failed_for_good_is_a_bounce(action: str, status: str, kind: str) -> None:
    assert read_report(bounce(LINK, action=action, status=status), LINKS).kind == kind


def test_a_complaint_is_told_by_its_type() -> None:
    assert read_report(complaint(LINK), LINKS) == Report("complaint", "ada", "email", GRANT, "ada@example.org", "abuse")
    with pytest.raises(BadReportError, match="not-spam is no complaint"):
        read_report(complaint(LINK, kind="not-spam"), LINKS)


OTHERS = Links(LinkSettings(("somebody else's secret",), "https://t.example"))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "this is text/plain"),
        (b"Content-Type: text/html\n\nhello", "this is text/html"),
        (b"\x00\xff\r\n\r\n\xfe", "this is text/plain"),
        (bounce("https://t.example/unsubscribe/forged"), "no List-Unsubscribe header with a link that we have signed"),
        (bounce(OTHERS.unsubscribe("ada", "email", GRANT)), "no List-Unsubscribe header with a link that we have signed"),
        (bounce(LINK).replace(b"message/delivery-status", b"text/plain"), "this has neither"),
        (bounce(LINK).replace(b"Action:", b"Inaction:"), "names no recipient with an Action"),
        (complaint(LINK).replace(b"Feedback-Type", b"Feedback-Kind"), "has no Feedback-Type"),
    ],
)
def test_what_is_no_report_about_a_message_of_ours_is_refused(raw: bytes, said: str) -> None:
    with pytest.raises(BadReportError, match=said):
        read_report(raw, LINKS)


@given(st.data())
def test_no_cut_and_no_changed_byte_makes_it_fail_otherwise(data: st.DataObject) -> None:
    raw = bytearray(data.draw(st.sampled_from([bounce(LINK), bounce(LINK, quoted="message/rfc822"), complaint(LINK)])))
    for _ in range(data.draw(st.integers(0, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        report = read_report(bytes(raw[: data.draw(st.integers(0, len(raw)))]), LINKS)
    except BadReportError:
        return
    assert (report.user_id, report.channel, report.grant_id) == ("ada", "email", GRANT)


class Reader:
    """Ada, who has an e-mail address, and what is suppressed of hers."""

    def __init__(self) -> None:
        profiles = MemoryProfileStore()
        profiles.put(["ada"], blank(1))
        profiles.put_addresses("ada", {"email": "ada@example.org"})
        self.suppression = Suppression(MemorySuppressionStore(), profiles, META)
        self.events = MemoryEventLog(META.shards)
        self.feedback = Feedback(self.events, self.suppression)

    def reported(self, raw: bytes) -> int:
        return self.feedback.accept_report(read_report(raw, LINKS), NOW).accepted

    @property
    def is_left_alone(self) -> bool:
        return bool(self.suppression.addresses_suppressed(["email"], ["ada@example.org"])[0])

    def kept(self) -> list[dict[str, object]]:
        return [dict(row) for shard in range(META.shards) for _, row in self.events.read(shard, 100)]


def test_a_bounce_suppresses_the_address_once_and_keeps_no_address() -> None:
    reader = Reader()
    assert [reader.reported(bounce(LINK)) for _ in range(2)] == [1, 0]
    assert reader.is_left_alone
    assert reader.suppression.records("ada") == {}, "another address of hers may be written to"
    (row,) = reader.kept()
    assert (row["kind"], row["send_id"], row["source"]) == ("bounce", GRANT, "report")
    assert "ada@example.org" not in str(reader.kept())


def test_a_bounce_of_an_address_that_was_changed_since_leaves_the_new_one_alone() -> None:
    reader = Reader()
    assert reader.reported(bounce(LINK, address="ada@old.example")) == 1
    assert not reader.is_left_alone


def test_a_delay_changes_nothing() -> None:
    reader = Reader()
    assert reader.reported(bounce(LINK, action="delayed", status="4.4.1")) == 1
    assert not reader.is_left_alone


def test_a_complaint_ends_the_channel_for_its_user() -> None:
    reader = Reader()
    reader.reported(complaint(LINK))
    assert reader.is_left_alone
    assert reader.suppression.records("ada")["email"].reason == "complained"


def test_both_can_be_told_as_events_too() -> None:
    reader = Reader()
    rows = [{"user_id": "ada", "kind": "bounce", "channel": "email", "address": "ada@example.org", "at": NOW}]
    reader.feedback.accept(rows, NOW)
    assert reader.is_left_alone
    assert "ada@example.org" not in str(reader.kept())


@pytest.mark.parametrize("channel", [{}, {"channel": "pigeon"}])
def test_one_without_a_known_channel_is_refused_before_anything_is_changed(channel: dict[str, str]) -> None:
    reader = Reader()
    rows = [{"user_id": "ada", "kind": "visit", "at": NOW}, {"user_id": "ada", "kind": "bounce", "at": NOW} | channel]
    with pytest.raises(ValueError, match="channel"):
        reader.feedback.accept(rows, NOW)
    assert reader.kept() == []
