"""The Deskdrop files as they were published become users, items and events."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest

from lake.errors import TableError
from lake.importers import detect
from lake.importers.base import Context, Imported
from lake.importers.deskdrop import DeskdropImporter
from lake.importers.zones import zone_of
from lake.table_columns import is_time_zone

INTERACTIONS = """timestamp,eventType,contentId,personId,sessionId,userAgent,userRegion,userCountry
1465413032,VIEW,-3499919498720038879,-8845298781299428018,1264196770339959068,,,
1465412560,VIEW,8890720798209849691,-1032019229384696495,3621737643587579081,"Mozilla/5.0 (Macintosh, Intel)",NY,US
1465416190,LIKE,310515487419366995,-1130272294246983140,2631864456530402479,,,
1465413895,FOLLOW,310515487419366995,344280948527967603,-3167637573980064150,,AM,BR
1465413896,COMMENT CREATED,310515487419366995,344280948527967603,-3167637573980064150,,SP,BR
1465413897,BOOKMARK,310515487419366995,344280948527967603,-3167637573980064150,,SP,BR
"""
ARTICLES = """timestamp,eventType,contentId,authorPersonId,authorSessionId,authorUserAgent,authorRegion,authorCountry,\
contentType,url,title,text,lang
1459192779,CONTENT REMOVED,-6451309518266745024,4340306774493623681,8940341205206233829,,,,HTML,http://a.example/1,Ethereum,"All of this.

And more.",en
1459193988,CONTENT SHARED,-4110354420726924665,4340306774493623681,8940341205206233829,,,,HTML,http://a.example/2,"Ethereum,  a
currency",All,en
1459194146,CONTENT SHARED,310515487419366995,-1130272294246983140,8940341205206233829,,,,VIDEO,http://a.example/3,Video,Nothing,pt
1459194147,CONTENT REMOVED,310515487419366995,-1130272294246983140,8940341205206233829,,,,VIDEO,http://a.example/3,Video,Nothing,pt
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The two files, small."""
    (tmp_path / "users_interactions.csv").write_text(INTERACTIONS)
    (tmp_path / "shared_articles.csv").write_text(ARTICLES)
    return tmp_path


def read(source: Path) -> Imported:
    return DeskdropImporter().read(str(source), Context(2e9, b"key"))


def test_kinds_and_ids_are_ours(folder: Path) -> None:
    events = read(folder).tables["events"]
    assert events["kind"].tolist() == ["view", "view", "like", "follow", "comment", "bookmark"]
    assert events["user_id"].iloc[0] == "-8845298781299428018"
    assert events["at"].iloc[0] == pd.Timestamp("2016-06-08T19:10:32Z")
    assert events["session_id"].iloc[0] == "1264196770339959068"


def test_time_zones_are_those_of_where_a_user_was_most_often_seen(folder: Path) -> None:
    zones = read(folder).tables["users"].set_index("user_id")["timezone"]
    assert zones["344280948527967603"] == "America/Sao_Paulo"
    assert zones["-1032019229384696495"] == "America/New_York"
    assert zones[["-8845298781299428018", "-1130272294246983140"]].isna().all()


def test_items_are_articles_that_were_shared_until_they_were_removed(folder: Path) -> None:
    items = read(folder).tables["items"].set_index("item_id")
    assert set(items.index) == {"-4110354420726924665", "310515487419366995"}
    kept, removed = items.loc["-4110354420726924665"], items.loc["310515487419366995"]
    assert kept["title"] == "Ethereum, a currency"
    assert kept["author_id"] == "4340306774493623681"
    assert (kept["kind"], kept["language"]) == ("html", "en")
    assert pd.isna(kept["expires_at"])
    assert removed["expires_at"] - removed["created_at"] == pd.Timedelta(seconds=1)


@pytest.mark.parametrize("name", ["users_interactions.csv", "shared_articles.csv"])
def test_either_file_may_come_alone(folder: Path, name: str) -> None:
    assert detect(str(folder / name)) == "deskdrop"
    assert len(read(folder / name).tables) in (1, 2)


def test_files_may_be_gzipped(folder: Path) -> None:
    plain = folder / "users_interactions.csv"
    (folder / "users_interactions.csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    assert detect(str(folder)) == "deskdrop"
    assert len(read(folder).tables["events"]) == 6


@pytest.mark.parametrize(
    ("wrong", "right", "problem"),
    [
        ("yesterday", "1465413896", "table users_interactions, column timestamp, row 5: 'yesterday' is not a whole number"),
        ("when", "timestamp", "column timestamp: is missing; the columns found are when, eventType"),
        ("-8845298\x00781299428018", "-8845298781299428018", "table users_interactions, column personId, row 1"),
        ("", "-1032019229384696495", "column user_id, row 2: is missing or empty"),
    ],
)
def test_wrong_files_are_named(folder: Path, wrong: str, right: str, problem: str) -> None:
    (folder / "users_interactions.csv").write_text(INTERACTIONS.replace(right, wrong))
    with pytest.raises(TableError) as caught:
        read(folder)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("country", "region", "zone"),
    [
        ("BR", "SP", "America/Sao_Paulo"),
        ("BR", "AC", "America/Rio_Branco"),
        ("us", "tx", "America/Chicago"),
        ("US", "?", "America/New_York"),
        ("JP", None, "Asia/Tokyo"),
        ("RU", "66", "Europe/Moscow"),
        ("XX", None, None),
        (None, "SP", None),
    ],
)
def test_a_zone_is_guessed_from_country_and_region(country: str | None, region: str | None, zone: str | None) -> None:
    assert zone_of(country, region) == zone
    assert zone is None or is_time_zone(zone)
