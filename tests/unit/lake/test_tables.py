"""The interchange tables: right rows come through typed, wrong ones are named by table, column and row."""

from __future__ import annotations

import gzip
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import InputError, TableError
from lake.tables import SCHEMAS, check_frame, read_table

AT = "2016-03-14T13:54:36Z"
GOOD: dict[str, dict[str, Any]] = {
    "users": {
        "user_id": "u1",
        "timezone": "Europe/Berlin",
        "utc_offset_minutes": 60,
        "latitude": 52.5,
        "longitude": 13.4,
        "created_at": AT,
    },
    "items": {"item_id": "i1", "created_at": AT, "author_id": "u1", "topics": ["a"], "title": "T", "version": 3, "half_life_s": 3600.0},
    "events": {"user_id": "u1", "item_id": "i1", "kind": "view", "at": AT, "utc_offset_minutes": -180, "event_id": "e1"},
    "sends": {"user_id": "u1", "item_id": "i1", "channel": "email", "at": AT, "propensity": 0.5, "engaged_at": AT},
    "follows": {"user_id": "u1", "topic": "a", "author_id": None, "since": AT},
    "addresses": {"user_id": "u1", "channel": "email", "address": "u1@example.org"},
    "budgets": {"user_id": "u1", "channel": "email", "weekly": 3},
    "preferences": {
        "user_id": "u1",
        "kind": "view",
        "channel": "push",
        "allowed": True,
        "quiet_from": "22:00",
        "quiet_to": "07:30",
        "dial": -1,
        "digest_at": "18:30",
        "digest_days": "mon|wed|fri",
    },
}
IDENTITY = {"users": "user_id", "items": "item_id", "addresses": "user_id", "budgets": "user_id", "preferences": "user_id"}

BAD: list[tuple[str, str, Any, str]] = [
    ("users", "user_id", None, "missing or empty"),
    ("users", "user_id", "", "missing or empty"),
    ("users", "user_id", "a\x00b", "control character"),
    ("users", "user_id", "a\r\nb", "control character"),
    ("users", "user_id", "a\x85b", "control character"),
    ("users", "user_id", "a\u2028b", "control character"),
    ("users", "user_id", "x" * 257, "longer than 256"),
    ("users", "timezone", "Middle/Earth", "IANA"),
    ("users", "timezone", "../../etc/passwd", "IANA"),
    ("users", "utc_offset_minutes", 961, "whole number from -960 to 960"),
    ("users", "utc_offset_minutes", 0.5, "whole number"),
    ("users", "latitude", 90.1, "from -90 to 90"),
    ("users", "longitude", -181, "from -180 to 180"),
    ("users", "latitude", float("inf"), "from -90 to 90"),
    ("users", "latitude", None, "go together"),
    ("users", "locale", "de\n", "control character"),
    ("items", "created_at", None, "missing or empty"),
    ("items", "created_at", "2016-03-14T13:54:36", "no time zone"),
    ("items", "created_at", "yesterday", "not a time"),
    ("items", "created_at", "2016-13-14T13:54:36Z", "not a time"),
    ("items", "title", "a\x00b", "control character"),
    ("items", "text", "a\x00b", "control character"),
    ("items", "url", "https://example.org/\r\nSet-Cookie: a", "control character"),
    ("items", "topics", ["a", "b\x00"], "topic 'b\\x00' has a control character"),
    ("items", "version", -1, "from 0"),
    ("items", "half_life_s", 0, "above 0"),
    ("events", "kind", None, "missing or empty"),
    ("events", "kind", "x" * 65, "longer than 64"),
    ("events", "at", "2016-03-14 13:54", "no time zone"),
    ("events", "at", "2016-03-14", "no time zone"),
    ("events", "at", "1457963676", "not a time"),
    ("events", "event_id", "a\tb", "control character"),
    ("sends", "item_id", None, "missing or empty"),
    ("sends", "propensity", 0, "above 0 and at most 1"),
    ("sends", "propensity", 1.5, "above 0 and at most 1"),
    ("sends", "channel", "e\nmail", "control character"),
    ("follows", "topic", None, "give one of them"),
    ("addresses", "address", "a@example.org\r\nBcc: b@example.org", "control character"),
    ("addresses", "address", None, "missing or empty"),
    ("budgets", "weekly", -1, "from 0 to 250"),
    ("budgets", "weekly", 251, "from 0 to 250"),
    ("budgets", "weekly", 2.5, "whole number"),
    ("budgets", "weekly", None, "missing or empty"),
    ("preferences", "quiet_from", "24:00", "22:30"),
    ("preferences", "quiet_from", "7:30", "22:30"),
    ("preferences", "quiet_from", None, "go together"),
    ("preferences", "dial", 3, "from -2 to 2"),
    ("preferences", "digest_at", "18:31", "quarter of an hour"),
    ("preferences", "digest_at", "25:00", "quarter of an hour"),
    ("preferences", "digest_at", None, "needs digest_at"),
    ("preferences", "digest_days", "mon|moon", "weekdays such as"),
    ("preferences", "allowed", None, "missing or empty"),
]


