"""What an importer is: it says whether it can read a source, and reads it as checked interchange tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import pandas as pd

Progress = Callable[[str, int, int | None], None]
"""Told what is being done, how far it is, and how far it goes (None: unknown)."""


def silent(what: str, done: int, total: int | None) -> None:
    """Report progress to nobody."""


@dataclass(frozen=True)
class Context:
    """What every importer is given: the time in epoch seconds, the key that addresses are hashed with, and whom to tell of progress."""

    now: float
    hash_key: bytes = field(repr=False)
    progress: Progress = silent


@dataclass(frozen=True)
class Imported:
    """Checked tables by name, and how many rows or values were left out, by reason."""

    tables: dict[str, pd.DataFrame]
    dropped: dict[str, int]


class Importer(Protocol):
    """Reads one kind of source. May block on files, programs and the network."""

    def recognises(self, source: str) -> bool:
        """Return whether this looks like a source of the importer's kind; raises nothing."""
        ...

    def read(self, source: str, context: Context) -> Imported:
        """Return what a source holds; raises InputError for a source that cannot be used."""
        ...
