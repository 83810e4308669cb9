"""What the seeded world is made of: its sizes, its rates with the reason for each, its places and its subjects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

DAY_S, WEEK_S = 86_400, 604_800


@dataclass(frozen=True)
class WorldParameters:
    """The sizes and rates of a world. None of them is fitted to anybody's data; each is of a size that was published or is plausible.

    Sizes
    `users`, `items`, `weeks`: enough for a model to learn from in seconds. `start_at`: Monday 2025-02-24 00:00 UTC, so that eight
    weeks hold the clock changes of North America (9 March) and Europe (30 March).

    Users
    `interests`: Dirichlet concentration per topic; 0.15 leaves most people two or three of 16 topics. `visits_per_week` and
    `visit_spread`: median and log-normal sigma; few are very active and most are not, as in any social product. `hour_spread_h`:
    width of a person's habitual hours. `weekend_share`: log-normal sigma of how a person's weekend differs from their week.
    `new_users`: share that joined during the weeks, so that there are users with little history. `without_zone`: share whose zone
    is unknown, as real tables have it.

    Items
    `authors`: share of users who write. `author_spread`: Zipf exponent of how much each writes. `bursts`: stories that set off many
    items at once, `burst_share` of all, within `burst_h` hours. `updates`: share that is a newer version of an earlier item.
    `quality_spread`: standard deviation of an item's own appeal, in log odds.

    Response, in log odds of engaging with an item that is shown
    `base`: where everything is average, about 6 in 100, the order of a click-through rate. `interest_weight`: per factor e of
    interest above the average topic. `author_bonus`: for the authors a user follows. `hour_weight`: per factor e of activity at
    this local hour above the user's average; smaller than interest, for time matters less than content. Age halves the odds each
    half-life of the item.

    Feed and sends
    `shown`: items a visit shows, mostly recent ones (`shown_recency_h`, mean age). `sends_per_week`: of the old policy, which
    picks users, items of the last `send_pool_days` and channels at random between 08:00 and 22:00 local; its propensity is known.
    `email_odds`: log odds of answering an e-mail rather than the inbox, mean over users; `email_spread`: how people differ in it.
    `answer_h`: mean hours until a send is answered. `opt_out`: chance of an unsubscribe after a send that is not answered, of the
    order of the 0.1-0.5 % that mail senders report.

    Settings
    `with_email`, `with_budget`, `with_quiet_hours`, `without_email_consent`: shares of users who have these rows.
    """

    users: int = 2_000
    items: int = 1_500
    weeks: int = 8
    start_at: float = 1_740_355_200.0

    interests: float = 0.15
    visits_per_week: float = 3.5
    visit_spread: float = 0.9
    hour_spread_h: float = 1.5
    weekend_share: float = 0.7
    new_users: float = 0.1
    without_zone: float = 0.05

    authors: float = 0.08
    author_spread: float = 1.1
    bursts: int = 16
    burst_share: float = 0.25
    burst_h: float = 6.0
    updates: float = 0.03
    quality_spread: float = 0.7

    base: float = -2.8
    interest_weight: float = 0.8
    author_bonus: float = 1.2
    hour_weight: float = 0.35

    shown: int = 8
    shown_recency_h: float = 36.0
    sends_per_week: float = 2.0
    send_pool_days: float = 3.0
    email_odds: float = -0.5
    email_spread: float = 0.8
    answer_h: float = 4.0
    opt_out: float = 0.002

    with_email: float = 0.85
    with_budget: float = 0.1
    with_quiet_hours: float = 0.2
    without_email_consent: float = 0.05

    def __post_init__(self) -> None:
        if self.users < 20 or self.items < 20 or self.weeks < 1:
            raise ValueError(f"a world needs 20 users, 20 items and a week at least, not {self.users}, {self.items} and {self.weeks}")

    @property
    def end_at(self) -> float:
        """The moment the world's history ends, seconds."""
        return self.start_at + self.weeks * WEEK_S