def rows_of(table: str, n: int) -> list[dict[str, Any]]:
    """Return `n` good rows that differ in what identifies them."""
    rows = [dict(GOOD[table]) for _ in range(n)]
    if table in IDENTITY:
        for number, row in enumerate(rows):
            row[IDENTITY[table]] = f"id{number}"
    return rows


@pytest.mark.parametrize("table", SCHEMAS)
def test_good_rows_come_through_with_every_column_typed(table: str) -> None:
    frame = check_frame(pd.DataFrame(rows_of(table, 3)), table)
    assert len(frame) == 3
    assert frame.dtypes.to_dict() == SCHEMAS[table].empty().dtypes.to_dict()


@pytest.mark.parametrize(("table", "column", "value", "problem"), BAD)
def test_a_malformed_row_is_named(table: str, column: str, value: Any, problem: str) -> None:
    rows = rows_of(table, 5)
    rows[3][column] = value
    frame = pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype=_dtype(rows, name)) for name in rows[0] | {column: None}})
    with pytest.raises(TableError) as caught:
        check_frame(frame, table)
    assert (caught.value.table, caught.value.row) == (table, 4)
    assert column in str(caught.value) or "go together" in str(caught.value)
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 400


def _dtype(rows: list[dict[str, Any]], name: str) -> Any:
    return object if any(isinstance(row.get(name), str | list | bool) for row in rows) else "float64"


@pytest.mark.parametrize("table", SCHEMAS)
def test_a_missing_required_column_is_named_with_those_that_are_there(table: str) -> None:
    for column in SCHEMAS[table].columns:
        if column.required:
            with pytest.raises(TableError, match=f"column {column.name}: is missing; the columns found are"):
                check_frame(pd.DataFrame(rows_of(table, 2)).drop(columns=column.name), table)


@pytest.mark.parametrize("table", IDENTITY)
def test_a_repeated_key_names_both_rows(table: str) -> None:
    rows = rows_of(table, 5)
    rows[4][IDENTITY[table]] = rows[1][IDENTITY[table]]
    with pytest.raises(TableError, match=r"row 5: 'id1'.* is already in row 2"):
        check_frame(pd.DataFrame(rows), table)


@given(n=st.integers(1, 400), data=st.data())
def test_the_first_bad_row_is_found_wherever_it_is(n: int, data: st.DataObject) -> None:
    bad = data.draw(st.integers(0, n - 1))
    times = [AT] * n
    times[bad] = "2016-99-14T13:54:36Z"
    with pytest.raises(TableError) as caught:
        check_frame(pd.DataFrame({"user_id": "u", "kind": "view", "at": times}), "events")
    assert caught.value.row == bad + 1


@given(st.datetimes(pd.Timestamp("1970-01-01").to_pydatetime(), pd.Timestamp("2200-01-01").to_pydatetime()), st.integers(-23 * 60, 23 * 60))
def test_a_time_with_an_offset_is_the_same_moment_in_utc(local: Any, offset: int) -> None:
    sign, minutes = ("-" if offset < 0 else "+"), abs(offset)
    text = f"{local.isoformat()}{sign}{minutes // 60:02d}:{minutes % 60:02d}"
    at = check_frame(pd.DataFrame({"user_id": ["u"], "kind": ["view"], "at": [text]}), "events")["at"].iloc[0]
    assert at == pd.Timestamp(local, tz="UTC") - pd.Timedelta(minutes=offset)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "America/Sao_Paulo", "+05:30"])
def test_times_of_any_unit_and_zone_become_microseconds_utc(unit: str, zone: str) -> None:
    moments = pa.array([1_457_963_676], pa.int64()).cast(pa.timestamp("s")).cast(pa.timestamp(unit, "UTC")).cast(pa.timestamp(unit, zone))
    table = SCHEMAS["events"].check(pa.table({"user_id": ["u"], "kind": ["view"], "at": moments}))
    assert str(SCHEMAS["events"].frame(table)["at"].dtype) == "datetime64[us, UTC]"
    assert table.column("at")[0].as_py() == pd.Timestamp(AT)


