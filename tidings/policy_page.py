"""The report of `tidings simulate policies` as one HTML page without anything from elsewhere, for whoever decides what to send."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from simulation.contest import WORDS
from tidings.line_plot import line_plot

TEMPLATE = "policies.html.j2"
PLOTS = {
    "weekly_sends": (
        "Sends of the last seven days, per person",
        "A paced policy keeps to its budget; a cut by score sends whatever passes it, up to the hard limit.",
    ),
    "share_there": (
        "Share of the people who were there, mean of seven days",
        "People come of their own accord out of habit, or for what they were told.",
    ),
    "opt_outs": ("People who have left so far", "Whoever is told much in vain unsubscribes sooner."),
}
TENTHS = {
    "share_of_sends": ("Share of the sends, in percent", "An even hand gives each tenth of the people a tenth of the sends."),
    "engaged_per_send": ("Of 100 sends answered", "Whether what they are told concerns them."),
}
METRICS = ("answered_per_person", "answered_per_send", "days_there_per_person")


def page(report: dict[str, Any]) -> str:
    """Return the page of a report of simulation.contest.play."""
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=folder, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    policies = report["policies"]
    best = max(policies, key=lambda name: policies[name]["answered_per_person"]["value"])
    return environment.get_template(TEMPLATE).render(
        report=report,
        headline=headline(policies, best),
        rows=[_row(name, row, name == best) for name, row in policies.items()],
        tenths=[(title, words, [(name, _tenths(row, key)) for name, row in policies.items()]) for key, (title, words) in TENTHS.items()],
        plots=[plot for figure in PLOTS if (plot := _plot(figure, report)) is not None],
        policies={name: WORDS[name] for name in policies},
    )


def headline(policies: dict[str, Any], best: str) -> str:
    """Return what a page says first: which policy brings most, and whether that can be told from chance."""
    mine, random = policies[best], policies["random"]
    value, other = mine["answered_per_person"]["value"], random["answered_per_person"]["value"]
    if best == "random":
        return "No policy brings more answers than a random audience in this world."
    times = f"{value / other:.1f} times as many answers as a random audience" if other else "more answers than a random audience"
    sure = "" if mine["answered_per_person"]["low"] > 0 else ", which chance alone could do as well"
    second = max((name for name in policies if name != best), key=lambda name: policies[name]["answered_per_person"]["value"])
    sends, others = mine["sends_per_person"], policies[second]
    return (
        f"{best.capitalize()} brings most here: {value:.2f} answers per person and week with {sends:.1f} sends, {times}{sure}. "
        f"Next is {second}: {others['answered_per_person']['value']:.2f} with {others['sends_per_person']:.1f} sends."
    )


def _row(name: str, row: dict[str, Any], best: bool) -> dict[str, Any]:
    return {
        "name": name,
        "best": best,
        "sends": f"{row['sends_per_person']:.2f}",
        "answered": f"{row['answered_per_person']['value']:.2f}",
        "per_send": f"{100 * row['answered_per_send']['value']:.1f}",
        "there": f"{row['days_there_per_person']['value']:.2f}",
        "joins": f"{row['joins_per_person']:.2f}",
        "opt_outs": f"{row['opt_outs']:,}",
        "overspent": f"{row['overspent']:,}",
        "beside": [] if name == "random" else [_beside(row[metric], 100 if metric == "answered_per_send" else 1) for metric in METRICS],
    }


def _tenths(row: dict[str, Any], key: str) -> list[str]:
    return ["-" if part[key] is None else f"{100 * part[key]:.1f}" for part in row["by_activity_decile"]]


def _beside(found: dict[str, float], scale: float) -> str:
    return f"{scale * found['difference']:+.2f} ({scale * found['low']:+.2f} to {scale * found['high']:+.2f})"


def _plot(figure: str, report: dict[str, Any]) -> tuple[str, str, str] | None:
    """Return a plot with its title and words, None where there is nothing to draw."""
    title, words = PLOTS[figure]
    lines = {name: course[figure] for name, course in report["courses"].items()}
    if figure == "weekly_sends":
        lines["soft budget"] = [report["soft"]] * report["days"]
    days = max(len(line) for line in lines.values())
    if days < 2 or max(max(line) for line in lines.values()) <= 0:
        return None
    marks = {day: f"day {day + (report['days'] - days) + 1}" for day in range(0, days, 7)}
    return title, words, line_plot("", lines, marks)
