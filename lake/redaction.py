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

_LABEL = re.compile(r"""(?<![\w.-])(?P<name>[A-Za-z][\w.-]{0,63})\\*["']?\s*(?P<sign>[=:])\s*""")
_QUOTED = re.compile(r"""\\+".*?\\+"|b?"(?:\\.|[^"\\])*"?|b?'(?:\\.|[^'\\])*'?""")
_WORD = re.compile(r"[^\s,;&)\]}]+")
_LINE = re.compile(r"[^\n;]+?(?=,? [\w.]+=|[\n;)]|$)")


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


_RULES: tuple[tuple[str, re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    ("-----BEGIN", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), SECRET),
    ("://", re.compile(r"\b(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<rest>[^\s\"<>]+)", re.IGNORECASE), _url),
    ("/v1/users/", re.compile(r"/v1/users/[^/\s?\"']+"), f"/v1/users/{USER}"),
    ("/", re.compile(r"/(unsubscribe|r|o)/[\w.=-]{16,}"), rf"/\1/{TOKEN}"),
    ("", re.compile(r"\b(Bearer|Basic)\s+[^\s\"',;]+", re.IGNORECASE), rf"\1 {SECRET}"),
    ("", re.compile(r"\btk_[\w-]+|\bwhsec_[\w+/=-]+|\beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"), SECRET),
    ("PushToken[", re.compile(r"\b(?:Expo|Exponent)PushToken\[[^\]\s]*\]?"), TOKEN),
)
"""By what a text must hold for the rule to say anything: most texts hold little of it."""
_EMAIL = re.compile(r"(?:\"[^\"\n]+\"|[^\s<>()\[\],;:\"@\\]+)(?:@|%40)(?:\[[^\]\s]+\]|[^\W_](?:[\w.-]*[^\W_])?)")
_PHONE = re.compile(r"(?:(?<![\w.])00|\+)\d(?:[\s().\-/]{0,2}\d){6,14}(?!\d)")
_TOKEN = re.compile(rf"(?<![\w/.])[\w\-+=:]{{{LEAST_TOKEN},}}", re.ASCII)


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
    for sign, pattern, mark in _RULES:
        if sign in text:
            text = pattern.sub(mark, text)
    text = _without_labelled(text)
    if "@" in text or "%40" in text:
        text = _EMAIL.sub(EMAIL, text)
    return _TOKEN.sub(_token, _PHONE.sub(PHONE, text))


def _without_labelled(text: str) -> str:
    """Replace values whose name, as in title='…', "title": "…" or title=…, says what they are."""
    done, at = [], 0
    while label := _LABEL.search(text, at):
        value = _value_after(text, label)
        done += [text[at : label.end()], value[0] if value else ""]
        at = label.end() + (value[1] if value else 0)
    return "".join([*done, text[at:]])


def _value_after(text: str, label: re.Match[str]) -> tuple[str, int] | None:
    """Return the mark for what stands behind a label and how long that is, None where it may stay."""
    mark = mark_of(label["name"])
    if mark is None:
        return None
    value = _QUOTED.match(text, label.end())
    if value is None and mark == SECRET:
        value = _WORD.match(text, label.end())
    if value is None and mark == TEXT and label["sign"] == "=":
        value = _LINE.match(text, label.end())
    return None if value is None else (mark, len(value[0]))


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
