"""What decides how a history becomes scores of the hours of the week."""

from __future__ import annotations

from dataclasses import dataclass

from lake.kinds import REPORTED


@dataclass(frozen=True)
class SendTimeParams:
    """How history becomes scores. The defaults were chosen on earlier parts of two real histories (commits and article reading).

    `half_lives_days`: how fast each own-history expert forgets, counted back from the user's latest event. `session_hours`: the
    same for the session expert, which speaks only for users seen within that time; it spreads events by `session_bandwidth_hours`
    over the same day and is shrunk by `session_shrinkage` events. Without it the others would learn that people come back at the
    hour they were last seen, because a session goes on. The expert of exact hours forgets at the middle speed, does not spread events over
    the hours beside them, and shares all of them among days of a kind: it counts where people keep to the hour.
    `repeat_power`: n events in one hour of one date count n ** repeat_power, for a burst is little more evidence than one.
    `bandwidth_hours`: spread of an event over the hours beside it. `same_day`: share of an event that stays with its day of
    the week; the rest goes to its kind of day, Monday to Friday or the weekend. `shrinkage`: evidence, in events, at which a
    user's own history counts as much as the population. `channel_shrinkage`: the same for one channel against all of them.
    `groups`: kinds of users looked for, by expectation maximisation over `sample` users in `group_rounds` rounds, whose
    likelihoods are raised to `group_temper`, for hours come in runs and are less evidence than independent draws.
    `group_evidence`: events' worth of population in each group's profile. `held_out`: share of a user's latest hours the
    weights are learned on, of users with at least `learn_from` hours; a user counts at most `most_per_user` hours there.
    `weights`: of each expert before anything is learned, `weight_evidence`: how many held
    out hours they are worth. `curve_at`: shares of what is promised, lowest first, at which a curve may bend what the experts come to.
    `ignored_kinds`: events that do not show that the user wanted to hear something, or was there at all.
    """

    half_lives_days: tuple[float, ...] = (4.0, 20.0, 100.0, 500.0)
    session_hours: float = 6.0
    session_bandwidth_hours: float = 1.0
    session_shrinkage: float = 1.0
    repeat_power: float = 0.3
    bandwidth_hours: float = 0.6
    same_day: float = 0.4
    shrinkage: float = 5.0
    channel_shrinkage: float = 20.0
    groups: int = 8
    group_rounds: int = 30
    group_temper: float = 0.7
    group_evidence: float = 50.0
    sample: int = 20_000
    held_out: float = 0.25
    learn_from: int = 8
    most_per_user: float = 30.0
    weights: tuple[float, ...] = (0.1, 0.4, 0.1, 0.1, 0.1, 0.3, 0.0, 0.2)
    weight_evidence: float = 10.0
    curve_at: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)
    ignored_kinds: tuple[str, ...] = (*sorted(REPORTED), "unsubscribe", "mute", "dismiss", "sent")
    chunk: int = 4_096
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.experts):
            raise ValueError(f"weights must be {len(self.experts)} numbers, one per expert ({', '.join(self.experts)})")

    @property
    def experts(self) -> tuple[str, ...]:
        """The names of the experts, in the order of their weights."""
        return ("population", "similar_users", *(f"own_{days:g}_days" for days in self.half_lives_days), "own_exact_hours", "session")

    @property
    def middle_half_life_days(self) -> float:
        """The half-life whose counts tell users' groups and their evidence."""
        return sorted(self.half_lives_days)[len(self.half_lives_days) // 2]
