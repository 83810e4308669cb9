"""`tidings demo`: a week of history through the whole live system, with the clock held and moved by hand."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated, Any

import httpx
import pandas as pd
import typer

from delivery.redis_outbox import RedisOutbox
from gateway.api_keys import new_key
from gateway.redis_api_keys import RedisApiKeys
from lake.dataset import Dataset
from lake.errors import InputError
from lake.history import History
from ranking.redis_features import RedisFeatureStore
from scheduler.redis_stores import RedisStores
from simulation.outcomes import overspends, report
from simulation.playback import Features, Playback, play
from simulation.policies import PolicyName
from simulation.replay import WHATEVER_IT_IS_WORTH, ReplayConfig
from simulation.world import generate
from simulation.world_parameters import WorldParameters
from tidings.console import err, out, print_link, say, step
from tidings.demo_view import Scene, Urgent, result
from tidings.home import demo_folder, folder
from tidings.importing import import_into
from tidings.learning import train_bundle
from tidings.running import with_login
from tidings.system import System, Wanted, end_like_ctrl_c, ray_environment, ray_folder, refuse_second, start, store_folder

WEEK = pd.Timedelta(days=7)
LEARNING_WEEKS = 4
BUDGET = 3
CHANNEL, URGENT_CHANNEL = "in_app", "maildir"
URGENT_USERS = 55
URGENT_AFTER = pd.Timedelta(days=2, hours=17)
SHARDS = 2
DELIVER_EVERY_S, DELIVERY_S = 6 * 3600, 10.0
SEED = 1
BASELINES: tuple[PolicyName, ...] = ("popular", "recent", "random")


def demo(
    data: Annotated[Path | None, typer.Option(help="A folder of interchange tables; without it and --git, a synthetic world.")] = None,
    git: Annotated[str | None, typer.Option(help="A git clone, as a path or URL, whose history to play.")] = None,
    port: Annotated[int, typer.Option(help="The port of the HTTP API and the console.")] = 8000,
) -> None:
    """Watch a week of history go through the whole system.

    Serves until Ctrl-C, so that there is something to look at; with DEMO_EXIT=1 in the environment it ends after the report.
    """
    end_like_ctrl_c()
    home = demo_folder()
    os.environ.update({"TIDINGS_HOME": str(home)})
    refuse_second(port)  # before anything of a demo that still runs is removed, and before minutes of training
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    os.environ.update(ray_environment())
    history, what = history_of(data, git, home)
    say(what)
    since, until = week_of(history)
    say(f"the week to play: {since:%a %d %b %Y} to {until:%a %d %b %Y}; the model learns from what came before")
    train_bundle(Dataset.of_checked(history.tables, since), since, home / "model")
    with ExitStack() as stack:
        baselines = stack.enter_context(Baselines(home, since, until))
        with step("starting the system"):
            system = start(wanted(home, port), lambda text: err.log(f"[dim]{text}[/]"))
        stack.callback(system.stop)
        say("the week goes by; the console shows it meanwhile, at a link that opens it once:")
        err.print(system.state.console_url, soft_wrap=True, highlight=False, markup=False)
        scene = perform(history, since, until, system)
        out.print(result(scene, compare(history, scene, baselines.rows()), system.state, home))
        print_link(with_login(system.state).console_url)
        if os.environ.get("DEMO_EXIT") != "1":
            say("[bold]Still serving, with the clock held at the end of that week. Ctrl-C ends it.[/]")
            with suppress(KeyboardInterrupt):
                threading.Event().wait()


def history_of(data: Path | None, git: str | None, home: Path) -> tuple[Dataset, str]:
    """Return the history to play and a line about it."""
    source = str(data) if data is not None else git
    if source is None:
        with step("making a world"):
            history = Dataset.of(generate(WorldParameters(), SEED))
            history.save(home / "data")
        return history, "[bold yellow]synthetic data[/]: a small seeded world, nobody real; --data or --git plays your own"
    import_into([source], home / "data", "git" if git is not None else "auto")
    history = Dataset.load(home / "data")
    return history, f"{len(history.users):,} users, {len(history.items):,} items, {len(history.events):,} events from {source}"


def week_of(history: Dataset) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Return the last week of which a week of aftermath is known, or where history is short the last week there is."""
    end = history.events["at"].max().floor("D")
    known_for = end - history.events["at"].min()
    until = end - WEEK if known_for >= (LEARNING_WEEKS + 2) * WEEK else end
    return until - WEEK, until


def wanted(home: Path, port: int) -> Wanted:
    """Return the system to start: a week's windows on the inbox, urgent items to a Maildir, and a clock that waits."""
    settings = {
        "shards": SHARDS,
        "ticking": False,
        "scheduled_channels": [CHANNEL],
        "weekly": {CHANNEL: BUDGET, URGENT_CHANNEL: BUDGET},
        "threshold": {CHANNEL: WHATEVER_IT_IS_WORTH},  # so that its volume is that of the baselines it is shown beside
        "top_n": 1,
        "channels": [{"kind": "in_app"}, {"kind": "maildir", "path": str(home / "maildir")}],
        "rankers": [1, 1],
        "history": str(home / "history"),
    }
    return Wanted(model=str(home / "model"), store=store_folder(None), port=port, ray_folder=ray_folder(), settings=settings)


