"""`tidings bench`: how fast this machine does the work, each figure beside a peer that was measured in the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tidings.console import Json, emit, facts, say

Keep = Annotated[
    Path | None, typer.Option(help="A folder that keeps the made-up tables and the model, so that the next run need not make them.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Measure speed against a peer in the same run.")
    group.command("urgent")(urgent)
    group.command("window")(window)
    group.command("ledger")(ledger)
    group.command("send-time")(send_time)
    group.command("assignment")(assignment)
    group.command("failover")(failover)
    group.command("light")(light)
    group.command("score")(score)
    group.command("thresholds")(thresholds)
    group.command("world")(world)
    group.command("courier")(courier)
    group.command("refresh")(refresh)
    group.command("audience")(audience)
    app.add_typer(group, name="bench")


def urgent(
    connections: Annotated[str, typer.Option(help="How many requests at once, one run each.")] = "8,16,32,48,64",
    seconds: Annotated[float, typer.Option(min=0.5, help="How long each run is measured.")] = 8.0,
    with_window: Annotated[bool, typer.Option("--window", help="Meanwhile decide everybody's windows without pause.")] = False,
    users: Annotated[int, typer.Option(min=500, help="How many users there are.")] = 20_000,
    new_items: Annotated[float, typer.Option(min=0, max=1, help="Share of requests that bring an item nobody has heard of.")] = 0.0,
    keep: Keep = None,
    as_json: Json = False,
) -> None:
    """Urgent requests over HTTP: 55 candidates each, ranked, decided, and on disk when answered."""
    from tidings.bench_data import BenchData
    from tidings.bench_urgent import UrgentLoad, run

    counts = tuple(int(count) for count in connections.split(",") if count.strip().isdecimal() and int(count))
    if not counts:
        raise typer.BadParameter(f"{connections!r} is no list of numbers such as 8,16,32", param_hint="--connections")
    load = UrgentLoad(counts, measure_s=seconds, new_items=new_items)
    _emit(run(load, BenchData(users=users), with_window=with_window, keep=keep, step=_step), as_json)


def window(
    users: Annotated[int, typer.Option(min=500, help="How many users' windows open at once.")] = 20_000,
    rounds: Annotated[int, typer.Option(min=1, max=12, help="How many windows are measured.")] = 5,
    keep: Keep = None,
    as_json: Json = False,
) -> None:
    """Everybody's window at once, 50 candidates each, from the store to the outbox."""
    from tidings.bench_data import BenchData
    from tidings.bench_window import run

    _emit(run(BenchData(users=users), rounds=rounds, keep=keep, step=_step), as_json)


def ledger(as_json: Json = False) -> None:
    """The commit: users per second on one store, and a crowd of deciders against the same budgets."""
    from tidings.bench_ledger import run

    _emit(run(), as_json)


def send_time(
    users: Annotated[int, typer.Option(min=100, help="How many users.")] = 1_000_000,
    as_json: Json = False,
) -> None:
    """The hours of the week at which each of many users is likely to engage."""
    from tidings.bench_send_time import run

    _emit(run(users=users, step=_step), as_json)


def assignment(
    users: Annotated[int, typer.Option(min=1, help="How many users of each shape of problem.")] = 1_000,
    seed: Annotated[int, typer.Option(min=0, help="Which users are made up.")] = 0,
    hunted: Annotated[int, typer.Option(min=0, help="In how many random shapes worse cases are searched for.")] = 60,
    as_json: Json = False,
) -> None:
    """Joint plans of users' next windows beside the exact optimum of each."""
    from tidings.bench_assignment import run

    _emit(run(users=users, seed=seed, hunted=hunted, step=_step), as_json)


def failover(
    users: Annotated[int, typer.Option(min=100, help="How many users' windows open at once.")] = 100_000,
    ttl: Annotated[float, typer.Option(min=1.0, help="Seconds that a lease outlives a heartbeat; all else goes in proportion.")] = 20.0,
    as_json: Json = False,
) -> None:
    """A window whose schedulers are killed, frozen and find the clock set: ten times in a row, and killed at 10, 50 and 90 %."""
    from tidings.bench_failover import run, sized

    _emit(run(sized(users, ttl), step=_step), as_json)


def light(
    data: Annotated[Path | None, typer.Option(help="A folder of interchange tables, by default made up; takes --model.")] = None,
    model: Annotated[Path | None, typer.Option(help="A model trained on these tables.")] = None,
    candidates: Annotated[int, typer.Option(min=2, help="How many candidates each user has.")] = 500,
    limit: Annotated[int, typer.Option(min=1, help="To how many the light model cuts them.")] = 100,
    users: Annotated[int, typer.Option(min=1, help="How many users.")] = 400,
    urgent: Annotated[int, typer.Option(min=0, help="How many items of the made-up site are a minute old.")] = 0,
    as_json: Json = False,
) -> None:
    """Users with a crowd of candidates, cut by the light model before the heavy one ranks them."""
    from tidings.bench_light import Crowd, run

    if (data is None) != (model is None):
        raise typer.BadParameter("--data and --model go together")
    _emit(run(Crowd(users=users, candidates=candidates, most_per_user=limit, urgent=urgent), data=data, model=model, step=_step), as_json)


