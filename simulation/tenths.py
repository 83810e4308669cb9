"""Users in tenths by how active they were beforehand, and what each tenth was sent and did: who hears more, and who less. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Counts = npt.NDArray[np.integer] | npt.NDArray[np.floating]

TENTHS = 10


def tenth_of(active: Counts) -> Ints:
    """Return the tenth of each user, 0 the least active, (users,); users alike in `active` are cut in their order."""
    place = np.empty(len(active), np.int64)
    place[np.argsort(active, kind="stable")] = np.arange(len(active))
    return place * TENTHS // max(len(active), 1)


def volumes(tenth: Ints, active: Counts, sends: Counts, engaged: Counts, known: Counts | None = None) -> list[dict[str, Any]]:
    """Return what each tenth got and did, the least active first; all arguments by user, (users,).

    `engaged`: sends that were engaged with; `known`: those of which it can be told by now, all by default. `engaged_per_send` is None where
    there are none. `share_of_sends`: of all sends; an even hand gives each tenth its `share_of_users`.
    """
    summed = (np.bincount(tenth, each, TENTHS) for each in (active, sends, engaged, sends if known is None else known))
    users = np.bincount(tenth, minlength=TENTHS)
    return [
        {
            "decile": place + 1,
            "users": int(here),
            "active_before": float(before),
            "sends": int(got),
            "engaged_sends": int(answered),
            "engaged_per_send": float(answered / judged) if judged else None,
            "share_of_users": float(here / max(len(tenth), 1)),
            "share_of_sends": float(got / max(float(np.sum(sends)), 1.0)),
        }
        for place, (here, before, got, answered, judged) in enumerate(zip(users, *summed, strict=True))
    ]