@dataclass(frozen=True)
class ResponseParameters:
    """How people answer to being told things over time. What is fitted was fitted to logs of prompts.

    Fatigue
    A person's load is the number of sends of late, each fading with time constant `recovery_days`; it takes `fatigue` off their log odds
    of answering per unit of load. Both fitted: 125 people prompted six times a day for 40 days answered 75.0 % in week 1 and 70-71 % from
    week 4 (Rowland and Wenzel 2020). `tiring`: load of a send that is not answered, where an answered one is 1; assumed, for those people
    were paid for every answer and nobody is paid to read what does not concern them. `fatigue_spread`: log-normal sigma of how people
    differ in it; assumed, so that a tenth of the people tires four times as fast as the median.

    Answers
    `delay_s`, `delay_spread`: median seconds and log-normal sigma of the time until an answer, of 1,393 answered
    prompts (Fried et al. 2021). `taps`: share of answers that come through the notification; the rest join without tapping, which no
    click log shows. Assumed;
    Clubhouse named it as the reason to label by joins, not by taps.

    Opt-out
    `opt_out`: chance to unsubscribe per unanswered send at a load of `opt_out_load`, to which it is proportional, `opt_out_most` at most.
    About 6 irrelevant sends a week make that load and mail senders report 0.1-0.5 % per message, most of them near the lower end.

    Habit
    A person visits at their own rate times a habit between 0 and 1, which gains `habit_gain` of what is missing on an active day and loses
    `habit_loss` of what is there on another; assumed, so that people of median rate keep about half of it and the least active go dormant
    unless something brings them back. `browses`: share of the candidates of a visit that are seen without a notification. `dormant`,
    `heavy`: shares of people who start without a habit, and of those who visit `heavy_factor` times as often: two published shapes of the
    same fact, that a tenth of the people make most of the visits.
    """

    fatigue: float = 0.00568
    recovery_days: float = 9.99
    tiring: float = 8.0
    fatigue_spread: float = 1.1

    delay_s: float = 209.0
    delay_spread: float = 1.94
    taps: float = 0.7

    opt_out: float = 0.0015
    opt_out_load: float = 60.0
    opt_out_most: float = 0.05

    habit_gain: float = 0.1
    habit_loss: float = 0.03
    browses: float = 0.15
    dormant: float = 0.2
    heavy: float = 0.1
    heavy_factor: float = 4.0


@dataclass(frozen=True)
class CrowdParameters:
    """How people come to join what they may have been told of, where nothing bounds what is sent. Each number with its source.

    Volume
    `per_day`: notifications on offer to the median person and day; social apps send a few of the 56 to 63 a day that phones get (Pielot
    et al. 2014 and 2018). `following`: elasticity of that in a person's visits; assumed, for who comes most follows most: Clubhouse told
    that notifications of everybody followed were an annoyance to the most engaged. `most_per_day`: of anybody. `again`: chance that
    another notification of the same room follows; assumed, for Clubhouse told of a room when it was opened and again of each speaker.

    Attention
    A notification is looked at by `attention` of the people (median), log odds spread by `attention_spread`; a person joins if they look
    and want to. 20 to 50 % are ignored (Pradhan et al. 2017). The spread was fitted to how 125 people differ in answering prompts
    (Rowland and Wenzel 2020; mean 1.06 of log odds there, for pay).

    Coming by oneself
    `browses`: share of what is on that a visit shows, told of or not; assumed, for the hallway showed the rooms that notifications tell of.
    `rooms_a_visit`: most that a visit has time for; people spent more than an hour a day there (Davison 2021), some two long talks.
    A join within the day counts for every notification of its room, tapped or not, as Clubhouse counted.

    Leaving
    `asked_for`: sends a day at which ResponseParameters.opt_out was reported. What wears people out is more than what they are used to, so
    the chance per send falls with one's own usual number: what people share is a rate per week, not per message; assumed.
    """

    per_day: float = 5.0
    following: float = 0.33
    most_per_day: float = 30.0
    again: float = 0.3

    attention: float = 0.5
    attention_spread: float = 0.76

    browses: float = 0.5
    rooms_a_visit: int = 2

    asked_for: float = 6 / 7


class Transport(NamedTuple):
    """What a channel does to a message: the share it loses, and the log-normal median (seconds) and sigma of its delay."""

    lost: float
    delay_s: float
    delay_spread: float


TRANSPORTS = {"in_app": Transport(0.0, 1.0, 0.5), "push": Transport(0.08, 3.0, 1.5), "email": Transport(0.03, 20.0, 1.2)}
"""An inbox loses nothing. Push services drop what reaches devices that are off or uninstalled, mail filters what they think is spam; of
the order that senders publish, not measured here."""


