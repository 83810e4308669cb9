"""A small world with known ground truth, written as interchange tables: for the demo, and to test what can not be known of real data.

People live in time zones, keep habitual hours, care for a few topics and follow some authors; items appear, in bursts at times, and
fade. People visit, see some items and engage with the probability that `World.true_probability` tells; an old policy has sent them
items at random. The same parameters and seed give the same world.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit

from scheduler.windows import LocalTimes
from simulation.people import F32, WEEK_HOURS, Floats, Ints, People, Texts, numbered, people_of, writers_of
from simulation.things import Things, things_of, written
from simulation.world_parameters import DAY_S, KINDS, PLACES, TOPICS, WorldParameters

EPOCH_MONDAY_HOURS = 72
"""1970-01-01 was a Thursday."""
CHANNELS = ("in_app", "email")
AT_ONCE = 500_000
"""Visits whose feeds are drawn at once, to bound memory."""


def generate(params: WorldParameters, seed: int) -> dict[str, pd.DataFrame]:
    """Return the interchange tables of a world, by name."""
    return World.of(params, seed).tables()


@dataclass(frozen=True)
class World:
    """The truth behind the tables."""

    params: WorldParameters
    seed: int
    people: People
    things: Things

    @classmethod
    def of(cls, params: WorldParameters, seed: int) -> World:
        """Draw a world; each part has a stream of random numbers of its own, so that one can change without the others."""
        writers = writers_of(params, stream(seed, "writers"))
        people = people_of(params, writers, stream(seed, "people"))
        return cls(params, seed, people, things_of(params, people, writers, stream(seed, "things")))

    def true_probability(
        self, users: npt.ArrayLike, items: npt.ArrayLike, at: npt.ArrayLike, channel: npt.ArrayLike | None = None
    ) -> Floats:
        """Return the probability that each user engages with the item if shown or told at `at` (seconds), float64 (n,).

        `users`, `items`: ids, or codes in the order of the tables. `channel`: names, or none for what is seen on a visit.
        0 where the item is not out yet or is over. Raises KeyError for an unknown id.
        """
        user, item = _codes(users, self.people.ids), _codes(items, self.things.ids)
        log_odds = self._log_odds(user, item, np.asarray(at, np.float64))
        if channel is not None:
            log_odds = log_odds + np.where(np.asarray(channel, object) == "email", self.people.email_odds[user], 0.0)
        chance: Floats = expit(log_odds)
        return chance

    def _log_odds(self, user: Ints, item: Ints, at: Floats) -> Floats:
        params, people, things = self.params, self.people, self.things
        hour = self.hour_of_week(user, at)
        odds = params.base + things.quality[item]
        odds += params.interest_weight * np.log(people.interest[user, things.topic[item]] * len(TOPICS) + 0.02)
        odds += params.hour_weight * np.log(people.hours[user, hour] * WEEK_HOURS)
        odds += params.author_bonus * (people.authors[user] == things.author[item][:, None]).any(axis=1)
        odds -= np.log(2) * (at - things.created_at[item]) / things.half_life_s[item]
        out = (at >= things.created_at[item]) & (at < things.expires_at[item])
        return np.where(out & (things.author[item] != user), odds, -np.inf)

    def hour_of_week(self, user: Ints, at: Floats) -> Ints:
        """Return the local hour of the week, 0 = Monday 00h, of users (codes) at moments (seconds), int64 (n,)."""
        seconds = np.floor(at).astype(np.int64)
        local = seconds + self.people.times.take(user).offset_at(seconds)
        hours: Ints = (local // 3600 + EPOCH_MONDAY_HOURS) % WEEK_HOURS
        return hours

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the interchange tables by name, events and sends as they happened until the end of the world's weeks."""
        visits = self._visits(stream(self.seed, "visits"))
        sends = self._sends(stream(self.seed, "sends"))
        events = pd.concat([visits, self._seen(visits, stream(self.seed, "seen")), self._answers(sends, stream(self.seed, "answers"))])
        known = events[events["at"] < self.params.end_at].sort_values("at", kind="stable", ignore_index=True)
        late = sends["engaged_at"] >= self.params.end_at
        sends = sends.assign(engaged_at=sends["engaged_at"].mask(late))
        return {
            "users": self._users(stream(self.seed, "users")),
            "items": self._items(stream(self.seed, "items")),
            "events": _named(known, self.people.ids, self.things.ids, times=("at",)),
            "sends": _named(sends, self.people.ids, self.things.ids, times=("at", "engaged_at")),
            "follows": self._follows(),
            **self._settings(stream(self.seed, "settings")),
        }

    def _visits(self, rng: np.random.Generator) -> pd.DataFrame:
        params, people = self.params, self.people
        user = np.repeat(np.arange(params.users), rng.poisson(people.visits_per_week * (params.weeks + 2)))
        at = _at_local_hours(user, _drawn_hours(people.hours, user, rng), people.times, params, rng)
        here = (at >= people.created_at[user]) & (at >= params.start_at) & (at < params.end_at)
        return pd.DataFrame({"user": user[here], "item": -1, "kind": "visit", "at": at[here]})

    def _seen(self, visits: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        """Draw what the visitors of each visit see, by recency, and what they engage with, once per item."""
        parts = []
        for start in range(0, len(visits), AT_ONCE):
            part = visits.iloc[start : start + AT_ONCE]
            user = np.repeat(part["user"].to_numpy(), self.params.shown)
            at = np.repeat(part["at"].to_numpy(), self.params.shown)
            age_s = rng.exponential(self.params.shown_recency_h * 3600, len(at))
            item = np.searchsorted(self.things.created_at, at - age_s) - 1
            user, item, at = user[item >= 0], item[item >= 0], at[item >= 0]
            taken = rng.random(len(at)) < self.true_probability(user, item, at)
            parts.append(pd.DataFrame({"user": user[taken], "item": item[taken], "at": at[taken]}))
        seen = pd.concat(parts, ignore_index=True).sort_values("at").drop_duplicates(["user", "item"])
        return self._engagements(seen.assign(at=seen["at"] + rng.uniform(5, 120, len(seen))), "view", rng)

    def _engagements(self, first: pd.DataFrame, kind: str, rng: np.random.Generator) -> pd.DataFrame:
        """Return first engagements and what follows some of them: a join of a live room, a like, a comment, a share."""
        is_live = self.things.kind[first["item"].to_numpy()] == [kind.name for kind in KINDS].index("live")
        parts = [first.assign(kind=kind)]
        for later, chance in (("join", 0.5 * is_live), ("like", 0.2), ("comment", 0.06), ("share", 0.04)):
            some = first[rng.random(len(first)) < chance]
            parts.append(some.assign(kind=later, at=some["at"] + rng.exponential(180.0, len(some)) + 1))
        return pd.concat(parts)

    def _sends(self, rng: np.random.Generator) -> pd.DataFrame:
        """Draw what the old policy sent, and whether and when it was answered; `engaged_at` NaN: not."""
        params, people = self.params, self.people
        user = np.repeat(np.arange(params.users), rng.poisson(params.sends_per_week * (params.weeks + 2), params.users))
        hour = rng.integers(0, 7, len(user)) * 24 + rng.integers(8, 22, len(user))
        at = _at_local_hours(user, hour, people.times, params, rng)
        low = np.searchsorted(self.things.created_at, at - params.send_pool_days * DAY_S)
        pool = np.searchsorted(self.things.created_at, at) - low
        kept = (at >= people.created_at[user]) & (at >= params.start_at) & (at < params.end_at) & (pool > 0)
        user, at, low, pool = user[kept], at[kept], low[kept], pool[kept]
        item = low + (rng.random(len(pool)) * pool).astype(np.int64)
        channel = np.array(CHANNELS, object)[rng.integers(0, len(CHANNELS), len(pool))]
        answered = rng.random(len(pool)) < self.true_probability(user, item, at, channel)
        engaged_at = np.where(answered, at + rng.exponential(params.answer_h * 3600, len(pool)) + 1, np.nan)
        sends = pd.DataFrame({"user": user, "item": item, "channel": channel, "at": at, "propensity": 1 / (pool * len(CHANNELS))})
        sends = sends.assign(engaged_at=engaged_at).sort_values("at").drop_duplicates(["user", "item"])
        told: pd.DataFrame = sends.loc[self.things.author[sends["item"].to_numpy()] != sends["user"].to_numpy()]
        return told.assign(send_id=numbered("s", len(told)))

    def _answers(self, sends: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        """Return the events that sends led to: opens, what follows them, and unsubscribes."""
        answered = sends["engaged_at"].notna()
        columns = ["user", "item", "channel", "at", "send_id"]
        opened = self._engagements(sends[answered].assign(at=sends["engaged_at"])[columns], "open", rng)
        tired = sends[~answered & (rng.random(len(sends)) < self.params.opt_out)][columns]
        return pd.concat([opened, tired.assign(kind="unsubscribe", at=tired["at"] + rng.exponential(7200.0, len(tired)))])

    def _users(self, rng: np.random.Generator) -> pd.DataFrame:
        zones = np.array([place.zone for place in PLACES], object)[self.people.place]
        zones[rng.random(len(zones)) < self.params.without_zone] = None
        return pd.DataFrame({"user_id": self.people.ids, "timezone": zones, "created_at": _times(self.people.created_at)})

    def _items(self, rng: np.random.Generator) -> pd.DataFrame:
        things = self.things
        names = np.array([kind.name for kind in KINDS], object)
        titles, texts = written(things, rng)
        return pd.DataFrame(
            {
                "item_id": things.ids,
                "created_at": _times(things.created_at),
                "author_id": self.people.ids[things.author],
                "topics": [[topic] for topic in np.array(list(TOPICS), object)[things.topic]],
                "title": titles,
                "text": texts,
                "url": [f"https://example.com/{item_id}" for item_id in things.ids],
                "kind": names[things.kind],
                "entity_id": things.ids[things.entity],
                "version": things.version,
                "expires_at": _times(np.where(np.isfinite(things.expires_at), things.expires_at, np.nan)),
                "half_life_s": things.half_life_s,
            }
        )

    def _follows(self) -> pd.DataFrame:
        """Return the topics that make up at least a quarter of a user's interest, or the favourite one, and the authors followed."""
        people = self.people
        favourite = people.interest >= np.minimum(0.25, people.interest.max(axis=1, keepdims=True))
        user, topic = np.nonzero(favourite)
        reader = np.repeat(np.arange(len(people.ids)), people.authors.shape[1])
        author = people.authors.ravel()
        by_topic = pd.DataFrame({"user_id": people.ids[user], "topic": np.array(list(TOPICS), object)[topic]})
        by_author = pd.DataFrame({"user_id": people.ids[reader], "author_id": people.ids[author]}).loc[reader != author]
        follows: pd.DataFrame = pd.concat([by_topic, by_author.drop_duplicates()], ignore_index=True)
        since = follows["user_id"].map(pd.Series(people.created_at, index=people.ids))
        return follows.assign(since=_times(since.to_numpy()))

    def _settings(self, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
        """Return addresses in a domain that is reserved for examples, and the budgets and preferences that some users set."""
        params, ids = self.params, self.people.ids

        def some(share: float) -> Texts:
            return ids[rng.random(len(ids)) < share]

        reachable, thrifty, sleepers, refusing = (
            some(share) for share in (params.with_email, params.with_budget, params.with_quiet_hours, params.without_email_consent)
        )
        quiet = pd.DataFrame({"user_id": sleepers, "allowed": True, "quiet_from": "22:00", "quiet_to": "07:30"})
        no_email = pd.DataFrame({"user_id": refusing, "channel": "email", "allowed": False})
        return {
            "addresses": pd.DataFrame({"user_id": reachable, "channel": "email", "address": [f"{user}@example.com" for user in reachable]}),
            "budgets": pd.DataFrame({"user_id": thrifty, "channel": "email", "weekly": rng.integers(0, 4, len(thrifty))}),
            "preferences": pd.concat([quiet, no_email], ignore_index=True),
        }


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the random numbers of one part of a world."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _drawn_hours(hours: F32, user: Ints, rng: np.random.Generator) -> Ints:
    """Return an hour of the week for each row, by its user's habits."""
    cumulative = np.cumsum(hours, axis=1, dtype=np.float64)
    cumulative = (cumulative / cumulative[:, -1:] + np.arange(len(hours))[:, None]).ravel()
    drawn = np.searchsorted(cumulative, user + rng.random(len(user)), side="right") - user * WEEK_HOURS
    hour: Ints = np.minimum(drawn, WEEK_HOURS - 1)
    return hour


def _at_local_hours(user: Ints, hour: Ints, times: LocalTimes, params: WorldParameters, rng: np.random.Generator) -> Floats:
    """Return moments in those local hours of the week, in a random week from one before the world's weeks to one after them."""
    monday = (int(params.start_at) // 3600 + EPOCH_MONDAY_HOURS) // WEEK_HOURS * WEEK_HOURS - EPOCH_MONDAY_HOURS
    week = rng.integers(-1, params.weeks + 1, len(user))
    local_s = (monday + week * WEEK_HOURS + hour) * 3600 + rng.integers(0, 3600, len(user))
    return times.take(user).first_reached(local_s).astype(np.float64)


def _codes(ids: npt.ArrayLike, known: Texts) -> Ints:
    given = np.asarray(ids)
    if given.dtype.kind in "iu":
        return given.astype(np.int64)
    codes = pd.Index(known).get_indexer(pd.Index(given, dtype=object))
    if (codes < 0).any():
        raise KeyError(f"{np.asarray(given)[codes < 0][0]!r} is not in this world")
    return codes


def _times(seconds: npt.NDArray[np.floating]) -> pd.DatetimeIndex:
    return pd.to_datetime(np.asarray(seconds, np.float64), unit="s", utc=True).floor("s").as_unit("us")


def _named(rows: pd.DataFrame, users: Texts, items: Texts, times: tuple[str, ...]) -> pd.DataFrame:
    """Return rows with ids in place of codes and timestamps in place of seconds."""
    item = rows["item"].to_numpy()
    columns = {"user_id": users[rows["user"].to_numpy()], "item_id": np.where(item >= 0, items[item], None)}
    rest = rows.drop(columns=["user", "item"]).assign(**{name: _times(rows[name].to_numpy()) for name in times})
    return pd.DataFrame(columns).join(rest.reset_index(drop=True))
