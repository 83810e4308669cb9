"""A folder of tables: complete as of a moment, saved whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.dataset import MARKER, Dataset, read_tables, save_tables
from lake.errors import InputError, TableError
from lake.tables import SCHEMAS, Schema

START = pd.Timestamp("2024-01-01", tz="UTC")


def days(*numbers: float) -> list[pd.Timestamp]:
    """Return moments, in days after START."""
    return [START + pd.Timedelta(days=number) for number in numbers]


def world() -> Dataset:
    """Return two users who look at three items, of which one is in no items table."""
    return Dataset.of(
        {
            "events": pd.DataFrame({"user_id": ["a", "b", "a"], "item_id": ["i", "j", "k"], "kind": "view", "at": days(3, 1, 2)}),
            "items": pd.DataFrame({"item_id": ["j", "i"], "created_at": days(1, 0), "topics": [["x"], []]}),
            "sends": pd.DataFrame(
                {"user_id": ["c", "a"], "item_id": ["i", "i"], "channel": "push", "at": days(1, 0), "engaged_at": days(5, 1)}
            ),
            "follows": pd.DataFrame({"user_id": ["a", "a", "b"], "topic": ["x", "x", "x"], "since": [*days(4, 5), None]}),
        }
    )


def same(left: Dataset, right: Dataset) -> None:
    """Assert that two datasets hold the same."""
    for name, frame in left.tables.items():
        pd.testing.assert_frame_equal(frame, right.tables[name])


def test_every_table_is_there_with_every_column_even_if_empty() -> None:
    tables = Dataset.of({"events": SCHEMAS["events"].empty()}).tables
    assert list(tables) == list(SCHEMAS)
    for name, frame in tables.items():
        assert frame.dtypes.to_dict() == SCHEMAS[name].empty().dtypes.to_dict()


def test_rows_are_in_the_order_of_time_and_a_follow_counts_once() -> None:
    tables = world()
    assert tables.events["at"].is_monotonic_increasing
    assert tables.sends["at"].is_monotonic_increasing
    assert tables.items["item_id"].tolist() == ["i", "j", "k"]
    assert tables.follows["user_id"].tolist() == ["a", "b"]


def test_items_that_only_events_name_were_born_when_they_were_first_named() -> None:
    item = world().items.set_index("item_id").loc["k"]
    assert item["created_at"] == days(2)[0]
    assert item["topics"] == []
    assert pd.isna(item["author_id"])


def test_every_user_and_item_that_is_named_is_known() -> None:
    tables = world()
    assert set(tables.users["user_id"]) == {"a", "b", "c"}
    assert tables.users["user_id"].is_unique
    assert set(tables.events["item_id"]) | set(tables.sends["item_id"]) <= set(tables.items["item_id"])


def test_an_offset_comes_from_the_latest_event_where_nothing_else_tells() -> None:
    events = pd.DataFrame(
        {"user_id": ["a", "a", "b", "c"], "kind": "visit", "at": days(1, 2, 1, 1), "utc_offset_minutes": [60, 120, 180, None]}
    )
    users = Dataset.of({"events": events, "users": pd.DataFrame({"user_id": ["b"], "timezone": ["Asia/Tokyo"]})}).users
    offsets = users.set_index("user_id")["utc_offset_minutes"]
    assert offsets["a"] == 120
    assert offsets[["b", "c"]].isna().all()


def test_a_retried_event_counts_once_and_events_without_an_id_all_count() -> None:
    events = pd.DataFrame({"user_id": "a", "kind": "view", "at": days(3, 2, 1, 1), "event_id": ["e", "e", None, None]})
    kept = Dataset.of({"events": events}).events
    assert kept["at"].tolist() == days(1, 1, 2)


def test_events_are_required(tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("user_id\nu\n")
    with pytest.raises(InputError, match=r"no table of events; it is the one table that is required .* found users\.csv"):
        Dataset.load(tmp_path)
    with pytest.raises(InputError, match="no table of events"):
        Dataset.of({})
    with pytest.raises(InputError, match="no such folder"):
        Dataset.load(tmp_path / "nowhere")


def test_a_saved_dataset_loads_as_it_was(tmp_path: Path) -> None:
    world().save(tmp_path / "data")
    same(Dataset.load(tmp_path / "data"), world())


@given(
    st.lists(
        st.tuples(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=9), st.integers(0, 2**40)),
        max_size=30,
    )
)
def test_any_ids_and_times_survive_saving(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int]]) -> None:
    folder = tmp_path_factory.mktemp("data") / "saved"
    users = [user for user, _ in rows]
    events = pd.DataFrame({"user_id": users, "kind": "view", "at": pd.to_datetime([at for _, at in rows], unit="us", utc=True)})
    before = Dataset.of({"events": events.astype({"user_id": "str"})})
    before.save(folder)
    same(Dataset.load(folder), before)


def test_tables_saved_here_are_not_checked_again_and_others_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world().save(tmp_path / "data")
    checked = []
    check = Schema.check

    def watched(schema: Schema, table: pa.Table, source: str | None = None) -> pa.Table:
        checked.append(schema.name)
        return check(schema, table, source)

    monkeypatch.setattr(Schema, "check", watched)
    Dataset.load(tmp_path / "data")
    assert "events" not in checked
    plain = tmp_path / "plain"
    plain.mkdir()
    world().events.to_parquet(plain / "events.parquet")
    Dataset.load(plain)
    assert "events" in checked


def test_nothing_at_or_after_the_moment_is_known(tmp_path: Path) -> None:
    world().save(tmp_path / "data")
    until = days(3)[0]
    cut = Dataset.load(tmp_path / "data", until)
    assert (cut.events["at"] < until).all()
    assert len(cut.events) == 2
    assert cut.sends["engaged_at"].tolist() == [days(1)[0], pd.NaT]
    assert cut.follows["user_id"].tolist() == ["b"]


WORLD = world()


@given(st.floats(0, 6))
def test_loading_up_to_a_moment_is_forgetting_what_came_after(day: float) -> None:
    until = days(day)[0]
    whole = WORLD
    cut = Dataset.of_checked({"events": whole.events, "sends": whole.sends, "items": whole.items}, until)
    for name in ("events", "sends"):
        frame = whole.tables[name]
        assert cut.tables[name]["at"].tolist() == frame.loc[frame["at"] < until, "at"].tolist()
    assert not (cut.items["created_at"] >= until).any()
    assert not (cut.sends["engaged_at"] >= until).any()


def test_items_derived_before_the_moment_were_born_before_it() -> None:
    events = pd.DataFrame({"user_id": "a", "item_id": ["i", "i", "j"], "kind": "view", "at": days(1, 3, 4)})
    cut = Dataset.of({"events": events}, until=days(3)[0])
    assert cut.items["item_id"].tolist() == ["i"]


def test_the_moment_needs_a_zone() -> None:
    with pytest.raises(InputError, match="2024-01-01 00:00:00 has no time zone"):
        Dataset.of({"events": SCHEMAS["events"].empty()}, until=pd.Timestamp("2024-01-01"))


def test_parts_of_a_table_are_read_as_one(tmp_path: Path) -> None:
    parts = tmp_path / "events"
    parts.mkdir()
    (parts / "1.csv").write_text("user_id,kind,at\na,view,2024-01-02T00:00:00Z\n")
    (parts / "2.ndjson").write_text('{"user_id": "b", "kind": "view", "at": "2024-01-01T00:00:00Z"}\n')
    assert Dataset.load(tmp_path).events["user_id"].tolist() == ["b", "a"]


def test_a_key_repeated_across_parts_is_named(tmp_path: Path) -> None:
    (tmp_path / "users").mkdir()
    (tmp_path / "events.csv").write_text("user_id,kind,at\na,view,2024-01-02T00:00:00Z\n")
    for part in ("1.csv", "2.csv"):
        (tmp_path / "users" / part).write_text("user_id\na\n")
    with pytest.raises(TableError, match=r"rows counted through all 2 files.*row 2: 'a' is already in row 1"):
        read_tables(tmp_path)


def test_a_table_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    for name in ("events.csv", "events.ndjson"):
        (tmp_path / name).write_text("")
    with pytest.raises(InputError, match=r"table events is there more than once \(events\.csv, events\.ndjson\)"):
        read_tables(tmp_path)


def test_saving_replaces_what_was_saved_before(tmp_path: Path) -> None:
    world().save(tmp_path / "data")
    only_events = {"events": world().events}
    save_tables(only_events, tmp_path / "data")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["events.parquet", MARKER]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("foreign", ["notes.txt", "events.parquet"])
def test_a_folder_that_was_not_saved_here_is_never_replaced(tmp_path: Path, foreign: str) -> None:
    (tmp_path / foreign).write_text("precious")
    with pytest.raises(InputError, match=f"holds files that an import did not write .*{foreign}"):
        world().save(tmp_path)
    assert (tmp_path / foreign).read_text() == "precious"


def test_a_file_added_to_a_saved_folder_is_never_lost(tmp_path: Path) -> None:
    world().save(tmp_path / "data")
    (tmp_path / "data" / "notes.txt").write_text("precious")
    with pytest.raises(InputError, match=r"notes\.txt"):
        world().save(tmp_path / "data")


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("precious")
    with pytest.raises(InputError, match="is a file"):
        world().save(tmp_path / "data")


@pytest.mark.parametrize("table", ["users", "items", "events", "sends", "follows"])
def test_a_failure_while_writing_leaves_the_folder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    world().save(tmp_path / "data")
    write = pq.write_table

    def full(content: object, path: Path, **options: object) -> None:
        write(content, path, **options)
        if path.name == f"{table}.parquet":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    for folder in ("data", "fresh"):
        with pytest.raises(InputError, match="cannot be written: No space left on device"):
            world().save(tmp_path / folder)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    same(Dataset.load(tmp_path / "data"), world())


def test_a_failed_rename_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world().save(tmp_path / "data")
    rename = Path.rename

    def busy(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(16, "Device or resource busy")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", busy)
    with pytest.raises(InputError, match="busy"):
        world().save(tmp_path / "data")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    same(Dataset.load(tmp_path / "data"), world())


def test_a_folder_is_made_with_the_usual_permissions(tmp_path: Path) -> None:
    world().save(tmp_path / "deep" / "data")
    (tmp_path / "usual").mkdir()
    assert (tmp_path / "deep" / "data").stat().st_mode == (tmp_path / "usual").stat().st_mode
