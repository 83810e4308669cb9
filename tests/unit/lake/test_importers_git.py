"""A git history becomes items, events, sends and follows, and no address leaves the importer."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.dataset import Dataset, save_tables
from lake.errors import InputError
from lake.importers.base import Context, Imported
from lake.importers.git import GitImporter, People, user_id
from lake.importers.git_log import is_url, records, repository

NOW = 1_800_000_000.0
KEY = b"a key for this test"
DAY_S = 86_400
T0 = 1_700_000_000

Person = tuple[bytes, bytes]
ANN: Person = (b"Ann", b"ann@example.org")
BEN: Person = (b"Ben", b"Ben@Example.org")
EVA: Person = (b"Ev\xe4", b"ev\xe4@example.org")  # Latin-1, as old tools wrote it


class Repository:
    """Writes a history through git fast-import, which takes any bytes and any date."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stream: list[bytes] = []
        self.marks = 0

    def commit(
        self,
        author: Person = ANN,
        at: str = f"{T0} +0000",
        message: str = "Change",
        paths: Sequence[str] = ("net/core/a.c",),
        committed: str | None = None,
        parents: Sequence[int] | None = None,
        headers: bytes = b"",
    ) -> int:
        """Add a commit after the last one, or after `parents`, and return its mark."""
        self.marks += 1
        body = message.encode("latin-1" if headers else "utf-8")
        self.stream.append(b"commit refs/heads/main\nmark :%d\n" % self.marks)
        self.stream.append(b"author %s <%s> %s\n" % (*author, at.encode()))
        self.stream.append(b"committer Com <com@example.org> %s\n%sdata %d\n%s\n" % ((committed or at).encode(), headers, len(body), body))
        parents = [self.marks - 1] if parents is None and self.marks > 1 else parents or []
        for parent, word in zip(parents, [b"from", *[b"merge"] * len(parents)], strict=False):
            self.stream.append(b"%s :%d\n" % (word, parent))
        for path in paths:
            self.stream.append(b'M 100644 inline "%s"\ndata 2\n%02d\n' % (path.encode(), self.marks % 100))
        self.stream.append(b"\n")
        return self.marks

    def made(self) -> Path:
        """Write the repository."""
        git = ["git", "-C", str(self.folder)]
        self.folder.mkdir(parents=True)
        subprocess.run([*git, "init", "-q", "-b", "main", "--bare"], check=True)
        subprocess.run([*git, "fast-import", "--quiet", "--date-format=raw-permissive"], input=b"".join(self.stream), check=True)
        return self.folder


@pytest.fixture
def history(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "history.git")


def read(source: Path | str) -> Imported:
    return GitImporter().read(str(source), Context(NOW, KEY))


def who(address: str) -> str:
    return user_id(address, KEY)


def moment(seconds: int) -> pd.Timestamp:
    return pd.Timestamp(seconds, unit="s", tz="UTC")


def test_commits_are_items_with_the_components_they_touch(history: Repository) -> None:
    history.commit(message="Fix\tthe  thing\n\nBecause.", at=f"{T0} +0530", paths=("net/core/a.c", "net/core/b.c", "Makefile", "fs/x.c"))
    items = read(history.made()).tables["items"]
    item = items.iloc[0]
    assert item["item_id"] == subprocess.check_output(["git", "-C", str(history.folder), "rev-parse", "HEAD"], text=True).strip()
    assert item["topics"] == ["net/core", ".", "fs"]
    assert item["title"] == "Fix the thing"
    assert item["kind"] == "commit"
    assert item["author_id"] == who("ann@example.org")
    assert item["created_at"] == moment(T0)


def test_at_most_eight_components_the_most_touched_first(history: Repository) -> None:
    history.commit(paths=[f"d{n}/e/f{m}.c" for n in range(10) for m in range(1 + (n == 9))])
    topics = read(history.made()).tables["items"]["topics"].iloc[0]
    assert topics[0] == "d9/e"
    assert len(topics) == 8


def test_events_are_authored_and_trailers_with_the_authors_own_offset(history: Repository) -> None:
    history.commit(
        at=f"{T0} -0330", committed=f"{T0 + 60} +0000", message="A\n\nReviewed-by: Ben <ben@example.org>\nTested-by: Cy <cy@example.org>"
    )
    events = read(history.made()).tables["events"].set_index("kind")
    assert events["user_id"].to_dict() == {
        "author": who("ann@example.org"),
        "reviewed": who("ben@example.org"),
        "tested": who("cy@example.org"),
    }
    assert events["at"].astype("int64").floordiv(10**6).to_dict() == {"author": T0, "reviewed": T0 + 60, "tested": T0 + 60}
    assert events["utc_offset_minutes"].fillna(-1).to_dict() == {"author": -210, "reviewed": -1, "tested": -1}


