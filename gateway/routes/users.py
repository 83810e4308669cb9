"""/v1/users/{id} and what belongs to a user: preferences, follows, addresses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request, Response

from gateway.models import Addresses, Followed, Follows, Id, Preference, Preferences, PreferencesLink, User
from gateway.problems import invalid, not_found, without_id
from gateway.routing import KeyedRoute, needs, services_of
from gateway.users import UserBook
from lake import follows

router = APIRouter(route_class=KeyedRoute, tags=["users"])
WRITE, READ = needs("users"), needs("users", "read")


def book_of(request: Request) -> UserBook:
    """Return the users behind the routes."""
    services = services_of(request)
    return UserBook(services.meta, services.profiles, services.user_rows, services.follows, services.suppression)


Book = Annotated[UserBook, Depends(book_of)]


@router.put("/v1/users/{user_id}", status_code=204, response_model=None, openapi_extra=WRITE)
def put_user(request: Request, book: Book, user_id: Id, body: User) -> Response:
    """Insert or replace a user; what else is known of them stays."""
    services = services_of(request)
    book.put(user_id, without_id(body.row(), "user_id", user_id))
    services.enroll([user_id], services.clock.now())
    return Response(status_code=204)


@router.get("/v1/users/{user_id}", openapi_extra=READ)
def get_user(book: Book, user_id: Id) -> dict[str, Any]:
    """Return a user."""
    row = book.get(user_id)
    if "created_at" in row:
        row["created_at"] = datetime.fromtimestamp(row["created_at"], UTC)
    return row


@router.delete("/v1/users/{user_id}", status_code=204, response_model=None, openapi_extra=WRITE)
def delete_user(request: Request, user_id: Id) -> Response:
    """Forget a user everywhere: profile, follows, inbox, and the link between them and the rows about them."""
    services = services_of(request)
    services.erase(user_id, services.clock.now())
    return Response(status_code=204)


@router.get("/v1/users/{user_id}/export", response_model=None, openapi_extra=WRITE)
def export_user(request: Request, user_id: Id) -> Response:
    """Return everything that is held about a user, as one document."""
    services = services_of(request)
    document = services.export(user_id, services.clock.now())
    if document is None:
        raise not_found(f"nothing is held about {user_id!r}")
    return Response(orjson.dumps(document), media_type="application/json")


@router.put("/v1/users/{user_id}/preferences", status_code=204, response_model=None, openapi_extra=WRITE)
def put_preferences(request: Request, book: Book, user_id: Id, body: Preferences) -> Response:
    """Replace a user's preferences: the most specific row about a kind and a channel counts. A change of times holds at once."""
    services = services_of(request)
    for place, row in enumerate(body):
        if row.channel is not None and row.channel not in services.meta.channels:
            raise invalid(f"[{place}].channel", f"unknown channel {row.channel!r}; this store knows {', '.join(services.meta.channels)}")
    try:
        book.put_preferences(user_id, [row.model_dump(exclude_none=True) for row in body])
    except ValueError as error:
        raise invalid("preferences", str(error)) from None
    services.enroll([user_id], services.clock.now())
    return Response(status_code=204)


@router.get("/v1/users/{user_id}/preferences", response_model_exclude_none=True, openapi_extra=READ)
def get_preferences(book: Book, user_id: Id) -> list[Preference]:
    """Return a user's preferences as they were put; imported ones without the further columns of their table."""
    known = Preference.model_fields
    return [Preference(**{name: value for name, value in row.items() if name in known}) for row in book.preferences(user_id)]


@router.get("/v1/users/{user_id}/preferences/link", openapi_extra=WRITE)
def get_preferences_link(request: Request, book: Book, user_id: Id) -> PreferencesLink:
    """Return a link to the page on which this user chooses; whoever holds it can, until it expires."""
    services = services_of(request)
    book.preferences(user_id)
    now = services.clock.now()
    expires_at = datetime.fromtimestamp(services.links.preferences_until(now), UTC)
    return PreferencesLink(url=services.links.preferences(user_id, now), expires_at=expires_at)


@router.put("/v1/users/{user_id}/follows", status_code=204, response_model=None, openapi_extra=WRITE)
def put_follows(book: Book, user_id: Id, body: Followed) -> Response:
    """Replace what a user follows."""
    book.put_followed(user_id, follows.Followed(tuple(dict.fromkeys(body.topics)), tuple(dict.fromkeys(body.authors))))
    return Response(status_code=204)


@router.get("/v1/users/{user_id}/follows", openapi_extra=READ)
def get_follows(book: Book, user_id: Id) -> Follows:
    """Return what a user follows."""
    followed = book.followed(user_id)
    return Follows(topics=list(followed.topics), authors=list(followed.authors))


@router.put("/v1/users/{user_id}/addresses", status_code=204, response_model=None, openapi_extra=WRITE)
def put_addresses(request: Request, book: Book, user_id: Id, body: Addresses) -> Response:
    """Replace a user's addresses, by channel: an e-mail address, a device token, a push subscription as JSON text, a URL."""
    checks = services_of(request).address_checks
    for channel, address in body.items():
        if channel in checks:
            try:
                checks[channel](address)
            except ValueError as error:
                raise invalid(f"addresses.{channel}", str(error)) from None
    try:
        book.put_addresses(user_id, body)
    except ValueError as error:
        raise invalid("addresses", str(error)) from None
    return Response(status_code=204)


@router.get("/v1/users/{user_id}/addresses", openapi_extra=READ)
def get_addresses(book: Book, user_id: Id) -> dict[str, str]:
    """Return a user's addresses, by channel."""
    return book.addresses(user_id)
