"""Import the history of a git repository: commits to tell about, who touches their components, and who answered whom.

Items are commits, their topics the components they touch. Events are authored commits and Reviewed-by, Acked-by and Tested-by
trailers; sends are Cc trailers. Addresses leave as keyed hashes, and the key is never written.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from lake.errors import InputError
from lake.importers.base import Context, Imported
from lake.importers.git_log import Commit, commits, decoded, is_repository, is_url, repository, run_git
from lake.tables import MAX_ID_CHARS, check_frame

DAY_S = 86_400
FIRST_AT = 631_152_000
"""1990-01-01: an older date is a broken clock."""
FOLLOW_S = 90 * DAY_S
"""Who touched a component within this time of the history's end follows it."""
MAX_TOPICS = 8
MAX_TITLE_CHARS = 500
PROGRESS_EVERY = 2_000
REACTIONS = {"reviewed-by": "reviewed", "acked-by": "acked", "tested-by": "tested"}

Codes = npt.NDArray[np.int64]

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_CONTACT = re.compile(r'([^"<>,]*)"?\s*<\s*([^<>\s@]+@[^<>\s@]+)\s*>|()([^\s<>,;"()@]+@[^\s<>,;"()@]+)')
_NOBODY = re.compile(
    r"\[bot\]@|^(no-?reply|do-?not-?reply|syzbot[^@]*)@|@vger\.kernel\.org$|@googlegroups\.com$|@([^@]+\.)?lists?\."
    r"|^[^@]+-(list|devel|dev|discuss|announce|commits|patches)@"
)
"""Mailing lists and robots: nobody in particular reads what they are told."""


class GitImporter:
    """Any clone, bare or not, or a URL that git can clone."""

    def recognises(self, source: str) -> bool:
        """Return whether the source is the top folder of a clone, or a URL."""
        return is_url(source) or is_repository(Path(source))

    def read(self, source: str, context: Context) -> Imported:
        """Return the history that leads to HEAD; raises InputError where git cannot read or clone the source."""
        if not self.recognises(source):
            raise InputError(f"{source}: is not the top folder of a git clone, nor a URL that git can clone")
        history = History(context.now)
        context.progress(f"opening {source}", 0, None)
        with repository(source) as folder:
            total = int(run_git(folder, "rev-list", "--count", "HEAD", "--"))
            for done, commit in enumerate(commits(folder)):
                history.add(commit)
                if done % PROGRESS_EVERY == 0:
                    context.progress("reading commits", done, total)
            context.progress("reading commits", total, total)
            people = history.people.identified(_mailmap(folder, history.people), context.hash_key)
        frames = _frames(history, people.codes)
        return Imported({name: check_frame(people.named(frame), name) for name, frame in frames.items()}, dict(history.dropped))


@dataclass
class People:
    """The people of a history by the code of their address; -1 is nobody."""

    by_address: dict[str, int] = field(default_factory=dict)
    contacts: list[str] = field(default_factory=list)
    nobodies: int = 0

    def codes_of(self, text: str) -> list[int]:
        """Return the codes of everyone whom a text names as `Name <address>` or by a bare address."""
        codes = []
        for name, address, _, bare in _CONTACT.findall(text):
            code = self._code(name.strip(), (address or bare).rstrip(".").lower())
            codes += [code] if code >= 0 else []
        return codes

    def identified(self, canonical: list[str], hash_key: bytes) -> Identities:
        """Return who is who, given each code's canonical address: codes of one address become one person."""
        by_address: dict[str, int] = {}
        codes = [by_address.setdefault(address, len(by_address)) for address in canonical]
        return Identities(np.array([*codes, -1], np.int64), np.array([user_id(address, hash_key) for address in by_address], object))

    def _code(self, name: str, address: str) -> int:
        code = self.by_address.get(address)
        if code is None:
            is_nobody = _NOBODY.search(address) is not None or _CONTROLS.search(name) is not None
            code = self.by_address[address] = -1 if is_nobody else len(self.contacts)
            if not is_nobody:
                self.contacts.append(f"{name} <{address}>")
        self.nobodies += code < 0
        return code


