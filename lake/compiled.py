"""Functions that numba compiles: once for an installation where it may keep what it compiled, else once for a process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Any:
    """Return a function that is compiled for the types of its arguments when it is first called; it holds up no other thread.

    What was compiled is kept beside the module or else in the user's cache folder; where neither may be written, as in a container
    that can only be read, every process compiles for itself.
    """
    try:
        return numba.njit(function, cache=True, nogil=True)
    except RuntimeError:
        return numba.njit(function, nogil=True)
