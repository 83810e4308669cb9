"""Places on the earth and how far apart they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

EARTH_KM = 6371.0088
"""The earth's mean radius (IUGG)."""


def great_circle_km(here: npt.NDArray[Any], there: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return the great-circle distance of places (latitude, longitude) in degrees, (..., 2) each (haversine: Sinnott 1984).

    NaN where either place is unknown (NaN).
    """
    mine, theirs = np.radians(here.astype(np.float64)), np.radians(there.astype(np.float64))
    half = np.sin((theirs - mine) / 2) ** 2
    chord = half[..., 0] + np.cos(mine[..., 0]) * np.cos(theirs[..., 0]) * half[..., 1]
    distance: npt.NDArray[np.float32] = (2 * EARTH_KM * np.arcsin(np.sqrt(np.minimum(chord, 1.0)))).astype(np.float32)
    return distance
