"""Names that a schema does not know, and which of its own was probably meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any, get_args

from pydantic import BaseModel

ALIKE = 0.85
"""How alike two names are, of 1, before one is a slip of the other: `topic` is one of `topics`, `conversion` none of `version`."""

LONGEST_SLIP = 64
SHORT_FORMS = {
    "tz": "timezone",
    "lat": "latitude",
    "lon": "longitude",
    "lng": "longitude",
    "created": "created_at",
    "expires": "expires_at",
}


@lru_cache(4096)
def meant(name: str, known: tuple[str, ...]) -> str | None:
    """Return which of the known names was probably meant by one that is not among them."""
    if len(name) > LONGEST_SLIP:
        return None
    written = name.lower()
    if SHORT_FORMS.get(written) in known:
        return SHORT_FORMS[written]
    # A megabyte holds a hundred thousand names: nearly all must be told from ours by a few look-ups.
    index, bare = _index(known), written.replace("_", "")
    near = dict.fromkeys(each for variant in _variants(bare) for each in index.get(variant, ()))
    return next((each for each in near if _alike(bare, each.replace("_", ""))), None)


def _alike(name: str, other: str) -> bool:
    return SequenceMatcher(None, name, other).ratio() >= ALIKE or sorted(name) == sorted(other)


@lru_cache(64)
def _index(known: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the known names by themselves, and by what is left of each without one of its letters."""
    index: dict[str, list[str]] = {}
    for name in known:
        for variant in _variants(name.replace("_", "")):
            index.setdefault(variant, []).append(name)
    return index


def _variants(name: str) -> set[str]:
    return {name, *(name[:place] + name[place + 1 :] for place in range(len(name)))}


def meant_at(body: Any, loc: Sequence[int | str]) -> str | None:
    """Return which field was probably meant by the last name of a place in a body, given the annotation of the body."""
    name, found = str(loc[-1]), [body]
    for part in loc[:-1]:
        fields = [model.model_fields[part] for each in found for model in _models(each) if part in model.model_fields]
        found = [field.annotation for field in fields] or found
    return next((close for each in found for model in _models(each) if (close := meant(name, tuple(model.model_fields)))), None)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that an annotation names, in whatever lists and unions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