def test_naive_times_of_parquet_are_refused() -> None:
    with pytest.raises(TableError, match=r"row 1: '2016-03-14 13:54:36' has no time zone; write times in UTC"):
        check_frame(pd.DataFrame({"user_id": ["u"], "kind": ["view"], "at": [pd.Timestamp("2016-03-14T13:54:36")]}), "events")


@pytest.mark.parametrize(("values", "kind"), [([1457963676], "int64"), ([1.5], "double"), ([pd.Timestamp(AT).date()], "date32")])
def test_numbers_and_dates_are_no_times(values: list[Any], kind: str) -> None:
    with pytest.raises(TableError, match=rf"column at: holds {kind}.*, not times"):
        check_frame(pd.DataFrame({"user_id": ["u"], "kind": ["view"], "at": values}), "events")


def test_moments_in_the_future_are_valid() -> None:
    frame = check_frame(pd.DataFrame({"item_id": ["i"], "created_at": ["2999-01-01T00:00:00Z"]}), "items")
    assert frame["created_at"].iloc[0].year == 2999


def test_white_space_in_titles_is_folded_and_text_keeps_its_lines() -> None:
    frame = check_frame(pd.DataFrame({"item_id": ["i"], "created_at": [AT], "title": [" a\r\n\tb  c "], "text": ["a\r\nb"]}), "items")
    assert frame["title"].tolist() == ["a b c"]
    assert frame["text"].tolist() == ["a\r\nb"]


def test_topics_are_lists_whatever_they_were_written_as() -> None:
    written = ['["a", "b|c"]', "a|b", "a", "", None, "a||b ", "[]"]
    frame = check_frame(pd.DataFrame({"item_id": [f"i{n}" for n in range(7)], "created_at": AT, "topics": written}), "items")
    assert frame["topics"].tolist() == [["a", "b|c"], ["a", "b"], ["a"], [], [], ["a", "b"], []]


def test_missing_lists_of_topics_are_empty_and_rows_stay_aligned() -> None:
    frame = check_frame(pd.DataFrame({"item_id": ["i", "j", "k"], "created_at": AT, "topics": [None, ["a"], ["", "b"]]}), "items")
    assert frame["topics"].tolist() == [[], ["a"], ["b"]]


@pytest.mark.parametrize("written", ['["a"', "[1]", "[" * 5000])
def test_topics_that_are_no_list_are_named(written: str) -> None:
    with pytest.raises(TableError, match=r"column topics, row 2: .* is not a list of topics"):
        check_frame(pd.DataFrame({"item_id": ["i", "j"], "created_at": AT, "topics": ["a", written]}), "items")


def test_extra_columns_are_kept() -> None:
    frame = check_frame(pd.DataFrame({"user_id": ["u"], "kind": ["view"], "at": [AT], "session": [7]}), "events")
    assert frame["session"].tolist() == [7]


def test_whole_numbers_may_be_ids_and_numbers_with_a_point_may_not() -> None:
    rows = pd.DataFrame({"user_id": [2**60 + 1], "kind": ["view"], "at": [AT]})
    assert check_frame(rows, "events")["user_id"].tolist() == [str(2**60 + 1)]
    with pytest.raises(TableError, match="column user_id: holds numbers with a decimal point"):
        check_frame(rows.assign(user_id=[1.0]), "events")


@pytest.mark.parametrize("flags", [["true", "no"], [1, 0], ["T", "F"], [True, False]])
def test_flags_are_understood_as_people_write_them(flags: list[Any]) -> None:
    assert check_frame(pd.DataFrame({"user_id": ["u", "v"], "allowed": flags}), "preferences")["allowed"].tolist() == [True, False]


@pytest.mark.parametrize("flag", ["maybe", 2])
def test_other_flags_are_refused(flag: Any) -> None:
    with pytest.raises(TableError, match="neither true nor false"):
        check_frame(pd.DataFrame({"user_id": ["u"], "allowed": [flag]}), "preferences")


def test_an_all_null_item_id_is_fine() -> None:
    table = pa.table({"user_id": ["u"], "item_id": pa.nulls(1), "kind": ["visit"], "at": pa.array([0], pa.timestamp("us", "UTC"))})
    assert SCHEMAS["events"].frame(SCHEMAS["events"].check(table))["item_id"].isna().all()