def score(
    data: Annotated[Path | None, typer.Option(help="A folder of interchange tables, by default made up; takes --model.")] = None,
    model: Annotated[Path | None, typer.Option(help="A model trained on these tables.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="How many candidates.")] = 1_000_000,
    as_json: Json = False,
) -> None:
    """Candidates of many moments, from tables in memory to probabilities, beside the prediction alone."""
    from tidings.bench_score import Candidates, run

    if (data is None) != (model is None):
        raise typer.BadParameter("--data and --model go together")
    _emit(run(Candidates(rows=rows), data=data, model=model, step=_step), as_json)


def thresholds(
    cells: Annotated[int, typer.Option(min=1000, help="How many pairs of user and channel.")] = 1_000_000,
    per_cell: Annotated[int, typer.Option(min=1, help="How many new values of the day each has.")] = 8,
    policy: Annotated[str, typer.Option(help="How thresholds are kept: steered or paced.")] = "steered",
    as_json: Json = False,
) -> None:
    """A day's update of the least value worth a unit, for every user and channel."""
    from budgets.keeping import KEPT
    from tidings.bench_thresholds import run

    for name, kept in KEPT.items():
        if name == policy:
            _emit(run(cells, per_cell, _step, kept.controller), as_json)
            return
    raise typer.BadParameter(f"{policy!r} is none of {', '.join(KEPT)}", param_hint="--policy")


def world(
    user_days: Annotated[int, typer.Option(min=20_000, help="How many days of a person are played.")] = 1_000_000, as_json: Json = False
) -> None:
    """Days of the simulated world's people, in arrays and through the real pipeline."""
    from tidings.bench_world import run

    _emit(run(user_days, _step), as_json)


def courier(
    channel: Annotated[str, typer.Option(help="Which way out: in_app, webhook or email, to a receiver on this machine.")] = "in_app",
    messages: Annotated[int | None, typer.Option(min=1, help="How many messages wait in the outbox, by default 50,000.")] = None,
    users: Annotated[int, typer.Option(min=1, help="Over how many people they are spread.")] = 20_000,
    couriers: Annotated[int, typer.Option(min=1, max=16, help="How many deliver, each its share of the shards, in processes.")] = 1,
    backlog: Annotated[bool, typer.Option("--backlog", help="A long backlog: 1,000,000 messages, to see the memory it takes.")] = False,
    outage: Annotated[
        bool, typer.Option("--outage", help="The urgent lane's pace, in-app, while e-mail's provider works, refuses or is silent.")
    ] = False,
    as_json: Json = False,
) -> None:
    """A backlog of granted messages, from the outbox to a receiver, each with its outcome on disk."""
    from tidings.bench_courier import BACKLOG, CHANNELS, MESSAGES, Load, run

    if outage:
        from tidings import bench_outage

        _emit(bench_outage.run(step=_step), as_json)
        return
    if channel not in CHANNELS:
        raise typer.BadParameter(f"{channel!r} is none of {', '.join(CHANNELS)}", param_hint="--channel")
    if backlog and messages is not None:
        raise typer.BadParameter("--backlog says how many messages; leave out --messages", param_hint="--backlog")
    _emit(run(Load(channel, messages or (BACKLOG if backlog else MESSAGES), users, couriers), step=_step), as_json)


def refresh(
    users: Annotated[int, typer.Option(min=1_000, help="How many users there are; their items and events grow with them.")] = 100_000,
    as_json: Json = False,
) -> None:
    """The daily refresh: everybody's features and windows from the tables, and the memory it takes."""
    from tidings.bench_refresh import run

    _emit(run(users, step=_step), as_json)


def audience(
    users: Annotated[int, typer.Option(min=100, help="How many follow the topic.")] = 1_000_000,
    as_json: Json = False,
) -> None:
    """One urgent item for all followers of a topic, page by page to the outbox, and the memory it takes."""
    from tidings.bench_audience import run

    _emit(run(users, step=_step), as_json)


def _step(text: str) -> None:
    say(f"[dim]{text}[/]")


def _emit(report: dict[str, Any], as_json: bool) -> None:
    plain = {name: value for name, value in report.items() if not isinstance(value, dict | list)}
    emit(report, as_json=as_json, summary=facts(plain))
