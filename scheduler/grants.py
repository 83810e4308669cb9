"""What a grant is called: the same for a repeat of the same decision, whoever makes it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lake.decisions import Candidates
from lake.ids import Keys64, combine, hash64
from lake.items import Items


def grant_ids(candidates: Candidates, items: Items, item: npt.NDArray[np.int32], rows: npt.NDArray[np.intp]) -> Keys64:
    """Return the grant id of rows: hash(user, entity or item, entity version, channel), uint64; `item`: their rows of `items`."""
    user = hash64(candidates.users)[candidates.user[rows]]
    return combine(user, items.entity[item], items.version[item], candidates.channel[rows])
