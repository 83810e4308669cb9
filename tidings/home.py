"""Where a system on this machine keeps its state: TIDINGS_HOME, by default ~/.tidings."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lake.errors import InputError


@dataclass(frozen=True)
class State:
    """What a running system tells the other commands.

    `pid`: its supervisor. `login`: opens the console, once. `history`: where it files what happens.
    """

    pid: int
    store_url: str = field(repr=False)
    api_url: str
    ray_address: str
    dashboard_url: str
    model: str
    login: str = field(default="", repr=False)
    history: str = ""

    @property
    def console_url(self) -> str:
        """The console, with the token that opens it, once, within ten minutes."""
        return f"{self.api_url}/console" + (f"?token={self.login}" if self.login else "")

    def forget(self) -> None:
        """Remove the state: nothing runs any more."""
        state_file().unlink(missing_ok=True)

    def save(self) -> None:
        """Write the state for the other commands, readable by this user only."""
        path = state_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.touch(mode=0o600)
        part.write_text(json.dumps(asdict(self), indent=2))
        part.rename(path)


def folder() -> Path:
    """Return the folder of the state."""
    return Path(os.environ.get("TIDINGS_HOME") or Path.home() / ".tidings").expanduser()


def demo_folder() -> Path:
    """Return the folder of the demo's state, which is a home of its own."""
    return folder() / "demo"


def nothing_runs(advice: str = "`tidings up` starts the system") -> str:
    """Say that nothing runs in this home and what to do, also how to reach the demo where that runs."""
    demo = f"; the demo does: put TIDINGS_HOME={shlex.quote(str(demo_folder()))} before the command" if running(demo_folder()) else ""
    return f"nothing runs here{demo}; {advice}"


def command(words: str) -> str:
    """Return a command of `tidings` as a person types it to reach this home."""
    home = os.environ.get("TIDINGS_HOME")
    return f"`TIDINGS_HOME={shlex.quote(home)} tidings {words}`" if home else f"`tidings {words}`"


def state_file() -> Path:
    """Return the file that a running system leaves its State in."""
    return folder() / "state.json"


def loaded_tables() -> str:
    """Return the folder of tables that the store was loaded from last, "" for none."""
    path = folder() / "loaded-from"
    return path.read_text().strip() if path.exists() else ""


def remember_tables(tables: str) -> None:
    """Keep the folder of tables that the store was loaded from, for systems to come that are not given it again."""
    folder().mkdir(parents=True, exist_ok=True)
    (folder() / "loaded-from").write_text(tables + "\n")


def running(home: Path | None = None) -> State | None:
    """Return the state of the system running in a home, by default this one; None where none runs, whatever file a killed one left."""
    try:
        state = State(**json.loads((home / "state.json" if home else state_file()).read_text()))
        os.kill(state.pid, 0)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return state


def history_url(given: str | None = None) -> str:
    """Return where what happens is filed: as given, else as the running system says, else beside its state."""
    state = running()
    return given or (state.history if state else "") or str(folder() / "history")


def store_url() -> str:
    """Return the store to talk to: REDIS_URL, else the running system's; raises InputError where there is neither."""
    if url := os.environ.get("REDIS_URL"):
        return url
    state = running()
    if state is None:
        advice = "start the system with `tidings up`, or set REDIS_URL"
        raise InputError(f"no store: REDIS_URL is not set, and {nothing_runs(advice)}")
    return state.store_url
