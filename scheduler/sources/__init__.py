"""Where candidates come from. A source is one file here and one line in `SOURCES`."""

from scheduler.sources.base import Proposals, Source, UserChunk
from scheduler.sources.held import HeldRows
from scheduler.sources.new_posts import NewPosts
from scheduler.sources.trending import Trending

SOURCES = ("held", "new_posts", "trending")
"""Names in order of precedence: a row that several sources propose is credited to the first."""

__all__ = ["SOURCES", "HeldRows", "NewPosts", "Proposals", "Source", "Trending", "UserChunk"]
