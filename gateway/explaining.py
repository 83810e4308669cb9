"""Decisions explained: what made the score, what was decided on it, and what would have changed it, in numbers and in plain words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lake.errors import InputError
from ranking.explain import MOST_ROWS, Explained
from ranking.past import seconds
from ranking.popularity import MODEL_ID as POPULARITY
from ranking.relief import model_of
from ranking.scorer import ScoreRequest

Ask = Callable[[ScoreRequest, str], Explained]
"""Asks a ranker what made the scores of rows by a model, by id; blocks, and raises InputError where that model is gone."""

SAME = 1e-5
"""Probabilities this much apart, relatively, are the same."""

SAID: dict[str, tuple[str, str]] = {
    "above_threshold": (
        "Sent: its value of {value} is not below the threshold of {threshold}.",
        "a threshold above {value}, or no budget left",
    ),
    "explored": ("Sent to find out what it is worth, in the place of a better one.", "another draw: its chance was {propensity}"),
    "critical": ("Sent because it is critical: neither its value nor the budget counted.", "only an unsubscribe"),
    "critical_quota": ("Not sent: the critical quota of the key is spent.", "a larger quota"),
    "below_threshold": (
        "Not sent: its value of {value} is {lack} below the threshold of {threshold}.",
        "{lack} more value, or a lower threshold",
    ),
    "budget_spent": ("Not sent: the week's budget of {channel} is spent.", "a larger budget of {channel}, or a send less this week"),
    "window_full": ("Not sent: better ones filled this window.", "more sends per window, or a value above theirs"),
    "window_late": ("Not sent: the window was decided late, and others were worth more.", "a decision on time, or a higher value"),
    "other_channel_better": ("Not sent on {channel}: another channel suits it better.", "a higher value on {channel}"),
    "same_entity_better": ("Not sent: another post about the same thing is worth more.", "a value above the other one's"),
    "better_next_window": ("Held: the reader's next window suits it better.", "a value that fades sooner"),
    "quiet_hours": ("Not now: these are the reader's quiet hours.", "other quiet hours"),
    "held_evicted": ("Dropped: too many are held for this reader already.", "a higher value than the ones that are held"),
    "in_digest": ("Told together with others of its kind, in one notification that cost one unit.", "no digest for what it is about"),
    "digest_full": ("Not sent: the notification that tells of such items together is full.", "a larger digest, or a value above theirs"),
    "awaits_digest": ("Held: it is told together with others in the reader's next window.", "a digest that does not wait so long"),
    "newer_version": ("It replaces one that was unopened, and costs nothing.", "had the reader opened that one before"),
    "preference": ("Not sent: the reader does not want this kind on {channel}.", "other preferences"),
    "unsubscribed": ("Not sent: the reader has unsubscribed from {channel}.", "only the reader"),
    "no_address": ("Not sent: there is no address of the reader on {channel}.", "an address"),
    "already_sent": ("Not sent: the reader was sent it before.", "a newer version of it"),
    "already_engaged": ("Not sent: the reader has engaged with it already.", "nothing"),
    "author_is_recipient": ("Not sent: the reader made it.", "nothing"),
    "item_expired": ("Not sent: it had expired.", "a later expiry, or an earlier window"),
    "too_old": ("Not sent: it is too old.", "an earlier window"),
    "in_future": ("Not sent: it is not there yet.", "a later window"),
    "switched_off": ("Not sent: it is switched off for now.", "switching it on again"),
    "holdout": ("Not sent: the reader is one of those who get nothing scheduled, by which its worth is measured.", "a smaller holdout"),
    "unknown_user": ("Not sent: nobody of this name is known.", "a user of this name"),
    "unknown_item": ("Not sent: nothing of this name is known.", "an item of this name"),
    "over_candidate_limit": ("Not sent: it was cut before it was ranked, since others looked better.", "fewer or weaker others"),
    "stale_fence": ("Not decided here: another scheduler has the shard.", "nothing"),
    "window_claimed": ("Not decided here: this window was decided already.", "nothing"),
}
"""By reason: what happened, and what would have changed it."""


def explained(rows: pd.DataFrame, ask: Ask) -> list[dict[str, Any]]:
    """Return an explanation of each row of the decision log, at most MOST_ROWS of them.

    Scores are explained from what is known now: `as_decided` says whether the model gives the probability that was decided on.
    """
    scores: list[dict[str, Any]] = [{} for _ in range(len(rows))]
    for places, model_id, request in _requests(rows.head(MOST_ROWS)):
        try:
            answer = ask(request, model_of(model_id))
        except InputError as error:
            answers = [{"problem": str(error)}] * len(places)
        else:
            answers = [answer.row(place) for place in range(len(places))]
        for place, found in zip(places.tolist(), answers, strict=True):
            scores[place] = found
    return [_told(row, score) for row, score in zip(_records(rows), scores, strict=True)]


def _requests(rows: pd.DataFrame) -> Iterator[tuple[npt.NDArray[np.intp], str, ScoreRequest]]:
    """Yield the places of the rows that were scored by one model at one moment, the model, and what to ask of it."""
    by_a_model = ~rows["model_id"].isin(["", POPULARITY]).to_numpy()
    was_scored = rows["probability"].notna().to_numpy() & by_a_model & rows["user_id"].notna().to_numpy()
    places = np.flatnonzero(was_scored)
    some = rows.iloc[places]
    together, _ = pd.factorize(some["model_id"] + " " + some["at"].astype(str))
    for group in range(together.max(initial=-1) + 1):
        own = np.flatnonzero(together == group)
        part = some.iloc[own]
        (user, users), (item, items), (channel, channels) = (
            pd.factorize(part[name].to_numpy(object)) for name in ("user_id", "item_id", "channel")
        )
        request = ScoreRequest(
            users=list(users),
            items=list(items),
            user=user.astype(np.int32),
            item=item.astype(np.int32),
            channel=channel.astype(np.uint8),
            channels=tuple(channels),
            at=float(seconds(part["at"])[0]),
        )
        yield places[own], str(part["model_id"].iloc[0]), request


def _records(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    names = [str(name) for name in rows.columns]
    return (dict(zip(names, row, strict=True)) for row in rows.itertuples(index=False, name=None))


def _told(row: dict[str, Any], score: dict[str, Any]) -> dict[str, Any]:
    """Return the explanation of one row, in numbers where there are any and in words."""
    said, change = SAID.get(row["reason"], (f"{row['disposition']}: {str(row['reason']).replace('_', ' ')}.", "unknown"))
    numbers = {name: _short(row[name]) for name in ("value", "threshold", "propensity", "probability")}
    numbers |= {"channel": str(row["channel"]), "lack": _short(row["threshold"] - row["value"])}
    words = [said.format(**numbers)]
    if row["model_id"] == POPULARITY and not np.isnan(row["probability"]):
        words.append("No model served at the time: its value is how often the reader answers, times how much the item draws beside others.")
    if "problem" in score:
        words.append(f"Its score cannot be explained: {score['problem']}.")
    elif score:
        words.append(f"How likely the reader is to engage ({numbers['probability']}) was {score['words']}.")
        score = score | _since(row, score)
        words += score.pop("notes")
    return {**score, "would_change": change.format(**numbers), "allowance_left": int(row["allowance"]), "words": " ".join(words)}


def _since(row: dict[str, Any], score: dict[str, Any]) -> dict[str, Any]:
    """Return whether the score is the one that was decided on, what was taken off the value, and notes on both."""
    as_decided = bool(np.isclose(score["probability"], row["probability"], rtol=SAME, atol=1e-7))
    taken_off = float(score["value"] - row["value"]) if as_decided else None
    notes = []
    if not as_decided and row["model_id"] != model_of(row["model_id"]):
        notes.append(
            f"Features or scores were wrong at the time, and the guard's stand-in ranked: the model says {_short(score['probability'])}."
        )
    elif not as_decided:
        notes.append(f"More is known since: today it would be {_short(score['probability'])}.")
    if score["risk"] > 0:
        cost = score["probability"] - score["value"]
        notes.append(f"The risk that the send makes the reader opt out ({_short(score['risk'])}) took {_short(cost)} off its value.")
    if taken_off is not None and taken_off > SAME:
        notes.append(f"Likeness to what the reader was sent lately took {_short(taken_off)} off its value.")
    return {"as_decided": as_decided, "taken_off": taken_off, "notes": notes}


def _short(number: float) -> str:
    return "unknown" if np.isnan(number) else f"{number:.3g}"
