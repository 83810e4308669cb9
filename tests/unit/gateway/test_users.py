"""Putting a user: what changes of their profile at the same moment stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from delivery.suppression import MemorySuppressionStore, Suppression
from gateway.user_rows import MemoryUserRows, UserRow
from gateway.users import UserBook
from lake.follows import MemoryFollowStore
from lake.meta import Meta
from lake.profiles import MemoryProfileStore, Profiles

META = Meta(4, ("in_app", "email"))


@dataclass
class Interrupted(MemoryProfileStore):
    """Profiles in whose reading something else happens once."""

    meanwhile: Callable[[], object] | None = None

    def _happen(self) -> None:
        happening, self.meanwhile = self.meanwhile, None
        if happening is not None:
            happening()

    def get(self, user_ids: Sequence[str]) -> Profiles:
        """Read, then let it happen."""
        found = super().get(user_ids)
        self._happen()
        return found

    def usual(self) -> Profiles:
        """Read, then let it happen."""
        found = super().usual()
        self._happen()
        return found


@pytest.mark.parametrize("is_new", [True, False])
def test_who_unsubscribes_while_they_are_put_stays_unsubscribed(is_new: bool) -> None:
    profiles = Interrupted()
    suppression = Suppression(MemorySuppressionStore(), profiles, META)
    book = UserBook(META, profiles, MemoryUserRows(), MemoryFollowStore(META), suppression)
    row: UserRow = {"timezone": "Europe/Berlin", "latitude": 52.5, "longitude": 13.4, "created_at": 7.0, "locale": "de"}
    if not is_new:
        book.put("ann", {"timezone": "Asia/Tokyo"})
    profiles.meanwhile = lambda: suppression.unsubscribe("ann", "email", "link", 1.0)
    book.put("ann", row)
    (profile,) = profiles.get(["ann"])
    assert profile["suppressed"] == 2
    assert (profile["zone"], profile["locale"], profile["created_at"]) == (b"Europe/Berlin", b"de", 7.0)
    assert profile["place"].tolist() == pytest.approx([52.5, 13.4])
