"""The report is one page that needs nothing else, and shows what is in the metrics."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

import pandas as pd
import pytest

from ranking.examples import ExampleRule
from ranking.report import Scale, page
from ranking.train import train
from tests.unit.ranking.worlds import DAYS, START, world

UNTIL = START + pd.Timedelta(days=DAYS)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    dataset = world(2, users=40, items=200, events=5000)
    trained = train(dataset, UNTIL.timestamp(), trials=3, rule=ExampleRule(rows=3_000))
    return {"model_id": "0123<b>", "until": UNTIL.isoformat()} | trained.metrics


def test_the_page_fetches_nothing(report: dict[str, Any]) -> None:
    text = page(report)
    assert not re.search(r"(src|href)=|@import|url\(|<script", text)
    assert "0123&lt;b&gt;" in text


def test_the_page_names_every_attempt_baseline_and_tenth(report: dict[str, Any]) -> None:
    text = page(report)
    for attempt in report["trials"]:
        assert f">{attempt['name']}<" in text
        assert str(attempt["ndcg_at_5"]) in text
    for name, value in report["validation"]["baselines"].items():
        assert f"{name} {value}" in text
    for part in report["validation"]["deciles"]:
        assert f"<td>{part['positives']}</td>" in text


def test_the_page_shows_the_volume_and_the_engagement_of_each_tenth_of_the_users(report: dict[str, Any]) -> None:
    tenths = report["validation"]["activity_deciles"]
    assert sum(part["share_of_volume"] for part in tenths) == pytest.approx(1, abs=1e-3)
    text = page(report)
    for title, name in (("share of the volume", "share_of_volume"), ("engagements per row kept", "engaged_per_kept")):
        row = re.search(f"<tr><td>{title}</td>(.*)</tr>", text)
        assert row
        cells = re.findall("<td>(.*?)</td>", row.group(1))
        assert cells == [str(part[name] if part[name] is not None else "none") for part in tenths]


def test_every_plot_is_well_formed_and_holds_a_mark_for_each_attempt(report: dict[str, Any]) -> None:
    plots = [ET.fromstring(found) for found in re.findall(r"<svg.*?</svg>", page(report), re.S)]
    assert len(plots) == 4
    assert len(plots[0].findall("rect")) == 3 + 1 + len(report["validation"].keys() & {"default", "refused"})
    assert len(plots[1].findall("circle")) == len(report["trials"])
    for plot in plots:
        width, height = (float(part) for part in plot.attrib["viewBox"].split()[2:])
        for mark in plot.iter("circle"):
            assert 0 <= float(mark.attrib["cx"]) <= width
            assert 0 <= float(mark.attrib["cy"]) <= height


def test_the_page_is_whole_also_where_nothing_could_be_measured(report: dict[str, Any]) -> None:
    nothing: dict[str, Any] = {"ndcg_at_5": None, "interval_95": [None, None], "baselines": dict.fromkeys(("random", "popular", "newest"))}
    nothing["baselines_interval_95"] = {name: [None, None] for name in nothing["baselines"]}
    trials = [attempt | {"ndcg_at_5": None} for attempt in report["trials"]]
    text = page(report | {"validation": report["validation"] | nothing, "trials": trials})
    parser = HTMLParser()
    parser.feed(text)
    assert text.rstrip().endswith("</html>")


def test_a_scale_maps_its_ends_to_its_pixels_and_keeps_what_lies_beyond_inside() -> None:
    scale = Scale(0.25, 4.0, 200, 0, log=True)
    assert [scale(value) for value in (0.25, 1.0, 4.0, 100.0)] == [200, 100, 0, 0]
    assert Scale(3, 3, 0, 10)(3) == 0
