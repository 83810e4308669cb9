"""Importing: the format is found, several sources become one, and a failure leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from lake.dataset import Dataset
from lake.errors import InputError
from lake.importers import IMPORTERS, detect, import_sources
from lake.importers.base import Context

CONTEXT = Context(2e9, b"0123456789abcdef")
EVENTS = "user_id,item_id,kind,at\na,i,view,2024-01-02T00:00:00Z\nb,i,like,2024-01-01T00:00:00Z\n"


def write(folder: Path, **tables: str) -> str:
    """Write CSV tables to a folder and return it as a source."""
    folder.mkdir(exist_ok=True)
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text)
    return str(folder)


def test_a_folder_and_a_file_of_tables_are_recognised(tmp_path: Path) -> None:
    source = write(tmp_path / "in", events=EVENTS)
    assert detect(source) == "tables"
    assert detect(f"{source}/events.csv") == "tables"


@pytest.mark.parametrize("url", ["https://example.org/a.git", "ssh://git@example.org/a", "git@example.org:a/b.git", "file:///srv/a.git"])
def test_urls_are_git(url: str) -> None:
    assert detect(url) == "git"


@pytest.mark.parametrize("source", ["nowhere", "-upload-pack=touch", "ext::sh -c id", "C:events.csv"])
def test_what_is_neither_a_path_nor_a_url_is_named(source: str) -> None:
    with pytest.raises(InputError, match="there is no such file or folder"):
        detect(source)


def test_a_folder_without_anything_known_says_what_could_be_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds nothing that can be imported; wanted is one of: interchange tables \(users, items"):
        detect(str(tmp_path))


@pytest.mark.parametrize("name", IMPORTERS)
def test_a_source_of_another_kind_than_was_said_is_refused(tmp_path: Path, name: str) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("nothing")
    with pytest.raises(InputError):
        IMPORTERS[name].read(str(other), CONTEXT)


def test_an_import_tells_what_it_did_and_what_will_be_derived(tmp_path: Path) -> None:
    summary = import_sources([write(tmp_path / "in", events=EVENTS, users="user_id\na\n")], tmp_path / "out", "auto", CONTEXT)
    assert summary.formats == ["tables"]
    assert summary.rows == {"users": 1, "events": 2}
    assert summary.derived == {"users": 1, "items": 1}
    assert Dataset.load(tmp_path / "out").events["user_id"].tolist() == ["b", "a"]


def test_the_later_of_two_sources_wins_and_shared_events_count_once(tmp_path: Path) -> None:
    first = write(tmp_path / "1", events=EVENTS, users="user_id,timezone,locale\na,Asia/Tokyo,ja\nb,,\n")
    second = write(tmp_path / "2", events=EVENTS + "c,i,view,2024-01-03T00:00:00Z\n", users="user_id,timezone,locale\na,Europe/Rome,\n")
    summary = import_sources([first, second], tmp_path / "out", "tables", CONTEXT)
    assert summary.dropped == {"users given more than once": 1, "events given more than once": 2}
    data = Dataset.load(tmp_path / "out")
    assert data.events["user_id"].tolist() == ["b", "a", "c"]
    user = data.users.set_index("user_id").loc["a"]
    assert (user["timezone"], user["locale"]) == ("Europe/Rome", "ja")


def test_rows_of_every_kind_are_merged_by_their_keys(tmp_path: Path) -> None:
    header = "item_id,created_at,topics,title\n"
    one = write(
        tmp_path / "1",
        events=EVENTS,
        items=header + "i,2024-01-01T00:00:00Z,a|b,Old\nj,2024-01-01T00:00:00Z,,\n",
        preferences="user_id,kind,channel,allowed\na,,,true\na,,push,true\n",
        follows="user_id,topic\na,x\n",
    )
    two = write(
        tmp_path / "2",
        events=EVENTS,
        items=header + "i,2024-01-01T00:00:00Z,c,\n",
        preferences="user_id,kind,channel,allowed\na,,,false\n",
        follows="user_id,topic\na,x\na,y\n",
    )
    import_sources([one, two], tmp_path / "out", "tables", CONTEXT)
    data = Dataset.load(tmp_path / "out")
    assert data.items["topics"].tolist() == [[], ["c"]]
    assert data.items["title"].fillna("").tolist() == ["", "Old"]
    assert data.preferences.fillna({"channel": "any"}).set_index("channel")["allowed"].to_dict() == {"push": True, "any": False}
    assert data.follows["topic"].tolist() == ["x", "y"]


def test_what_one_source_holds_twice_counts_twice(tmp_path: Path) -> None:
    one = write(tmp_path / "1", events=EVENTS + EVENTS.splitlines()[1] + "\n")
    two = write(tmp_path / "2", events=EVENTS)
    import_sources([one, two], tmp_path / "out", "tables", CONTEXT)
    assert len(Dataset.load(tmp_path / "out").events) == 3


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize(
    "wrong",
    [
        {"events": EVENTS + "c,i,view,2024-01-03\n"},
        {"events": EVENTS, "users": "user_id\na\na\n"},
        {"users": "user_id\na\n"},
        {"events": EVENTS, "addresses": "user_id,channel,address\na,email,a@example.org\x00\n"},
    ],
)
def test_a_wrong_source_leaves_the_folder_as_it_was(tmp_path: Path, wrong: dict[str, str], is_there: bool) -> None:
    out = tmp_path / "out"
    good, bad = write(tmp_path / "good", events=EVENTS), write(tmp_path / "bad", **wrong)
    if is_there:
        import_sources([good], out, "auto", CONTEXT)
    before = {path.name: path.read_bytes() for path in out.iterdir()} if is_there else None
    with pytest.raises(InputError):
        import_sources([bad], out, "auto", CONTEXT)
    assert ({path.name: path.read_bytes() for path in out.iterdir()} if out.exists() else None) == before
    assert {path.name for path in tmp_path.iterdir()} <= {"out", "good", "bad"}


def test_an_import_may_be_imported_again(tmp_path: Path) -> None:
    import_sources([write(tmp_path / "in", events=EVENTS)], tmp_path / "1", "auto", CONTEXT)
    import_sources([str(tmp_path / "1")], tmp_path / "2", "auto", CONTEXT)
    pd.testing.assert_frame_equal(Dataset.load(tmp_path / "1").events, Dataset.load(tmp_path / "2").events)
