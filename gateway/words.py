"""In which language a page speaks: its English texts, and the catalogues (gettext .po) that say them otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from babel import Locale
from babel.dates import get_day_names
from babel.messages.pofile import read_po

from delivery.locales import DEFAULT, fallbacks

CATALOGUES = Path(__file__).parent / "translations"
MOST_WANTED = 20
"""Languages of one Accept-Language header that are looked at."""


@dataclass(frozen=True)
class Words:
    """What texts are in a language, `lang` as BCP 47. A text that its catalogue lacks stays English."""

    lang: str = DEFAULT
    texts: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, text: str, **facts: object) -> str:
        """Return a text in this language, with {names} replaced by `facts`."""
        said = self.texts.get(text, text)
        return said.format(**facts) if facts else said

    def days(self) -> list[tuple[str, str]]:
        """Return the days of the week from Monday on, each in full and short."""
        locale = Locale.parse(self.lang, sep="-")
        full, short = (get_day_names(width, context="stand-alone", locale=locale) for width in ("wide", "abbreviated"))
        return [(full[day], short[day].rstrip(".")) for day in range(7)]


ENGLISH = Words()


def words_for(locale: str, accept_language: str = "") -> Words:
    """Return the words of a user's own locale, else of the first language of their browser that there is, else English.

    `locale`: BCP 47, "" where it is unknown. `accept_language`: the header as it came.
    """
    for wanted in (locale, *_wanted(accept_language)):
        for name in fallbacks(wanted):
            if name in _languages():
                return _words(name)
    return ENGLISH


def _wanted(header: str) -> list[str]:
    """Return the languages of a header, the most wanted first (RFC 9110, 12.5.4)."""
    return [language for _, language in sorted(_weighed(header.split(",")[:MOST_WANTED]), key=lambda pair: -pair[0])]


def _weighed(parts: Iterable[str]) -> Iterator[tuple[float, str]]:
    for part in parts:
        language, _, weight = part.partition(";")
        try:
            q = float(weight.replace(" ", "").removeprefix("q=") or 1.0)
        except ValueError:
            continue
        if q > 0 and language.strip() != "*":
            yield q, language.strip()


@cache
def _languages() -> frozenset[str]:
    return frozenset({DEFAULT, *(path.stem for path in CATALOGUES.glob("*.po"))})


@cache
def _words(lang: str) -> Words:
    if lang == DEFAULT:
        return ENGLISH
    with (CATALOGUES / f"{lang}.po").open("rb") as file:
        catalogue = read_po(file, locale=lang.replace("-", "_"), abort_invalid=True)
    return Words(lang, {str(each.id): str(each.string) for each in catalogue if each.id and each.string})
