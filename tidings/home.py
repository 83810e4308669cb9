"""Where this machine's Tidings keeps its state: TIDINGS_HOME, by default ~/.tidings."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """Return the folder of this machine's state; it need not exist yet."""
    return Path(os.environ.get("TIDINGS_HOME") or Path.home() / ".tidings").expanduser().resolve()


def store_folder() -> Path:
    """Return the folder of the embedded store's data."""
    return home() / "store"