CSV = 'user_id,kind,at,note\n007,view,2016-03-14T13:54:36Z,"two\nlines"\n008,like,2016-03-14 14:54:36+01:00,NA\n'
NDJSON = """{"user_id": "007", "kind": "view", "at": "2016-03-14T13:54:36Z", "note": "two\\nlines"}

{"user_id": "008", "kind": "like", "at": "2016-03-14 14:54:36+01:00", "note": "NA"}
"""


@pytest.mark.parametrize("wrapper", ["", ".gz", ".zip"])
@pytest.mark.parametrize("extension", [".csv", ".ndjson", ".jsonl", ".parquet"])
def test_every_format_reads_the_same(tmp_path: Path, extension: str, wrapper: str) -> None:
    path = tmp_path / f"events{extension}{wrapper}"
    plain = tmp_path / f"plain{extension}"
    if extension == ".parquet":
        pq.write_table(
            pa.table({"user_id": ["007", "008"], "kind": ["view", "like"], "at": [pd.Timestamp(AT)] * 2, "note": ["two\nlines", "NA"]}),
            plain,
        )
    else:
        plain.write_text(CSV if extension == ".csv" else NDJSON)
    _wrap(plain, path)
    frame = read_table(path, "events")
    assert frame["user_id"].tolist() == ["007", "008"]
    assert frame["at"].tolist() == [pd.Timestamp(AT)] * 2
    assert frame["note"].tolist() == ["two\nlines", "NA"]


def _wrap(plain: Path, path: Path) -> None:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(plain.read_bytes()))
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(plain, plain.name)
    else:
        plain.rename(path)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("events.csv", b"", "is empty"),
        ("events.csv", b"user_id,kind,at\na,view\n", "Row #2: Expected 3 columns, got 2"),
        ("events.csv", b"user_id,user_id,at\na,b,c\n", "names user_id twice"),
        ("events.csv", b"user_id,kind,at\n\xff,view,2016-03-14T13:54:36Z\n", "invalid UTF8"),
        ("events.ndjson", b'{"user_id": "a"}\n{"user_id": \n', "line 2 is not JSON"),
        ("events.ndjson", b'{"user_id": "a"}\n[1]\n', "line 2 is not a JSON object"),
        ("events.ndjson", b'{"user_id": "\xff"}\n', "column user_id, row 1: is not UTF-8"),
        ("events.ndjson", b'{"user_id": "a", "kind": "b", "at": "2024-01-01T00:00:00Z", "x": "\xff"}\n', "column x, row 1: is not UTF-8"),
        ("events.parquet", b"PAR1 not really", "cannot be read"),
        ("events.csv.gz", b"not gzipped", "cannot be read"),
        ("events.csv.zip", b"not zipped", "cannot be read"),
        ("events.txt", b"", "not a table"),
        ("events.csv", None, "no such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None, problem: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_table(path, "events")
    assert str(path) in str(caught.value)
    assert problem in str(caught.value)


def test_a_wrong_row_of_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("user_id,kind,at\nu,view,2016-03-14T13:54:36Z\nu,view,2016-03-14T13:54:36\n")
    with pytest.raises(TableError) as caught:
        read_table(path, "events")
    assert str(caught.value).startswith(f"{path}: table events, column at, row 2: '2016-03-14T13:54:36' has no time zone")


def test_text_of_parquet_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    ids = pa.Array.from_buffers(pa.string(), 2, pa.array([b"ok", b"\xff\xfe"]).buffers())
    pq.write_table(pa.table({"user_id": ids, "kind": ["view", "view"], "at": [pd.Timestamp(AT)] * 2}), path)
    with pytest.raises(TableError, match="column user_id, row 2: is not UTF-8 text"):
        read_table(path, "events")


def test_ndjson_with_numbers_as_ids_and_changing_columns_is_read(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    path.write_text(
        f'{{"user_id": 7, "kind": "view", "at": "{AT}"}}\n{{"user_id": "8", "kind": "view", "at": "{AT}", "extra": {{"a": 1}}}}\n'
    )
    frame = read_table(path, "events")
    assert frame["user_id"].tolist() == ["7", "8"]
    assert frame["extra"].tolist() == [None, {"a": 1}]


def test_the_error_survives_being_sent_to_another_process() -> None:
    error = TableError("events", "at", 3, "has no time zone", "events.csv")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.row) == (str(error), 3)
