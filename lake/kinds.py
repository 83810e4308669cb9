"""What kinds of events mean. Any kind that is not named here is something a user did with an item because they cared for it."""

from __future__ import annotations

REPORTED = frozenset({"delivered", "delayed", "relayed", "expanded", "bounce", "complaint"})
"""What is told of a message by whoever carries it or complains of it."""

NO_ENGAGEMENT = REPORTED | {"unsubscribe", "mute", "dismiss", "hide", "report", "impression", "sent"}
"""Kinds that are no engagement with the item they name, in labels and in counts alike."""