def test_sends_are_cc_trailers_engaged_when_that_person_reacted(history: Repository) -> None:
    told = "Cc: Ben <ben@example.org>, cy@example.org\nCc: Ann <ann@example.org>\nCc: Ben <ben@example.org>"
    message = f"A\n\n{told}\nAcked-by: Ben <BEN@example.org>"
    history.commit(committed=f"{T0 + 60} +0000", message=message)
    sends = read(history.made()).tables["sends"].set_index("user_id")
    assert set(sends.index) == {who("ben@example.org"), who("cy@example.org")}
    assert set(sends["channel"]) == {"email"}
    engaged = sends["engaged_at"].to_dict()
    assert engaged[who("ben@example.org")] == moment(T0 + 60)
    assert pd.isna(engaged[who("cy@example.org")])


def test_nobody_reacts_to_their_own_commit_and_a_reaction_never_precedes_it(history: Repository) -> None:
    message = "A\n\nReviewed-by: Ann <ann@example.org>\nReviewed-by: Ben <ben@example.org>\nReviewed-by: Ben <ben@example.org>"
    history.commit(at=f"{T0} +0000", committed=f"{T0 - 3600} +0000", message=message)
    events = read(history.made()).tables["events"]
    assert events["kind"].tolist() == ["author", "reviewed"]
    assert events["at"].nunique() == 1


def test_follows_are_who_touched_a_component_lately_since_their_last_long_pause(history: Repository) -> None:
    for day, author in ((0, ANN), (200, ANN), (280, ANN), (100, BEN), (300, BEN)):
        history.commit(author, f"{T0 + day * DAY_S} +0000", paths=("fs/ext4/a.c" if day == 300 else "net/core/a.c",))
    follows = read(history.made()).tables["follows"].set_index("user_id")
    ann, ben = who("ann@example.org"), who("ben@example.org")
    assert follows["topic"].to_dict() == {ann: "net/core", ben: "fs/ext4"}
    assert follows["since"].to_dict() == {ann: moment(T0 + 200 * DAY_S), ben: moment(T0 + 300 * DAY_S)}
    assert follows["last_touch_at"].to_dict() == {ann: moment(T0 + 280 * DAY_S), ben: moment(T0 + 300 * DAY_S)}


def test_users_carry_the_offset_of_their_latest_commit(history: Repository) -> None:
    history.commit(at=f"{T0} +0100")
    history.commit(at=f"{T0 + 60} +0200", message="B\n\nCc: ben@example.org")
    users = read(history.made()).tables["users"].set_index("user_id")["utc_offset_minutes"]
    assert users[who("ann@example.org")] == 120
    assert pd.isna(users[who("ben@example.org")])


def test_absurd_dates_are_left_out_and_counted(history: Repository) -> None:
    for at in ("0 +0000", f"{int(NOW) + 30 * DAY_S} +0000", "99999999999999 +0000"):
        history.commit(at=at)
    history.commit(at=f"{T0} +0000", committed="1 +0000")
    history.commit(at=f"{T0} +9900")
    read_in = read(history.made())
    assert read_in.dropped["commits dated before 1990 or in the future"] == 4
    assert read_in.tables["events"]["utc_offset_minutes"].isna().all()
    assert len(read_in.tables["events"]) == 1


def test_merges_are_left_out_and_counted(history: Repository) -> None:
    first = history.commit()
    left, right = history.commit(parents=[first], paths=("a/b/c",)), history.commit(parents=[first], paths=("d/e/f",))
    history.commit(parents=[left, right], message="Merge\n\nReviewed-by: Ben <ben@example.org>", paths=())
    history.commit(paths=())
    read_in = read(history.made())
    assert read_in.dropped["merge commits"] == 1
    assert sorted(read_in.tables["items"]["topics"].map(len)) == [0, 1, 1, 1]


def test_odd_encodings_of_names_and_messages_are_read(history: Repository) -> None:
    history.commit(EVA, message="Grüße", headers=b"encoding ISO-8859-1\n")
    history.commit(EVA, message="Grüße\x01\x7f", paths=("träger/ö/x\x1fy.c",))
    tables = read(history.made()).tables
    assert tables["users"]["user_id"].nunique() == 1
    assert tables["items"]["title"].tolist() == ["Grüße", "Grüße"]
    assert tables["items"]["topics"].tolist()[0] == ["träger/ö"]


def test_mailing_lists_and_robots_are_nobody(history: Repository) -> None:
    robot = (b"dependabot[bot]", b"49699333+dependabot[bot]@users.noreply.github.com")
    history.commit(
        robot,
        message="A\n\nCc: stable@vger.kernel.org\nCc: <u-boot@lists.denx.de>\nCc: git-devel@example.org\nCc: me@users.noreply.github.com",
    )
    read_in = read(history.made())
    assert read_in.dropped["mentions of mailing lists and robots"] == 4
    assert read_in.tables["sends"]["user_id"].tolist() == [who("me@users.noreply.github.com")]
    assert read_in.tables["items"]["author_id"].isna().all()
    assert read_in.tables["events"].empty


