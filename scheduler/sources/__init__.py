"""Where candidates come from. A source is one file here and one line in `registry.MAKERS`."""

from scheduler.sources.base import Proposals, Source, UserChunk
from scheduler.sources.dormant import Dormant
from scheduler.sources.growing import Growing
from scheduler.sources.held import HeldRows
from scheduler.sources.nearby import Nearby
from scheduler.sources.new_posts import NewPosts
from scheduler.sources.registry import MAKERS, Needs, SourceRule, open_sources
from scheduler.sources.trending import Trending

SOURCES = tuple(MAKERS)
"""Names in order of precedence: a row that several sources propose is credited to the first."""

__all__ = [
    "SOURCES",
    "Dormant",
    "Growing",
    "HeldRows",
    "Nearby",
    "Needs",
    "NewPosts",
    "Proposals",
    "Source",
    "SourceRule",
    "Trending",
    "UserChunk",
    "open_sources",
]