class Place(NamedTuple):
    """A time zone and its share of the users."""

    zone: str
    share: float


PLACES = (
    Place("America/New_York", 0.18),
    Place("America/Los_Angeles", 0.12),
    Place("America/Sao_Paulo", 0.10),
    Place("Europe/London", 0.12),
    Place("Europe/Berlin", 0.14),
    Place("Africa/Lagos", 0.06),
    Place("Asia/Kolkata", 0.12),
    Place("Asia/Kathmandu", 0.02),
    Place("Asia/Tokyo", 0.08),
    Place("Australia/Sydney", 0.05),
    Place("Pacific/Auckland", 0.01),
)


class Habit(NamedTuple):
    """A kind of day: the local hours around which a person is active on working days, and its share of the users."""

    hours: tuple[float, ...]
    share: float


HABITS = (
    Habit((7.5, 18.0), 0.30),
    Habit((12.5, 20.5), 0.25),
    Habit((10.0, 15.0), 0.20),
    Habit((22.5, 0.5), 0.15),
    Habit((5.5, 13.0), 0.10),
)
"""Commuters, lunch and evening, office hours, night owls, early shifts."""


class ItemKind(NamedTuple):
    """A kind of item: its share, its half-life, and whether it is over after twice that time."""

    name: str
    share: float
    half_life_h: float
    expires: bool


KINDS = (ItemKind("live", 0.2, 3.0, True), ItemKind("news", 0.4, 18.0, False), ItemKind("article", 0.4, 72.0, False))

TOPICS: dict[str, tuple[str, ...]] = {
    "astronomy": ("the Perseids", "a first telescope", "the rings of Saturn", "dark skies near town", "the next lunar eclipse"),
    "baking": ("sourdough starters", "rye bread", "croissants at home", "flour prices", "the village oven"),
    "birds": ("the spring migration", "nest boxes", "swifts over the city", "the harbour gulls", "bird song by ear"),
    "chess": ("the Sicilian defence", "rook endgames", "the club championship", "blitz in the park", "computer analysis"),
    "cycling": ("gravel routes", "hill climbs", "the new bike lane", "winter tyres", "the Sunday ride"),
    "film": ("the documentary festival", "silent comedies", "the restored cinema", "short films", "subtitles"),
    "football": ("the cup final", "the youth academy", "the transfer window", "the derby", "women's league fixtures"),
    "gardening": ("tomato seedlings", "compost", "late frost", "the community plot", "pruning roses"),
    "history": ("the canal museum", "wartime letters", "the old town wall", "a Roman road", "oral history"),
    "jazz": ("the quartet's new record", "piano trios", "the jam session", "bebop phrasing", "the river festival"),
    "local_politics": ("the council vote", "the school budget", "night buses", "the market square", "the planning hearing"),
    "photography": ("street portraits", "film cameras", "long exposures", "the photo walk", "printing at home"),
    "programming": ("type checkers", "a faster parser", "code review", "the spring release", "property-based tests"),
    "running": ("the half marathon", "trail shoes", "interval training", "the park loop", "running in the heat"),
    "travel": ("night trains", "the coast path", "mountain huts", "off-season islands", "packing light"),
    "woodworking": ("hand planes", "dovetail joints", "a workbench", "reclaimed oak", "sharpening"),
}

TITLES: dict[str, tuple[str, ...]] = {
    "live": ("Live now: {subject}", "Talking about {subject}, join in", "Open room: questions on {subject}"),
    "news": ("What changed for {subject} this week", "News about {subject}", "{subject}: three things to know today"),
    "article": ("A beginner's guide to {subject}", "What I learned about {subject}", "In praise of {subject}"),
}
TEXTS = (
    "We take a closer look at {subject} and at what it means for everyone interested in {topic}.",
    "After a long season, {subject} is the talk of the {topic} group again; here is what we know so far.",
    "Three members explain how they came to {subject}, what went wrong, and what they would do differently.",
    "A short note on {subject}, with pictures, sources and a few tips for people new to {topic}.",
    "Bring your questions about {subject}: the people who know most about {topic} around here will answer them.",
)
