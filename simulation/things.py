"""What is made in a made-up world: items, their bursts, their updates and their words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulation.people import F32, Floats, Ints, People, Texts, numbered, share_of_each
from simulation.world_parameters import DAY_S, KINDS, TEXTS, TITLES, TOPICS, WorldParameters


@dataclass(frozen=True)
class Things:
    """Items in the order of time: `topic`, `kind`, `author` codes; `created_at`, `half_life_s`, `expires_at` (inf: never) seconds.

    `quality`: log odds. `entity`: the item of which this is a version, itself for most; `version`: 1, or 2 of an update.
    """

    ids: Texts
    topic: Ints
    kind: Ints
    author: Ints
    created_at: Floats
    half_life_s: Floats
    expires_at: Floats
    quality: Floats
    entity: Ints
    version: Ints


def things_of(params: WorldParameters, people: People, writers: Ints, rng: np.random.Generator) -> Things:
    """Draw the items of a world, in the order of time."""
    n = params.items
    author = rng.choice(writers, n, p=share_of_each(len(writers), params))
    topic = _each_from(people.interest[author], rng)
    created_at = rng.uniform(params.start_at - 3 * DAY_S, params.end_at, n)
    quality = rng.normal(0, params.quality_spread, n)
    in_burst = rng.random(n) < params.burst_share
    story = rng.integers(0, max(params.bursts, 1), n)
    story_at = rng.uniform(params.start_at, params.end_at - DAY_S, max(params.bursts, 1))
    story_topic = rng.integers(0, len(TOPICS), max(params.bursts, 1))
    created_at = np.where(in_burst, story_at[story] + rng.exponential(params.burst_h * 3600, n), created_at)
    topic = np.where(in_burst, story_topic[story], topic)
    order = np.argsort(np.minimum(created_at, params.end_at - 60), kind="stable")
    shares = np.array([kind.share for kind in KINDS])
    kind = rng.choice(len(KINDS), n, p=shares / shares.sum())
    half_life_s = np.array([kind.half_life_h * 3600 for kind in KINDS])[kind] * rng.lognormal(0, 0.2, n)
    created = np.floor(np.minimum(created_at, params.end_at - 60)[order])
    entity, version = _versions(author[order], params, rng)
    return Things(
        ids=numbered("i", n),
        topic=topic[order][entity],
        kind=kind,
        author=author[order],
        created_at=created,
        half_life_s=np.round(half_life_s),
        expires_at=np.where(np.array([kind.expires for kind in KINDS])[kind], created + 2 * np.round(half_life_s), np.inf),
        quality=(quality + 0.5 * in_burst)[order],
        entity=entity,
        version=version,
    )


def _versions(author: Ints, params: WorldParameters, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Return for each item, in the order of time, the item it is a version of and its number: some are updates of their author's last."""
    n = len(author)
    order = np.argsort(author, kind="stable")
    last = np.full(n, -1)
    same = author[order][1:] == author[order][:-1]
    last[order[1:][same]] = order[:-1][same]
    is_update = (last >= 0) & (rng.random(n) < params.updates)
    is_update &= ~np.where(last >= 0, is_update[last], False)
    return np.where(is_update, last, np.arange(n)), np.where(is_update, 2, 1)


def written(things: Things, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Return a title and a text for each item, by its topic and kind; an update says so."""
    topics, draws = list(TOPICS), rng.integers(0, 60, (3, len(things.ids)))
    titles, texts = [], []
    for item, (entity, version) in enumerate(zip(things.entity.tolist(), things.version.tolist(), strict=True)):
        topic = topics[things.topic[item]]
        subject = TOPICS[topic][draws[0, entity] % len(TOPICS[topic])]
        patterns = TITLES[KINDS[things.kind[item]].name]
        title = patterns[draws[1, item] % len(patterns)].format(subject=subject)
        titles.append(f"Update: {title}" if version > 1 else title[0].upper() + title[1:])
        texts.append(TEXTS[draws[2, item] % len(TEXTS)].format(subject=subject, topic=topic.replace("_", " ")))
    return titles, texts


def _each_from(chance: F32, rng: np.random.Generator) -> Ints:
    """Return one column for each row, by the row's probabilities."""
    cumulative = np.cumsum(chance, axis=1, dtype=np.float64)
    column: Ints = (rng.random((len(chance), 1)) * cumulative[:, -1:] > cumulative).sum(axis=1)
    return column
