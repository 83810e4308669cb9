"""The demo: a week of somebody's own history through the whole system, a report, and something to look at until Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from lake.dataset import Dataset
from simulation.world import generate
from simulation.world_parameters import WorldParameters
from tests.integration.processes import of_home, title
from tests.integration.systems import PORT, at_home
from tests.integration.waiting import until

pytestmark = pytest.mark.timeout(600)

USERS, WEEKLY = 60, 3
POLICIES = ("ranked, live", "popular", "recent", "random")


@contextmanager
def serving(home: Path) -> Iterator[str]:
    """Run `tidings demo` on the tables of `home` until it serves, and yield what it printed; then press Ctrl-C."""
    command = [str(Path(sys.executable).parent / "tidings"), "demo", "--data", str(home / "tables"), "--port", str(PORT)]
    with at_home(home, COLUMNS="200", DEMO_EXIT=""), (home / "out").open("w") as out, (home / "err").open("w") as err:
        demo = subprocess.Popen(command, stdout=out, stderr=err, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    try:
        until(lambda: demo.poll() is not None or "Still serving" in (home / "err").read_text(), 400)
        assert demo.poll() is None, (home / "err").read_text()
        yield (home / "out").read_text()
    finally:
        demo.send_signal(signal.SIGINT)
        code = demo.wait(120)
    assert code == 0


def figures(shown: str, policy: str) -> list[float]:
    """Return what the report shows of a policy: sends, engaged, per send, within 48 h, per user, overspent."""
    line = next(line for line in shown.splitlines() if line.startswith(policy))
    return [float(figure.replace(",", "")) for figure in line.removeprefix(policy).split()]


def test_the_demo_plays_a_week_reports_serves_and_leaves_nothing_behind(home: Path) -> None:
    Dataset.of(generate(WorldParameters(users=USERS, items=150, weeks=5), 1)).save(home / "tables")
    with serving(home) as shown:
        live, *others = (figures(shown, policy) for policy in POLICIES)
        assert 0 < live[0] <= WEEKLY * USERS
        assert [row[-1] for row in (live, *others)] == [0, 0, 0, 0]
        assert all(abs(row[0] - live[0]) <= 0.2 * live[0] for row in others)

        (sent,) = re.findall(r"urgent item +(\d+) send.*answered in \d+ ms over HTTP", shown)
        mails = [mail.read_text() for mail in (home / "demo" / "maildir" / "new").iterdir()]
        assert 0 < len(mails) == int(sent)
        assert all("Live now: questions and answers" in mail for mail in mails)

        (console,) = re.findall(rf"^http://127\.0\.0\.1:{PORT}/console\S+$", shown, re.MULTILINE)
        with httpx.Client(base_url=f"http://127.0.0.1:{PORT}", follow_redirects=True, timeout=30.0) as browser:
            assert "Tidings" in browser.get(console).raise_for_status().text
            shows = {"scheduled": {"in_app": int(live[0])}, "urgent": {"maildir": int(sent)}}
            until(lambda: browser.get("/console/data").raise_for_status().json()["sends"] == shows, 120)
    left = of_home(home / "demo")
    assert not left, [title(pid) for pid in left]