def perform(history: Dataset, since: pd.Timestamp, until: pd.Timestamp, system: System) -> Scene:
    """Play the week through the running system, with an urgent item in the middle; returns what happened."""
    from tidings.ray_demo import scheduler_tick

    stores = RedisStores.open(system.state.store_url)
    features = RedisFeatureStore(stores.client, stores.meta.keys)
    stores.clock.hold(since.timestamp())
    playback = Playback(
        history, stores.loading(), stores.seen, stores.ledger, Features.of(history, features), since.timestamp(), windows_per_week=BUDGET
    )
    with step("bringing the store to the start of the week"):
        playback.start()
    scene = Scene(since, until)
    urgent_at = (since + URGENT_AFTER).timestamp()
    with scheduler_tick(system.state) as tick_now, scene.live():

        def tick(_slot: int, now: float) -> None:
            stores.clock.hold(now)
            scene.add(tick_now())

        def told(now: float) -> None:
            scene.at(now)
            if scene.urgent is None and now >= urgent_at:
                playback.advance(now)
                stores.clock.hold(now)
                scene.urgent = post_urgent(stores, history, system.state.api_url, now)
            # The clock runs thousands of times too fast for whoever delivers: what expires soon would not arrive.
            if now % DELIVER_EVERY_S == 0 or now == urgent_at:
                wait_for_deliveries(stores, now)

        play(playback, until.timestamp(), lambda slot: int(stores.due.counts(slot).sum()), tick, told)
    stores.clock.hold(until.timestamp())
    with step("delivering what is on its way, filing the decisions"):
        wait_for_deliveries(stores, until.timestamp())
        scene.decisions = filed(stores, history, folder() / "history", since, until)
    return scene


def post_urgent(stores: RedisStores, history: Dataset, api_url: str, now: float) -> Urgent:
    """Send one urgent item over HTTP to the people who have been most active, and return what was decided."""
    moment = pd.Timestamp(now, unit="s", tz="UTC")
    lately = history.events[(history.events["at"] < moment) & (history.events["at"] >= moment - WEEK)]
    users = lately["user_id"].value_counts().head(URGENT_USERS).index.tolist()
    newest = history.items[history.items["created_at"] < moment].iloc[-1]
    item: dict[str, Any] = {
        "item_id": "urgent-demo",
        "created_at": moment.isoformat(),
        "title": "Live now: questions and answers",
        "text": "It has just begun and will be over in an hour.",
        "topics": list(newest["topics"]) if "topics" in newest else [],
        "half_life_s": 1200,
        "expires_at": (moment + pd.Timedelta(hours=1)).isoformat(),
    }
    key, token = new_key(("urgent",), now, name="demo")
    RedisApiKeys(stores.client).put(key)
    body = {"item": item, "users": users, "channels": [URGENT_CHANNEL]}
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "demo"}
    answer = httpx.post(f"{api_url}/v1/urgent", json=body, headers=headers, timeout=30.0)
    answer.raise_for_status()
    return Urgent.of(answer.json(), answer.elapsed.total_seconds() * 1000)


def wait_for_deliveries(stores: RedisStores, now: float) -> None:
    """Return once nothing is on its way, or after a while; the clock goes on from `now` meanwhile, for what was put off.

    What waits for the end of its user's quiet hours is left waiting.
    """
    outbox, shards = RedisOutbox(stores.client, stores.meta.keys), range(stores.meta.shards)
    began = time.monotonic()
    while any(each.ready for each in outbox.backlog(shards, now + DELIVERY_S)) and (waited_s := time.monotonic() - began) < DELIVERY_S:
        stores.clock.hold(now + waited_s)
        time.sleep(0.02)


def filed(stores: RedisStores, history: Dataset, files: Path, since: pd.Timestamp, until: pd.Timestamp) -> pd.DataFrame:
    """Return the week's decision log out of its files, with users by name."""
    log = stores.decision_log(History(str(files)))
    for shard in range(stores.meta.shards):
        while log.drain(shard):
            pass
    frame = log.history.read("decisions", since.timestamp(), until.timestamp())
    users = history.users["user_id"].tolist()
    names = {key: user for user, key in zip(users, stores.user_keys.known(users), strict=True) if key is not None}
    return frame.assign(user_id=frame["user_key"].map(names))


class Baselines:
    """The same week as baselines would have had it, replayed by `tidings replay` beside the live one, which it gives way to."""

    def __init__(self, home: Path, since: pd.Timestamp, until: pd.Timestamp) -> None:
        self._out, self._log = home / "baselines", home / "baselines.log"
        policies = [word for policy in BASELINES for word in ("--policy", policy)]
        days = ["--from", since.isoformat(), "--to", until.isoformat(), "--budget", str(BUDGET), "--channel", CHANNEL]
        replay = [
            str(Path(sys.executable).parent / "tidings"),
            "replay",
            "--data",
            str(home / "data"),
            *days,
            *policies,
            "--out",
            str(self._out),
        ]
        self._command = ["nice", "-n", "19", *replay]

    def __enter__(self) -> Baselines:
        with self._log.open("w") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()

    def rows(self) -> pd.DataFrame:
        """Return every decision once all are made, `policy` among the columns; raises InputError where they were not."""
        with step(f"the same week, as {', '.join(BASELINES)} would have had it"):
            code = self._process.wait()
        if code:
            raise InputError(f"the baselines could not be replayed; {self._log} ends with:\n{self._log.read_text()[-1000:]}")
        return pd.read_parquet(self._out / "decisions.parquet")


def compare(history: Dataset, scene: Scene, baselines: pd.DataFrame) -> dict[str, Any]:
    """Return what the sends were worth, and what baselines at equal volume would have been."""
    ours = scene.decisions[scene.decisions["lane"] == "scheduled"]
    plays = {"ranked, live": ours} | {policy: baselines[baselines["policy"] == policy] for policy in BASELINES}
    worth = {}
    for name, rows in plays.items():
        sends = rows[rows["disposition"] == "send"]
        worth[name] = report(rows, history.events, horizon_days=ReplayConfig.horizon_days, overspent=overspends(sends, BUDGET))
    return worth
