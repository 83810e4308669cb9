"""`tidings simulate policies` and `tidings simulate clubhouse`: ways to choose what is sent, and two published filters, lived through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from simulation.clubhouse import LEVEL, WORLDS, Story, StoryConfig, findings, tell
from simulation.contest import CONTESTANTS, ContestConfig, play
from tidings.console import Json, emit, progress
from tidings.policy_page import page


def register(group: typer.Typer) -> None:
    """Add the commands."""
    group.command("policies")(policies)
    group.command("clubhouse")(clubhouse)


def policies(
    users: Annotated[int, typer.Option(min=20, help="How many people live in the world.")] = ContestConfig.users,
    days: Annotated[int, typer.Option(min=7, help="Days of each policy.")] = ContestConfig.days,
    seed: Annotated[int, typer.Option(min=0, help="Draws another world.")] = ContestConfig.seed,
    report_page: Annotated[Path | None, typer.Option("--page", help="Where to write an HTML page of it, for people.")] = None,
    as_json: Json = False,
) -> None:
    """Let ways to choose what is sent live through one world, side by side."""
    config = ContestConfig(users=users, days=days, seed=seed, settle_days=min(ContestConfig.settle_days, days - 1))
    with progress() as bars:
        tasks: dict[str, Any] = {}

        def told(what: str, day: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=config.learn_days if what == "learning" else config.days)
            bars.update(tasks[what], completed=day)

        report = play(config, told)
    if report_page:
        report_page.parent.mkdir(parents=True, exist_ok=True)
        report_page.write_text(page(report), encoding="utf-8")
        report["page"] = str(report_page)
    emit(report, as_json=as_json, summary=contested(report))


def contested(report: dict[str, Any]) -> Table:
    """Return the policies side by side."""
    table = Table(title="what each policy brings, per person and week", title_justify="left", box=None, pad_edge=False)
    table.add_column("policy")
    for title in ("sends", "answered", "beside random", "of 100 sends", "days there", "joins", "left", "overspent"):
        table.add_column(title, justify="right")
    for name in CONTESTANTS:
        row = report["policies"][name]
        answered = row["answered_per_person"]
        beside = "" if name == "random" else f"{answered['low']:+.2f} .. {answered['high']:+.2f}"
        shares = (f"{100 * row['answered_per_send']['value']:.1f}", f"{row['days_there_per_person']['value']:.2f}")
        counts = (f"{row['joins_per_person']:.2f}", f"{row['opt_outs']:,}", f"{row['overspent']:,}")
        table.add_row(name, f"{row['sends_per_person']:.2f}", f"{answered['value']:.2f}", beside, *shares, *counts)
    return table


def clubhouse(
    worlds: Annotated[int, typer.Option(min=1, max=1000, help="How many worlds, with seeds from 1 on.")] = WORLDS,
    users: Annotated[int | None, typer.Option(min=20, help="How many people live in each.")] = None,
    days: Annotated[int, typer.Option(min=7, help="Days of each filter.")] = StoryConfig.live_days,
    tiring: Annotated[float | None, typer.Option(min=0, help="Load of a send in vain; 1, as any other, by default.")] = None,
    as_json: Json = False,
) -> None:
    """Let two published filters live through many worlds, beside everything being sent."""
    config = tired(replace(StoryConfig(), live_days=days), tiring, users)
    with progress() as bars:
        task = bars.add_task("days", total=worlds * (config.learn_days + 3 * config.live_days))
        stories = [tell(seed, config, _advancing(lambda: bars.advance(task))) for seed in range(1, worlds + 1)]
    report = findings(stories) | {"users": config.people.users, "tiring": config.response.tiring, "each": [_of(story) for story in stories]}
    emit(report, as_json=as_json, summary=found(report))


def tired(config: StoryConfig, tiring: float | None, users: int | None) -> StoryConfig:
    """Return a story with another load of a send in vain, or with as many people."""
    response = config.response if tiring is None else replace(config.response, tiring=tiring)
    return replace(config, response=response, people=config.people if users is None else replace(config.people, users=users))


def _advancing(advance: Callable[[], None]) -> Callable[[str, int], None]:
    return lambda _what, _day: advance()


def _of(story: Story) -> dict[str, Any]:
    return {"seed": story.seed, "plain": story.beside("plain"), "discounted": story.beside("discounted")}


PUBLISHED = {"plain": "40 %, level, lower", "discounted": "50 %, not lower"}


def found(report: dict[str, Any]) -> Table:
    """Return what was published beside what the worlds say."""
    title = f"beside everything being sent, means of {report['worlds']} worlds"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    rows = report["filters"]
    for name in rows:
        table.add_column(name, justify="right")
    lines: dict[str, Callable[[dict[str, Any]], str]] = {
        "sends cut, held out": lambda row: f"{row['held_out_cut']:.0%}",
        "sends cut, lived": lambda row: f"{row['cut']:.0%}",
        "joins": lambda row: f"{row['joins'] - 1:+.1%}",
        "joins through a notification": lambda row: f"{row['caused'] - 1:+.1%}",
        f"worlds with joins within {LEVEL:.0%}": lambda row: str(row["worlds_with_level_joins"]),
        "engagement": lambda row: f"{row['active'] - 1:+.1%}",
        "worlds with less of it": lambda row: str(row["worlds_with_less_engagement"]),
        "worlds with less beyond chance": lambda row: str(row["worlds_with_lower_engagement"]),
        "engagement of the quietest quarter": lambda row: f"{row['quiet_active'] - 1:+.1%}",
        "opt-outs": lambda row: f"{row['opt_outs'] - 1:+.0%}",
    }
    for words, line in lines.items():
        table.add_row(words, *(line(row) for row in rows.values()))
    table.add_row("published", *(PUBLISHED[name] for name in rows))
    table.add_row("worlds as published", str(report["worlds_as_published"]))
    return table