@dataclass(frozen=True)
class Identities:
    """`codes` maps the code of an address to that of its person (and -1 to -1), `ids` that to a user id."""

    codes: Codes
    ids: npt.NDArray[np.object_]

    def named(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a table with user ids in place of the codes in `user_id` and `author_id`."""
        ids = np.array([*self.ids, None], object)
        coded = [name for name in ("user_id", "author_id") if name in frame]
        return frame.assign(**{name: pd.array(ids[frame[name].to_numpy()], "str") for name in coded})


def user_id(address: str, hash_key: bytes) -> str:
    """Return the pseudonym of an address: HMAC-SHA256 under the import's key, cut to 80 bits."""
    return "u" + hmac.new(hash_key, address.encode(), hashlib.sha256).hexdigest()[:20]


@dataclass
class History:
    """What is gathered commit by commit, as columns: one row per commit, per reaction and per person told."""

    now: float
    people: People = field(default_factory=People)
    dropped: Counter[str] = field(default_factory=Counter)
    commit_ids: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    topics: list[list[str]] = field(default_factory=list)
    authors: list[int] = field(default_factory=list)
    ats: list[int] = field(default_factory=list)
    offsets: list[float] = field(default_factory=list)
    reactions: list[tuple[int, int, str, int]] = field(default_factory=list)
    told: list[tuple[int, int]] = field(default_factory=list)
    _topic_of: dict[bytes, str] = field(default_factory=dict)

    def add(self, commit: Commit) -> None:
        """Take in one commit, or count why not: merges tell nothing new, and a broken clock's date would mislead."""
        latest = self.now + DAY_S
        if commit.is_merge:
            self.dropped["merge commits"] += 1
        elif commit.at is None or not (FIRST_AT <= commit.at <= latest and FIRST_AT <= commit.committed_at <= latest):
            self.dropped["commits dated before 1990 or in the future"] += 1
        else:
            self._keep(commit, commit.at)

    def _keep(self, commit: Commit, at: int) -> None:
        row = len(self.commit_ids)
        before = self.people.nobodies
        self.commit_ids.append(commit.commit_id)
        self.titles.append(_CONTROLS.sub(" ", commit.title)[:MAX_TITLE_CHARS])
        self.topics.append(self._topics(commit.paths))
        self.authors.append(next(iter(self.people.codes_of(commit.author)), -1))
        self.ats.append(at)
        self.offsets.append(commit.utc_offset_minutes)
        for key, value in commit.trailers:
            codes = self.people.codes_of(value)
            if key in REACTIONS:
                self.reactions += [(row, code, REACTIONS[key], max(at, commit.committed_at)) for code in codes]
            else:
                self.told += [(row, code) for code in codes]
        if self.people.nobodies > before:
            self.dropped["mentions of mailing lists and robots"] += self.people.nobodies - before

    def _topics(self, paths: Sequence[bytes]) -> list[str]:
        touched: dict[str, int] = {}
        for path in paths:
            directory = path.rpartition(b"/")[0]
            topic = self._topic_of.get(directory) or self._topic_of.setdefault(directory, _topic(directory))
            touched[topic] = touched.get(topic, 0) + 1
        return sorted(touched, key=lambda topic: -touched[topic])[:MAX_TOPICS]


def _topic(directory: bytes) -> str:
    """Return the component of a directory, its first two names; files at the top belong to `.`."""
    names = decoded(directory).split("/")[:2]
    return _CONTROLS.sub(" ", "/".join(names))[:MAX_ID_CHARS].strip() or "."


def _mailmap(folder: Path, people: People) -> list[str]:
    """Return each person's canonical address by the repository's .mailmap, their own where git cannot say."""
    own = list(people.by_address)
    own = [address for address in own if people.by_address[address] >= 0]
    try:
        lines = run_git(folder, "check-mailmap", "--stdin", text="".join(f"{contact}\n" for contact in people.contacts)).splitlines()
    except InputError:  # a partial clone that cannot fetch the file now
        return own
    if len(lines) != len(own):
        return own
    return [line.rpartition("<")[2].rstrip("> ").lower() or address for line, address in zip(lines, own, strict=True)]


def _frames(history: History, codes: Codes) -> dict[str, pd.DataFrame]:
    """Return the tables of a history with people's codes for ids."""
    commits_ = pd.DataFrame(
        {
            "item_id": pd.array(history.commit_ids, "str"),
            "created_at": _times(history.ats),
            "author_id": codes[np.array(history.authors, np.int64)],
            "topics": pd.Series(history.topics, dtype=object),
            "title": pd.array(history.titles, "str"),
            "kind": "commit",
        }
    )
    reactions = _reactions(history, codes, commits_)
    sends = _sends(history, codes, commits_, reactions)
    events = _events(history, commits_, reactions)
    return {
        "items": commits_,
        "events": events,
        "sends": sends,
        "follows": _follows(commits_, events),
        "users": _users(events, sends),
    }


def _reactions(history: History, codes: Codes, items: pd.DataFrame) -> pd.DataFrame:
    """Return who reacted to which commit (by row), how and when, once each and never to one's own."""
    frame = pd.DataFrame(history.reactions, columns=["row", "user_id", "kind", "at"])
    frame = frame.assign(user_id=codes[frame["user_id"].to_numpy(np.int64)], row=frame["row"].astype(np.int64), at=_times(frame["at"]))
    others: pd.DataFrame = frame[frame["user_id"] != items["author_id"].to_numpy()[frame["row"].to_numpy()]]
    return others.drop_duplicates(["row", "user_id", "kind"])


def _sends(history: History, codes: Codes, items: pd.DataFrame, reactions: pd.DataFrame) -> pd.DataFrame:
    """Return who was told of which commit, and when they reacted if they did."""
    frame = pd.DataFrame(np.array(history.told, np.int64).reshape(-1, 2), columns=["row", "user_id"])
    frame = frame.assign(user_id=codes[frame["user_id"].to_numpy()]).drop_duplicates()
    told = items.take(frame["row"].to_numpy())
    is_author = frame["user_id"].to_numpy() == told["author_id"].to_numpy()
    sends = frame.assign(item_id=told["item_id"].array, channel="email", at=told["created_at"].array).loc[~is_author]
    engaged = reactions.groupby(["row", "user_id"])["at"].min().rename("engaged_at").reset_index()
    return pd.merge(sends, engaged, on=["row", "user_id"], how="left").drop(columns="row")


def _events(history: History, items: pd.DataFrame, reactions: pd.DataFrame) -> pd.DataFrame:
    """Return who authored or reacted to which commit; only authors' clocks tell an offset."""
    authored = pd.DataFrame(
        {
            "user_id": items["author_id"],
            "item_id": items["item_id"],
            "kind": "author",
            "at": items["created_at"],
            "utc_offset_minutes": np.array(history.offsets, np.float64),
        }
    )
    reacted = pd.DataFrame(
        {
            "user_id": reactions["user_id"],
            "item_id": items["item_id"].take(reactions["row"].to_numpy()).array,
            "kind": reactions["kind"],
            "at": reactions["at"],
            "utc_offset_minutes": np.nan,
        }
    )
    return pd.concat([authored[authored["user_id"] >= 0], reacted], ignore_index=True).sort_values("at", kind="stable", ignore_index=True)


def _follows(items: pd.DataFrame, events: pd.DataFrame) -> pd.DataFrame:
    """Return who touched which component within FOLLOW_S of the end, since when they have without a longer pause.

    `since` is the start of that unbroken run, so that a moment in the past sees who followed then; `last_touch_at` its end.
    """
    topics = items[["item_id", "topics"]].explode("topics").dropna(subset="topics")
    touches = events[["user_id", "item_id", "at"]].merge(topics, on="item_id").sort_values(["user_id", "topics", "at"], kind="stable")
    same = touches[["user_id", "topics"]].eq(touches[["user_id", "topics"]].shift()).all(axis=1)
    run = (~same | (touches["at"].diff() > pd.Timedelta(seconds=FOLLOW_S))).cumsum()
    runs = touches.groupby(run).agg(
        user_id=("user_id", "first"), topic=("topics", "first"), since=("at", "first"), last_touch_at=("at", "last")
    )
    current: pd.DataFrame = runs[runs["last_touch_at"] >= events["at"].max() - pd.Timedelta(seconds=FOLLOW_S)]
    return current


def _users(events: pd.DataFrame, sends: pd.DataFrame) -> pd.DataFrame:
    """Return everyone who acted or was told, with the offset of their latest commit."""
    everyone = np.union1d(events["user_id"].to_numpy(), sends["user_id"].to_numpy())
    latest = events.dropna(subset="utc_offset_minutes").drop_duplicates("user_id", keep="last").set_index("user_id")["utc_offset_minutes"]
    return pd.DataFrame({"user_id": everyone, "utc_offset_minutes": latest.reindex(everyone).to_numpy()})


def _times(seconds: pd.Series[int] | list[int]) -> pd.Series[pd.Timestamp]:
    return pd.Series(pd.to_datetime(pd.Series(seconds, dtype=np.int64), unit="s", utc=True))
