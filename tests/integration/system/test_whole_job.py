"""The whole job on real histories, as a person does it: import, train, score, replay, start the system, tell people at once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import orjson
import pandas as pd
import pytest

from lake.decisions import DISPOSITIONS
from ranking import bundle as bundles
from ranking.value import value_of
from tests.integration.systems import Running, answer_of, system
from tests.integration.waiting import until

pytestmark = pytest.mark.timeout(900)

CANDIDATES = 500
URGENT_USERS = 55
DAY = pd.Timedelta(days=1)


@dataclass(frozen=True)
class RealHistory:
    """A history and the days of it to replay, which the model has not seen."""

    name: str
    since: pd.Timestamp
    until: pd.Timestamp


HISTORIES = (
    RealHistory("deskdrop", pd.Timestamp("2016-05-02T00:00:00Z"), pd.Timestamp("2016-05-04T00:00:00Z")),
    RealHistory("patch_reviews", pd.Timestamp("2016-10-03T00:00:00Z"), pd.Timestamp("2016-10-05T00:00:00Z")),
)


@dataclass(frozen=True)
class Job:
    """A history that has been imported and learned from, in `folder`."""

    history: RealHistory
    folder: Path

    @property
    def data(self) -> Path:
        """The imported tables."""
        return self.folder / "data"

    @property
    def model(self) -> Path:
        """The model, trained on what came before the days to replay."""
        return self.folder / "model"

    def table(self, name: str) -> pd.DataFrame:
        """Return an imported table."""
        return pd.read_parquet(self.data / f"{name}.parquet")


@pytest.fixture(scope="module", params=HISTORIES, ids=lambda history: history.name)
def job(request: pytest.FixtureRequest, tidings_data: Path) -> Iterator[Job]:
    """Each history imported, and a model trained until the days to replay."""
    folder = Path(tempfile.mkdtemp(prefix="tidings-"))
    made = Job(request.param, folder)
    imported = answer_of("import", str(tidings_data / made.history.name), "--into", str(made.data))
    events = len(pd.read_parquet(tidings_data / made.history.name / "events.parquet"))
    assert imported["rows"]["events"] == events
    trained = answer_of("train", "--data", str(made.data), "--until", made.history.since.isoformat(), "--model", str(made.model))
    assert trained["model_id"]
    yield made
    shutil.rmtree(folder, ignore_errors=True)


def test_candidates_get_probabilities_that_tell_what_came_true_from_what_did_not(job: Job) -> None:
    """Events of the days to come, each beside its user with another item that was there, are scored as of their time."""
    events = job.table("events")
    events = events[(events["at"] >= job.history.since) & (events["at"] < job.history.since + 14 * DAY) & events["item_id"].notna()]
    items = job.table("items").sort_values("created_at")
    events = events[events["at"] > events["item_id"].map(items.set_index("item_id")["created_at"])].head(CANDIDATES)
    there = items["created_at"].searchsorted(events["at"])
    drawn = np.random.default_rng(0).integers(0, there)
    others = events.assign(item_id=items["item_id"].to_numpy(object)[drawn])
    asked = pd.concat([events.assign(came_true=1), others.assign(came_true=0)])[["user_id", "item_id", "at", "came_true"]]
    asked.assign(channel="in_app").to_parquet(job.folder / "candidates.parquet", index=False)
    files = ["--candidates", str(job.folder / "candidates.parquet"), "--out", str(job.folder / "scores.parquet")]
    answer_of("score", "--data", str(job.data), "--model", str(job.model), *files)
    scored = pd.read_parquet(job.folder / "scores.parquet")
    assert len(scored) == len(asked) > 100
    assert scored["probability"].between(0, 1).all()
    opt_out = bundles.load(job.model, verified=True).opt_out
    assert opt_out.booster is None  # nobody opts out in this history
    assert scored["score"].to_numpy() == pytest.approx(value_of(scored["probability"].to_numpy(), opt_out.rate), abs=1e-6)
    ranks = scored["probability"].rank()
    true = scored["came_true"] == 1
    above_chance = (ranks[true].sum() - true.sum() * (true.sum() + 1) / 2) / (true.sum() * (~true).sum())
    assert above_chance > 0.6, f"what came true outranks what did not {above_chance:.0%} of the time"


def test_replaying_two_days_spends_no_more_than_the_budgets_at_equal_volume(job: Job) -> None:
    out = job.folder / "replay"
    days = ["--from", job.history.since.isoformat(), "--to", job.history.until.isoformat()]
    policies = ["--policy", "ranked", "--policy", "random"]
    report = answer_of("replay", "--data", str(job.data), *days, *policies, "--budget", "2", "--model", str(job.model), "--out", str(out))
    assert orjson.loads((out / "report.json").read_bytes())["policies"] == report["policies"]
    ranked, random = report["policies"]["ranked"], report["policies"]["random"]
    for worth in (ranked, random):
        assert worth["overspent"] == 0
        assert worth["sends"] > 0
        assert worth["engaged_48h"] <= worth["engaged_7d"] <= worth["engaged_in_horizon"] <= worth["sends"]
        assert worth["by_lane"] == {"scheduled": worth["sends"]}
        assert worth["by_channel"] == {"in_app": worth["sends"]}
    assert ranked["sends"] == random["sends"]
    assert ranked["engaged_in_horizon"] >= random["engaged_in_horizon"]
    rows = pd.read_parquet(out / "decisions.parquet")
    sends = rows[(rows["policy"] == "ranked") & (rows["disposition"] == "send")]
    assert len(sends) == ranked["sends"]
    assert sends.groupby("user_id").size().max() <= 2
    assert not sends.duplicated(["user_id", "item_id"]).any()
    assert sends["at"].between(job.history.since, job.history.until).all()


@pytest.fixture
def running(job: Job) -> Iterator[Running]:
    home = job.folder / "home"
    home.mkdir()
    with system(home, "--data", str(job.data), "--model", str(job.model)) as started:
        yield started


def test_an_urgent_item_is_decided_for_real_people_in_one_request(job: Job, running: Running) -> None:
    people = job.table("events")["user_id"].value_counts().head(URGENT_USERS).index.tolist()
    items = job.table("items")
    topics = [topic for row in items["topics"].dropna().tail(1) for topic in row] if "topics" in items else []
    item = {"item_id": "live-now", "title": "Live now", "topics": topics[:3], "half_life_s": 600}
    with running.client() as api:
        answer = api.post("/v1/urgent", json={"item": item, "users": people, "channels": ["in_app"]})
        assert answer.status_code == 202, answer.text
        rows = answer.json()["results"]
        assert [row["user_id"] for row in rows] == people
        assert {row["disposition"] for row in rows} <= set(DISPOSITIONS)
        assert len({row["score"] for row in rows}) > 5
        told = [row["user_id"] for row in rows if row["disposition"] == "send"]
        assert told
        logged = api.get("/v1/decisions", params={"decision_id": answer.json()["decision_id"]}).json()["decisions"]
        assert {row["user_id"] for row in logged} == set(people)
        for user in told[:5]:
            assert until(partial(entries, api, user), 120)[0]["title"] == "Live now"


def entries(api: httpx.Client, user: str) -> list[dict[str, object]]:
    """Return a user's inbox."""
    found: list[dict[str, object]] = api.get(f"/v1/users/{user}/inbox").json()["entries"]
    return found
