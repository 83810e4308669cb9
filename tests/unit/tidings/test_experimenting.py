"""`tidings experiment`: arms written and read back, differences found and not invented, leaks and bad input named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from budgets.experiments import Experiment, Holdout
from lake.dataset import Dataset
from tidings.cli import app

START = pd.Timestamp("2026-01-05T00:00:00Z")
USERS = [f"u{number:05d}" for number in range(6000)]
TREATED = Experiment("dial").assign(USERS) == 1
HELD = Holdout(0.1).holds(USERS)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["experiment", *arguments])


def told(*arguments: str) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def history(lift: float, folder: Path) -> Path:
    """Write three weeks in which everybody who is not held out is sent three items, which treated ones engage with `lift` more often."""
    random, sent = np.random.default_rng(0), np.repeat(np.flatnonzero(~HELD), 3)
    at = START + pd.to_timedelta(random.integers(0, 7 * 86400, len(sent)), unit="s")
    item = np.array([f"i{number % 50}-{place % 3}" for place, number in enumerate(sent.tolist())], object)
    sends = pd.DataFrame({"user_id": np.array(USERS, object)[sent], "item_id": item, "channel": "in_app", "at": at})
    engaged = random.random(len(sent)) < np.where(TREATED[sent], 0.2 + lift, 0.2)
    opened = sends[engaged].assign(kind="open", at=sends["at"][engaged] + pd.Timedelta(hours=3))[["user_id", "item_id", "kind", "at"]]
    visits = pd.DataFrame({"user_id": USERS, "item_id": None, "kind": "visit", "at": START + pd.Timedelta(days=21)})
    Dataset.of({"events": pd.concat([opened, visits], ignore_index=True), "sends": sends}).save(folder)
    log = sends.assign(disposition="send", reason="above_threshold", lane="scheduled", source="new_posts")
    without = pd.DataFrame({"user_id": np.array(USERS, object)[HELD], "item_id": "i0-0", "channel": "in_app", "at": START})
    held = without.assign(disposition="ineligible", reason="holdout", lane="scheduled", source="new_posts")
    pd.concat([log, held], ignore_index=True).to_parquet(folder.parent / "decisions.parquet")
    return folder


@pytest.fixture(scope="module")
def better(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return history(0.03, tmp_path_factory.mktemp("better") / "data")


def of(report: dict[str, Any], metric: str) -> dict[str, Any]:
    return next(row for row in report["comparisons"] if row["metric"] == metric)


def test_arms_are_written_for_every_user_and_those_held_out_are_in_none(better: Path, tmp_path: Path) -> None:
    out = tmp_path / "arms.csv"
    report = told("assign", "--users", str(better), "--name", "dial", "--holdout", "0.1", "--out", str(out))
    rows = pd.read_csv(out).set_index("user_id")["arm"][USERS].to_numpy()
    assert (rows == np.where(HELD, "held_out", np.where(TREATED, "treatment", "control"))).all()
    assert report["arms"] == {"control": int((~TREATED & ~HELD).sum()), "treatment": int((TREATED & ~HELD).sum())}
    assert report["held_out"] == HELD.sum()


def test_a_lift_is_found_where_it_is_and_nowhere_else(better: Path) -> None:
    report = told("report", "--data", str(better), "--name", "dial", "--holdout", "0.1")
    found = of(report, "engaged_per_send")
    assert found["low"] < 0.03 < found["high"]
    assert found["q_value"] < 0.05
    assert of(report, "sends_per_user")["p_value"] is None
    assert report["sample_ratio"]["ok"]
    assert report["in_no_arm"] == HELD.sum()
    assert report["warnings"] == []
    other = told("report", "--data", str(better), "--name", "another", "--holdout", "0.1")
    assert of(other, "engaged_per_send")["q_value"] > 0.05


def test_each_arm_says_what_the_tenths_of_its_users_got_by_what_they_did_before(better: Path, tmp_path: Path) -> None:
    folder, known = tmp_path / "data", Dataset.load(better)
    early = pd.DataFrame({"user_id": USERS, "kind": "visit", "at": START - pd.Timedelta(days=1)})
    early = early.loc[early.index.repeat(np.arange(len(USERS)) * 10 // len(USERS))]
    Dataset.of({"events": pd.concat([known.events, early], ignore_index=True), "sends": known.sends}).save(folder)
    options = ("report", "--data", str(folder), "--name", "dial", "--holdout", "0.1")
    arms = told(*options)["arms"]
    for treated, arm in ((False, "control"), (True, "treatment")):
        tenths, mine = arms[arm]["by_activity_decile"], np.flatnonzero((treated == TREATED) & ~HELD)
        assert sum(part["users"] for part in tenths) == len(mine) == arms[arm]["users"]
        assert [part["active_before"] / part["users"] for part in tenths] == pytest.approx(list(range(10)), abs=0.2)
        assert [part["sends"] for part in tenths] == [3 * part["users"] for part in tenths]
        assert sum(part["share_of_sends"] for part in tenths) == pytest.approx(1)
        rates = [part["engaged_per_send"] for part in tenths]
        assert float(np.mean(rates)) == pytest.approx(arms[arm]["engaged_per_send"], abs=0.01)
    assert "tenth 10, the most active" in run(*options).stdout


def test_a_decision_log_is_compared_as_the_tables_are_and_tells_who_was_held_out(better: Path) -> None:
    options = ("--data", str(better), "--decisions", str(better.parent / "decisions.parquet"), "--holdout", "0.1")
    found = told("report", *options, "--name", "dial")
    assert (
        found["comparisons"]
        == told("report", "--data", str(better), "--name", "dial", "--holdout", "0.1", "--from", found["from"])["comparisons"]
    )
    against = told("report", *options)
    assert list(against["arms"]) == ["held_out", "told"]
    assert against["arms"]["held_out"]["users"] == HELD.sum()
    assert against["scheduled_sends_to_held_out"] == 0
    assert of(against, "engagements_per_user")["low"] > 0.5
    assert of(against, "engaged_per_send")["p_value"] is None


def test_sends_to_those_held_out_are_a_warning(better: Path) -> None:
    decisions = str(better.parent / "decisions.parquet")
    report = told("report", "--data", str(better), "--decisions", decisions, "--holdout", "0.1", "--holdout-salt", "another")
    assert report["scheduled_sends_to_held_out"] > 1000
    assert any("held out" in warning for warning in report["warnings"])


def test_arms_that_lost_users_are_a_warning_before_any_figure(better: Path, tmp_path: Path) -> None:
    arms = pd.DataFrame({"user_id": USERS, "arm": np.where(TREATED, "new", "old")})
    arms[~TREATED | (np.arange(len(USERS)) % 5 > 0)].to_csv(tmp_path / "dial.csv", index=False)
    report = told("report", "--data", str(better), "--assigned", str(tmp_path / "dial.csv"), "--arm", "old", "--arm", "new")
    assert report["experiment"] == "dial"
    assert not report["sample_ratio"]["ok"]
    assert "did not fall to the arms" in report["warnings"][0]
    done = run("report", "--data", str(better), "--assigned", str(tmp_path / "dial.csv"), "--arm", "old", "--arm", "new")
    assert "sample ratio: WRONG" in done.stdout


def test_weights_decide_how_many_fall_to_each_arm_and_a_person_reads_a_table(better: Path) -> None:
    done = run("report", "--data", str(better), "--name", "dial", "--arm", "old=3", "--arm", "new=1")
    assert done.exit_code == 0
    assert "as it should be" in done.stdout
    assert "engaged sends per send" in done.stdout
    report = told("report", "--data", str(better), "--name", "dial", "--arm", "old=3", "--arm", "new=1")
    assert report["arms"]["new"]["share"] == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("report",), "name the experiment with --name"),
        (("report", "--holdout", "0.1", "--arm", "a"), "belong to an experiment"),
        (("report", "--name", "dial", "--arm", "a=x", "--arm", "b"), "no weight"),
        (("report", "--name", "dial", "--arm", "a"), "2 to 255 arms"),
        (("report", "--name", "dial", "--arm", "a=0", "--arm", "b"), "weight above 0"),
        (("report", "--name", "dial", "--from", "2027-01-01T00:00:00Z"), "nothing is left to compare"),
        (("report", "--name", "dial", "--decisions", "nowhere.parquet"), "no such file"),
        (("report", "--name", "dial", "--decisions", "TABLE", "--policy", "ours"), "no policy"),
        (("report", "--name", "dial", "--decisions", "POLICIES"), "name one with --policy"),
        (("report", "--assigned", "ARMS", "--arm", "a", "--arm", "b"), "none of the arms a, b"),
    ],
)
def test_what_cannot_be_compared_says_why(better: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    log = pd.read_parquet(better.parent / "decisions.parquet")
    pd.concat([log.assign(policy="ranked"), log.assign(policy="random")]).to_parquet(tmp_path / "policies.parquet")
    pd.DataFrame({"user_id": USERS[:2], "arm": ["a", "c"]}).to_csv(tmp_path / "arms.csv", index=False)
    places = {"TABLE": better.parent / "decisions.parquet", "POLICIES": tmp_path / "policies.parquet", "ARMS": tmp_path / "arms.csv"}
    done = run(arguments[0], "--data", str(better), *(str(places.get(word, word)) for word in arguments[1:]))
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())


def test_a_table_that_is_none_cannot_be_written(better: Path) -> None:
    done = run("assign", "--users", str(better), "--name", "dial", "--out", "arms.txt")
    assert done.exit_code == 2
    assert "ends in" in done.output
