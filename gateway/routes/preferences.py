"""/preferences/{token}: a user's own page of what they are told, where, how much and when. It works without scripts."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from delivery.links import PATHS, BadLinkError, ExpiredLinkError, LinkToken
from gateway.pages import asset, page, wants_html
from gateway.preference_form import DIAL_NAMES, Choices, Form, Offer, channel_name, name_of, submitted
from gateway.problems import PAGE_OR_PROBLEM, ProblemError, invalid, not_found
from gateway.routes.users import book_of
from gateway.routing import services_of, words_of
from gateway.services import Services
from gateway.users import UserBook
from gateway.words import Words
from lake.profiles import WEEKDAYS

MOST_FIELDS = 20_000
"""Of one form: 1,000 kinds on 16 channels have that many boxes."""

QUARTER_HOURS = [f"{quarter // 4:02}:{quarter % 4 * 15:02}" for quarter in range(96)]
FORM_FIELDS: dict[str, Any] = {
    "shown": {"type": "array", "items": {"type": "string"}, "description": "The boxes that the form had, as channel/kind."},
    "allow": {"type": "array", "items": {"type": "string"}, "description": "Those that are ticked."},
    "dial": {"type": "string", "enum": [str(place) for place in DIAL_NAMES]},
    "quiet_from": {"type": "string", "description": "HH:MM, empty for none."},
    "quiet_to": {"type": "string", "description": "HH:MM, empty for none."},
    "digest_at": {"type": "string", "description": "HH:MM, empty for none."},
    "digest_days": {"type": "array", "items": {"type": "string", "enum": list(WEEKDAYS)}},
    "unsubscribe": {"type": "string", "description": "Given: end all messages, and change nothing else."},
    "resubscribe": {"type": "string", "description": "A channel, or * for all: end what unsubscribing did, and change nothing else."},
}
FORM: dict[str, Any] = {
    "requestBody": {"content": {"application/x-www-form-urlencoded": {"schema": {"type": "object", "properties": FORM_FIELDS}}}}
}

ERRORS: dict[int | str, dict[str, Any]] = {"default": PAGE_OR_PROBLEM}

router = APIRouter(tags=["links"])


@router.get(f"/{PATHS['preferences']}/{{token}}", response_class=HTMLResponse, responses=ERRORS)
def get_preferences_page(request: Request, token: str) -> Response:
    """Show a user's choices as a form. Mail scanners follow every link, so looking changes nothing."""
    return _answer(request, token, None)


@router.post(f"/{PATHS['preferences']}/{{token}}", response_class=HTMLResponse, responses=ERRORS, openapi_extra=FORM)
async def post_preferences_page(request: Request, token: str) -> Response:
    """Save the form and show what was saved; a field that is not given stays as it was. Only who has the link can make one."""
    raw = (await request.body()).decode("utf-8", "replace")
    try:
        form = parse_qs(raw, keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise invalid("body", f"is a form of more than {MOST_FIELDS:,} fields; send what the page has") from None
    return await run_in_threadpool(_answer, request, token, form)


@router.get("/console/preferences.css", include_in_schema=False)
def get_css() -> Response:
    """Return the page's style."""
    return Response(asset("preferences.css"), media_type="text/css", headers={"Cache-Control": "max-age=300"})


def _answer(request: Request, token: str, form: Form | None) -> Response:
    """Return the page of the user whose link this is, after doing what a form asks for."""
    services = services_of(request)
    try:
        link = services.links.read_preferences(token, services.clock.now())
        visit = _Visit(services, book_of(request), link, words_of(request, link.user_id))
    except ExpiredLinkError as error:
        return _refused(request, "expired_link.html", ProblemError(410, "expired-link", str(error)))
    except (BadLinkError, ProblemError):
        return _refused(request, "bad_link.html", not_found("this link is not valid; it may have been cut off"))
    if form is None:
        return visit.show()
    wrong = visit.obey(form)
    if wrong is not None and not wants_html(request):
        raise wrong
    return visit.show(saved=wrong is None)


def _refused(request: Request, name: str, problem: ProblemError) -> Response:
    if not wants_html(request):
        raise problem
    return page(name, status_code=problem.status, words=words_of(request))


class _Visit:
    """One request of a user. Raises ProblemError where nobody has put the user."""

    def __init__(self, services: Services, book: UserBook, link: LinkToken, words: Words) -> None:
        self._services, self._book, self._link, self._words = services, book, link, words
        self._user = link.user_id
        self._rows = book.preferences(link.user_id)
        self._offer: Offer = services.offer.to(self._rows)
        self._choices = Choices.of(self._rows, self._offer)
        self._problems: list[str] = []
        self._said = ""

    def obey(self, form: Form) -> ProblemError | None:
        """Do what a form asks for and return what is wrong with it, if anything."""
        if "unsubscribe" in form:
            self._unsubscribe()
            return None
        if "resubscribe" in form:
            return self._resubscribe(form["resubscribe"][-1])
        self._choices, self._problems = submitted(form, self._choices)
        if self._problems:
            return invalid("form", " ".join(self._problems))
        rows = self._choices.rows(self._rows, self._offer)
        self._book.put_preferences(self._user, rows)
        self._services.enroll([self._user], self._services.clock.now())
        self._said = "Saved"
        return None

    def _unsubscribe(self) -> None:
        if len(self._book.suppression.records(self._user)) < len(self._services.meta.channels):
            now = self._services.clock.now()
            row = {"user_id": self._user, "kind": "unsubscribe", "at": now, "source": "preferences"}
            self._services.feedback.accept([row | ({"send_id": self._link.grant_id} if self._link.grant_id else {})], now)
        self._said = "You are unsubscribed from everything"

    def _resubscribe(self, channel: str) -> ProblemError | None:
        ended = self._ended()
        wanted = list(ended) if channel == "*" else [channel]
        if not set(wanted) <= set(ended):
            self._problems = ["There is nothing to begin again there."]
            return invalid("resubscribe", "is no channel that this user unsubscribed from")
        for each in wanted:
            self._book.suppression.resubscribe(self._user, each)
        self._said = "Messages will come again"
        return None

    def _ended(self) -> list[str]:
        """Return the channels that the user unsubscribed from; those that ended for another reason are not theirs to begin again."""
        records = self._book.suppression.records(self._user)
        return [channel for channel in self._services.meta.channels if channel in records and records[channel].reason == "unsubscribed"]

    def show(self, *, saved: bool = False) -> Response:
        """Return the page."""
        ended, offer, words = self._ended(), self._offer, self._words
        return page(
            "preferences.html",
            status_code=422 if self._problems else 200,
            words=words,
            said=self._said if saved else "",
            told=self._choices.told(offer, words) if saved and self._said == "Saved" else [],
            problems=self._problems,
            everything_ended=set(offer.channels) <= set(ended),
            ended=[(channel, words(channel_name(channel))) for channel in offer.channels if channel in ended],
            groups=[(offer.kind_name(kind, words), self._boxes(kind)) for kind in (*offer.kinds, None)],
            choices=self._choices,
            dial=DIAL_NAMES.items(),
            days=[(day, *names) for day, names in zip(WEEKDAYS, words.days(), strict=True)],
            quarter_hours=QUARTER_HOURS,
            zone=self._book.zone(self._user),
        )

    def _boxes(self, kind: str | None) -> list[tuple[str, str, bool]]:
        """Return the boxes of a kind: the field's value, the channel's name, whether it is ticked."""
        allowed = self._choices.allowed
        return [(name_of((kind, channel)), self._words(channel_name(channel)), allowed[kind, channel]) for channel in self._offer.channels]