def test_a_mailmap_makes_one_person_of_several_addresses(history: Repository) -> None:
    history.commit(message="A\n\nReviewed-by: Ben <ben@old.example>\nCc: Ben <ben@example.org>")
    repository_ = history.made()
    clone = repository_.parent / "clone"
    subprocess.run(["git", "clone", "-q", str(repository_), str(clone)], check=True)
    (clone / ".mailmap").write_text("Ben <ben@example.org> <ben@old.example>\n")
    tables = read(clone).tables
    assert set(tables["users"]["user_id"]) == {who("ann@example.org"), who("ben@example.org")}
    assert tables["sends"]["engaged_at"].notna().all()


def test_no_address_and_no_key_is_in_what_is_saved(history: Repository) -> None:
    history.commit(message="A\n\nReviewed-by: Ben <ben@example.org>\nCc: cy@example.org")
    out = history.folder.parent / "out"
    save_tables(read(history.made()).tables, out)
    for name, frame in Dataset.load(out).tables.items():
        text = frame.to_csv()
        assert "example.org" not in text, name
        assert KEY.decode() not in text, name


def test_the_same_key_gives_the_same_ids_and_another_key_others(history: Repository) -> None:
    history.commit()
    folder = str(history.made())
    ids = [GitImporter().read(folder, Context(NOW, key)).tables["users"]["user_id"].tolist() for key in (KEY, KEY, b"another key")]
    assert ids[0] == ids[1] != ids[2]


def test_a_url_is_cloned_and_the_clone_is_removed(history: Repository) -> None:
    history.commit()
    url = f"file://{history.made()}"
    with repository(url) as folder:
        assert (folder / "HEAD").exists()
    assert not folder.exists()
    assert len(read(url).tables["items"]) == 1


def test_git_runs_on_the_repository_that_was_named(history: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    history.commit()
    folder = history.made()
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert len(read(folder).tables["items"]) == 1


@pytest.mark.parametrize("source", ["ext::sh -c touch% /tmp/x", "--upload-pack=touch /tmp/x", "nowhere", "/nowhere"])
def test_what_git_must_not_run_is_refused(source: str) -> None:
    with pytest.raises(InputError):
        read(source)


def test_a_clone_that_fails_says_so_in_gits_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="git clone: "):
        read(f"file://{tmp_path}/nowhere.git")


def test_a_repository_without_commits_and_a_broken_one_are_refused(history: Repository) -> None:
    folder = history.made()
    with pytest.raises(InputError, match="HEAD"):
        read(folder)
    (folder / "HEAD").write_text("nonsense")
    with pytest.raises(InputError, match="git"):
        read(folder)


def test_a_history_that_breaks_off_is_refused(history: Repository) -> None:
    history.commit()
    folder = history.made()
    objects = subprocess.check_output(["git", "-C", str(folder), "cat-file", "--batch-check", "--batch-all-objects"], text=True)
    for name, kind, _ in (line.split() for line in objects.splitlines()):
        if kind == "tree":
            (folder / "objects" / name[:2] / name[2:]).unlink()
    with pytest.raises(InputError, match=r"git log: .*(tree|object)"):
        read(folder)


@pytest.mark.parametrize(
    ("source", "expected"), [("https://a.example/b", True), ("a@b.example:c", True), ("/srv/a", False), ("ftp://a/b", False)]
)
def test_urls_are_told_from_paths(source: str, expected: bool) -> None:
    assert is_url(source) is expected


FIELDS = 7


@given(
    st.lists(st.tuples(st.text("0123456789abcdef", min_size=40, max_size=40), st.lists(st.binary(min_size=1, max_size=50), max_size=4))),
    st.integers(1, 9),
)
def test_records_are_cut_apart_however_the_stream_is_chunked(commits: list[tuple[str, list[bytes]]], chunk: int) -> None:
    class Trickle(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(chunk, size or chunk))

    expected = [
        [b"\x01" + commit_id.encode(), *[b"field"] * (FIELDS - 1), *(path.replace(b"\0", b"-").replace(b"\x01", b"-") for path in paths)]
        for commit_id, paths in commits
    ]
    stream = Trickle(b"".join(token + b"\0" for record in expected for token in record))
    assert list(records(stream)) == expected


@given(st.text(max_size=300))
def test_any_text_may_follow_a_trailer(text: str) -> None:
    people = People()
    codes = people.codes_of(text)
    assert all(0 <= code < len(people.contacts) for code in codes)
    assert all("\n" not in contact for contact in people.contacts)
