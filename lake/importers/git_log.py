"""Run git and read its log as a stream of commits."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from lake.errors import InputError
from lake.tables import FURTHEST_OFFSET_MINUTES

CHUNK_BYTES = 1 << 20
MAX_CONTACT_CHARS = 2_000

_FIELDS = (
    "%x01%H",
    "%P",
    "%aN <%aE>",
    "%ad",
    "%ct",
    "%s",
    "%(trailers:key=Reviewed-by,key=Acked-by,key=Tested-by,key=Cc,unfold,separator=%x1f)",
)
_LOG = (
    *("log", "-z", "--name-only", "--no-renames", "--no-ext-diff", "--no-show-signature", "--no-notes", "--no-color"),
    *("--date=raw", "--encoding=UTF-8", f"--format={'%x00'.join(_FIELDS)}", "HEAD", "--"),
)
_START = re.compile(rb"\x01[0-9a-f]{40}(?:[0-9a-f]{24})?")
_DATE = re.compile(rb"(-?\d{1,15}) ([+-])(\d{2})(\d{2})")
_URL = re.compile(r"(https?|ssh|git|file)://|[\w.-]+@[\w.-]+:", re.ASCII)
_PROTOCOLS = "https:http:ssh:git:file"
"""Git knows further ones that run a command of the URL's choice."""


class Commit(NamedTuple):
    """One commit as git tells it; the author is `Name <address>`, times are seconds, `paths` are the files it touches.

    `at` is None where the date cannot be read, the offset NaN where no place on Earth has it.
    """

    commit_id: str
    is_merge: bool
    author: str
    at: int | None
    utc_offset_minutes: float
    committed_at: int
    title: str
    trailers: Sequence[tuple[str, str]]
    paths: Sequence[bytes]


def is_url(source: str) -> bool:
    """Return whether a source is something to clone and not a path."""
    return bool(_URL.match(source)) and not Path(source).exists()


def is_repository(path: Path) -> bool:
    """Return whether a path is the top folder of a clone, bare or not."""
    return (path / ".git").exists() or all((path / name).exists() for name in ("HEAD", "objects", "refs"))


@contextmanager
def repository(source: str) -> Iterator[Path]:
    """The folder of a clone; a URL is cloned for as long, without file contents where the server can leave them out."""
    if not is_url(source):
        yield Path(source)
        return
    with tempfile.TemporaryDirectory(prefix="tidings-git-") as folder:
        run_git(Path(folder), "clone", "--quiet", "--bare", "--single-branch", "--no-tags", "--filter=blob:none", "--", source, "clone.git")
        yield Path(folder) / "clone.git"


def run_git(folder: Path, *arguments: str, text: str | None = None) -> str:
    """Return what a git command prints, given `text` on its standard input; raises InputError with git's own words."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, input=None if text is None else text.encode(), capture_output=True, check=False, env=_environment())
    except FileNotFoundError:
        raise InputError("git is not installed; install it to import a repository") from None
    if done.returncode:
        raise InputError(f"{folder}: git {arguments[0]}: {_last_words(done.stderr)}")
    return done.stdout.decode(errors="replace")


def commits(folder: Path) -> Iterator[Commit]:
    """Yield the commits that lead to HEAD, newest first, as git writes them; raises InputError where git fails."""
    with tempfile.TemporaryFile() as errors:
        command = ["git", "-C", str(folder), *_LOG]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=_environment()) as process:
            assert process.stdout is not None
            try:
                for record in records(process.stdout):
                    yield _commit(record)
            finally:
                process.kill()  # does nothing to one that has ended
        errors.seek(0)
        if process.returncode:
            raise InputError(f"{folder}: git log: {_last_words(errors.read())}")


def records(stream: IO[bytes]) -> Iterator[list[bytes]]:
    """Cut a log at its NULs: each record is the fields of one commit and then its paths."""
    record: list[bytes] = []
    for token in _tokens(stream):
        # Fields come first and are counted, so that only a path could pass for the start of a commit, by having its name.
        if len(record) >= len(_FIELDS) and token[:1] == b"\x01" and _START.fullmatch(token):
            yield record
            record = []
        record.append(token)
    if len(record) >= len(_FIELDS):
        yield record


def _tokens(stream: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while chunk := stream.read(CHUNK_BYTES):
        *whole, rest = (rest + chunk).split(b"\0")
        yield from whole


def decoded(text: bytes) -> str:
    """Return text that ought to be UTF-8; what is not was most often written as Latin-1, and as such no two names become one."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _commit(record: list[bytes]) -> Commit:
    commit_id, parents, author, date, committed_at, title, trailers = record[: len(_FIELDS)]
    at, offset = _moment(date)
    return Commit(
        commit_id=commit_id[1:].decode(),
        is_merge=b" " in parents,
        author=decoded(author)[:MAX_CONTACT_CHARS],
        at=at,
        utc_offset_minutes=offset,
        committed_at=int(committed_at) if committed_at.isdigit() else 0,
        title=decoded(title),
        trailers=_trailers(trailers),
        paths=[path.removeprefix(b"\n") for path in record[len(_FIELDS) :]],
    )


def _moment(date: bytes) -> tuple[int | None, float]:
    match = _DATE.fullmatch(date)
    if not match:
        return None, np.nan
    seconds, sign, hours, minutes = match.groups()
    offset = (int(hours) * 60 + int(minutes)) * (-1 if sign == b"-" else 1)
    return int(seconds), offset if abs(offset) <= FURTHEST_OFFSET_MINUTES else np.nan


def _trailers(text: bytes) -> list[tuple[str, str]]:
    if not text:
        return []
    pairs = (line[:MAX_CONTACT_CHARS].partition(":") for line in decoded(text).split("\x1f"))
    return [(key.strip().lower(), value) for key, colon, value in pairs if colon]


def _environment() -> dict[str, str]:
    """The environment for git: never a prompt, and the folder that was named, not one that a hook of another repository set."""
    own = {name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")}
    return own | {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C", "GIT_ALLOW_PROTOCOL": _PROTOCOLS}


def _last_words(errors: bytes) -> str:
    lines = [line.strip() for line in errors.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "failed without a word"
