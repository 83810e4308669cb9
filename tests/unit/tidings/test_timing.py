"""The picture of a user's week."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lake.errors import InputError
from scheduler.activity import WEEK_HOURS
from scheduler.send_time import SendTimes
from tidings.cli import app
from tidings.timing import ANYONE, draw, week_of


def known() -> SendTimes:
    """One user who looks on Wednesdays at 20h mostly, in a population that does so at 9h on Mondays."""
    scores, population = (np.full(WEEK_HOURS, 0.5 / (WEEK_HOURS - 1), np.float32) for _ in range(2))
    scores[2 * 24 + 20], population[9] = 0.5, 0.5
    return SendTimes(np.array(["ann"], object), scores[None], population, np.array([12.5], np.float32), np.array([2], np.uint8), {})


def test_a_picture_is_darkest_at_the_likeliest_hour_and_says_what_it_rests_on() -> None:
    report, picture = week_of(known(), "ann")
    assert report["rests_on"] == "own_history"
    assert report["evidence_hours"] == 12.5
    assert np.asarray(report["best_hours_of_week"])[0] == 68
    assert [list(column.cells)[2] for column in picture.columns].index("\u2588\u2588") == 21
    assert picture.row_count == 7


def test_everybody_has_a_picture_too_and_a_stranger_is_refused() -> None:
    report, _ = week_of(known(), ANYONE)
    assert report["rests_on"] == "population"
    with pytest.raises(InputError, match="no user 'bob'"):
        week_of(known(), "bob")


def test_a_week_is_drawn_with_the_windows_that_follow_and_everybodys_without(tmp_path: Path) -> None:
    mine, all_of_them = tmp_path / "new" / "ann.svg", tmp_path / "all.svg"
    draw(known(), "ann", mine)
    draw(known(), ANYONE, all_of_them)
    drawn = [[element.get("class") for element in ET.fromstring(path.read_text()).iter()] for path in (mine, all_of_them)]
    assert [(classes.count("hour"), classes.count("window")) for classes in drawn] == [(168, 7), (168, 0)]
    with pytest.raises(InputError, match="cannot be written"):
        draw(known(), "ann", tmp_path)


def test_the_command_draws_the_week_of_a_user_or_of_everybody(tmp_path: Path) -> None:
    events = "user_id,item_id,kind,at\n" + "".join(f"ann,i{n},open,2026-01-{n:02}T09:30:00Z\n" for n in range(5, 25))
    (tmp_path / "events.csv").write_text(events)
    arguments = ["send-times", "--data", str(tmp_path), "--out", str(tmp_path / "times.csv"), "--plot"]
    for more, title in (([], "everybody"), (["--user", "ann"], "ann: rests on")):
        done = CliRunner().invoke(app, [*arguments, str(tmp_path / "week.svg"), *more])
        assert done.exit_code == 0, done.output
        assert title in (tmp_path / "week.svg").read_text()
    refused = CliRunner().invoke(app, [*arguments, "week.gif"])
    assert refused.exit_code == 2
    assert ".svg" in refused.output
