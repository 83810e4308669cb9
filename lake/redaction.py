"""Taking out of a text what must not be written down: addresses, secrets, what messages say. Pure.

Numbers, reasons and ids of items, grants, decisions, models and shards stay. What cannot be told by its looks, such as a title
that stands alone, is told by the name it is given; `lake.logs` adds what it knows of where a text stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

EMAIL, PHONE, TOKEN, SECRET, TEXT, USER, ADDRESS = "[email]", "[phone]", "[token]", "[secret]", "[text]", "[user]", "[address]"

SECRETS = (
    *("password", "passwd", "pwd", "passphrase", "secret", "secrets", "token", "auth", "p256dh", "api_key", "apikey", "api-key"),
    *("authorization", "credential", "credentials", "private_key", "signing_key", "signing_secret", "dsn", "cookie", "login"),
)
TEXTS = ("title", "text", "body", "subject", "plain", "html", "content", "snippet", "preview", "why", "note", "data", "payload")
ADDRESSES = ("address", "addresses", "email", "e_mail", "phone", "recipient", "recipients", "endpoint", "device_token", "webhook", "to")
USERS = ("user_id", "user", "users", "user_ids", "author_id", "followers")
_KIND = {
    **dict.fromkeys(SECRETS, SECRET),
    **dict.fromkeys(TEXTS, TEXT),
    **dict.fromkeys(ADDRESSES, ADDRESS),
    **dict.fromkeys(USERS, USER),
}
WEB = ("http", "https", "ws", "wss")
LEAST_SEGMENT = 20
"""Characters from which on a part of a path that has a digit counts as a secret, as in the addresses of hooks and push services."""
LEAST_TOKEN = 24
LEAST_HEX_TOKEN = 60
"""Ids of ours and of Ray's are shorter; the device tokens of Apple are longer."""

_QUOTED = r"""(?:b?"(?:\\.|[^"\\])*"?|b?'(?:\\.|[^'\\])*'?)"""
_LABEL = r"""(?<![A-Za-z0-9])(?P<label>["']?[\w.-]*?(?P<name>%s)["']?\s*[=:]\s*)"""


def _words(names: tuple[str, ...]) -> str:
    return "|".join(sorted(map(re.escape, names), key=len, reverse=True))


def _labelled(names: tuple[str, ...], value: str) -> re.Pattern[str]:
    return re.compile(_LABEL % _words(names) + value, re.IGNORECASE)


def _mark(kind: str) -> Callable[[re.Match[str]], str]:
    return lambda match: f"{match['label']}{kind}"


def _url(match: re.Match[str]) -> str:
    """Keep of a URL its scheme, host and those parts of its path that are words."""
    scheme, rest = match["scheme"], match["rest"]
    # A password may hold anything, also "/" and "@": what counts as the host comes after the last "@".
    before, at, after = rest.rpartition("@")
    kept = f"{SECRET}@" if at and before else ""
    place, *query = re.split(r"[?#;]", after, maxsplit=1)
    host, *segments = place.split("/")
    is_web = scheme.lower() in WEB
    parts = [TOKEN if is_web and len(part) >= LEAST_SEGMENT and re.search(r"\d", part) else part for part in segments]
    return f"{scheme}://{kept}" + "/".join([host, *parts]) + ("?" + SECRET if query else "")


def _token(match: re.Match[str]) -> str:
    run = match[0]
    mixed = re.search("[a-z]", run) and re.search("[A-Z]", run) and re.search(r"\d", run)
    only_hex = len(run) >= LEAST_HEX_TOKEN and re.fullmatch("[0-9a-fA-F]+", run)
    return TOKEN if mixed or only_hex else run


_RULES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), SECRET),
    (re.compile(r"\b(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<rest>[^\s\"<>]+)", re.IGNORECASE), _url),
    (re.compile(r"/v1/users/[^/\s?\"']+"), f"/v1/users/{USER}"),
    (re.compile(r"/(unsubscribe|r|o)/[\w.=-]{16,}"), rf"/\1/{TOKEN}"),
    (re.compile(r"\b(Bearer|Basic)\s+[^\s\"',;]+", re.IGNORECASE), rf"\1 {SECRET}"),
    (re.compile(r"\btk_[\w-]+|\bwhsec_[\w+/=-]+|\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"), SECRET),
    (re.compile(r"\b(?:Expo|Exponent)PushToken\[[^\]\s]*\]?"), TOKEN),
    (_labelled(SECRETS, rf"(?:{_QUOTED}|[^\s,;&)\]}}]+)"), _mark(SECRET)),
    (_labelled(TEXTS, rf"(?:{_QUOTED}|(?<=[=])[^\n;]+?(?=,? [\w.]+=|[\n;)]|$))"), _mark(TEXT)),
    (_labelled(ADDRESSES, _QUOTED), _mark(ADDRESS)),
    (_labelled(USERS, _QUOTED), _mark(USER)),
    (re.compile(r"(?:\"[^\"\n]+\"|[^\s<>()\[\],;:\"@\\]+)(?:@|%40)(?:\[[^\]\s]+\]|[^\W_](?:[\w.-]*[^\W_])?)"), EMAIL),
    (re.compile(r"(?:(?<![\w.])00|\+)\d(?:[\s().\-/]{0,2}\d){6,14}(?!\d)"), PHONE),
    (re.compile(rf"(?<![\w/.])[\w\-+=:]{{{LEAST_TOKEN},}}", re.ASCII), _token),
)


def without_password(url: str) -> str:
    """Return a store's URL as it may be shown, also where its password breaks the URL."""
    scheme, there, rest = url.partition("://")
    if not there:
        return SECRET if "@" in url else url
    before, at, after = rest.rpartition("@")
    user, colon, _ = before.partition(":")
    place, question, query = after.partition("?")
    shown = re.sub(r"(?<==)(?!\d+(?:&|$))[^&]*", "***", query)
    return f"{scheme}://{user if colon else before and '***'}{colon and ':***'}{at}{place}{question}{shown}"


def redact(text: str) -> str:
    """Return a text with marks such as [email] in the place of what must not be written down."""
    for pattern, mark in _RULES:
        text = pattern.sub(mark, text)
    return text


def mark_of(name: str) -> str | None:
    """Return the mark for whatever a field of this name holds, None where the name says nothing."""
    lowered = name.lower()
    found = _KIND.get(lowered)
    if found is None:
        found = next((kind for known, kind in _KIND.items() if lowered.endswith(f"_{known}") and kind != USER), None)
    return found


def redact_value(name: str, value: object) -> object:
    """Return a field's value as it may be written down; numbers, truth values and None stay, whatever they are named, secrets excepted."""
    mark = mark_of(name)
    if isinstance(value, bool) or value is None:
        return value
    if mark is not None and (mark in (SECRET, ADDRESS) or not isinstance(value, int | float)):
        return mark
    if isinstance(value, int | float):
        return value
    if isinstance(value, Mapping):
        return {redact(str(key)): redact_value(str(key), each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact_value("", each) for each in value]
    return redact(value if isinstance(value, str) else str(value))
