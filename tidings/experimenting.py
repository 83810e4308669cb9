"""`tidings experiment`: who falls to which arm, and what the arms did."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from rich.console import Group, RenderableType
from rich.table import Table

from budgets.experiments import MOST_HELD_OUT, Experiment, Holdout
from lake.dataset import Dataset
from lake.errors import InputError
from lake.table_files import read_file
from lake.tables import ID, NAME, TIME, Column, Schema
from simulation.arms_report import METRICS, Period, Split, report
from simulation.tenths import TENTHS
from tidings.console import Json, emit, facts, say, step
from tidings.learning import WRITERS, DataOption, instant, write_table

USERS = Schema("users", (Column("user_id", ID, required=True),))
ASSIGNED = Schema("assigned", (Column("user_id", ID, required=True), Column("arm", NAME, required=True)), key=("user_id",))
DECISIONS = Schema(
    "decisions",
    (
        Column("user_id", ID, required=True),
        Column("item_id", ID, required=True),
        Column("at", TIME, required=True),
        Column("disposition", NAME, required=True),
        *(Column(name, NAME) for name in ("reason", "lane", "source", "policy")),
    ),
)
ArmOption = Annotated[
    list[str] | None,
    typer.Option("--arm", help="An arm, such as new=0.5 with a weight; the first is the control. By default control and treatment."),
]
NameOption = Annotated[str | None, typer.Option(help="The experiment's name, which also salts its draw.")]
SaltOption = Annotated[str, typer.Option(help="Another salt than the name, to draw anew or to keep a draw under a new name.")]
HoldoutOption = Annotated[
    float, typer.Option(min=0, max=MOST_HELD_OUT, help="The share of users that the deployment holds out; they are in no arm.")
]
HoldoutSaltOption = Annotated[str, typer.Option(help="The salt of the deployment's holdout.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(no_args_is_help=True, help="Assign users to the arms of an experiment, and compare what the arms did.")
    group.command("assign")(assign)
    group.command("report")(report_command)
    app.add_typer(group, name="experiment")


def assign(
    users: Annotated[Path, typer.Option(help="A table with user_id, or a folder of interchange tables.")],
    out: Annotated[Path, typer.Option(help=f"The table of user_id and arm to write, ending in {', '.join(WRITERS)}.")],
    name: NameOption = None,
    arm: ArmOption = None,
    salt: SaltOption = "",
    holdout: HoldoutOption = 0.0,
    holdout_salt: HoldoutSaltOption = Holdout.salt,
    as_json: Json = False,
) -> None:
    """Write the arm of each user; the same user always falls to the same arm of the same experiment. Without --name: who is held out."""
    if out.suffix not in WRITERS:
        raise InputError(f"{out}: name a file to write that ends in {', '.join(WRITERS)}")
    asked = Asked.of(name, arm, salt, holdout, holdout_salt)
    with step(f"reading {users}"):
        everybody = Dataset.load(users).users["user_id"] if users.is_dir() else read(users, USERS)["user_id"].drop_duplicates()
    split = asked.split(pd.Index(everybody.astype(object)))
    names = np.array([*split.arms, "held_out"], object)[split.arm]
    with step(f"writing {out}"):
        write_table(pd.DataFrame({"user_id": split.users, "arm": names}), out)
    counts = dict(zip(split.arms, split.counts.tolist(), strict=True))
    left_out = {"held_out": int((split.arm < 0).sum())} if name else {}
    emit(
        {"experiment": asked.name, "out": str(out), "users": len(split.users), "arms": counts, **left_out},
        as_json=as_json,
        summary=facts({"users": len(split.users), **counts, **left_out, "out": str(out)}),
    )


def report_command(
    data: DataOption,
    decisions: Annotated[
        Path | None, typer.Option(help="The decision log, such as a replay's decisions.parquet; without it the sends table of --data.")
    ] = None,
    name: NameOption = None,
    arm: ArmOption = None,
    salt: SaltOption = "",
    assigned: Annotated[Path | None, typer.Option(help="A table of user_id and arm, where another system drew them.")] = None,
    holdout: HoldoutOption = 0.0,
    holdout_salt: HoldoutSaltOption = Holdout.salt,
    policy: Annotated[str | None, typer.Option(help="Which policy of a replay's decisions to look at.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="The first moment that counts; by default the first decision's.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="The moment to stop before; by default the end of the events.")] = None,
    horizon: Annotated[int, typer.Option(min=1, help="Days after a send within which an engagement counts for it.")] = 14,
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="How often the intervals are to hold the true value.")] = 0.95,
    as_json: Json = False,
) -> None:
    """Compare the arms of an experiment, or without --name and --assigned those who are held out with everybody else."""
    asked = Asked.of(name, arm, salt, holdout, holdout_salt, assigned)
    with step(f"reading {data}"):
        history = Dataset.load(data)
    log = decided(decisions, policy) if decisions else None
    sends = history.sends if log is None else log[log["disposition"] == "send"]
    people = history.users["user_id"] if log is None else log["user_id"].drop_duplicates()
    split = asked.split(pd.Index(people.astype(object)))
    first = sends["at"].min() if log is None else log["at"].min()
    end = history.events["at"].max() + pd.Timedelta(microseconds=1)
    period = Period(instant(since) if since else first, instant(until) if until else end, end, horizon)
    if pd.isna(first):
        raise InputError("nothing was sent there yet, so there is nothing to compare; collect again once something was")
    if not period.since < period.until:
        raise InputError(
            f"nothing is left to compare between {period.since} and {period.until}; give --from and --to within the data's time"
        )
    found = report(split, sends, history.events, period, level)
    leaks = leaked(log, asked.holdout)
    warnings = doubts(found, leaks, split)
    for warning in warnings:
        say(f"[bold yellow]warning:[/] {warning}")
    about = {"experiment": asked.name, "from": period.since.isoformat(), "to": period.until.isoformat(), "horizon_days": horizon}
    left_out = {"in_no_arm": int((split.arm < 0).sum()), "scheduled_sends_to_held_out": leaks}
    emit({**about, **found, **left_out, "warnings": warnings}, as_json=as_json, summary=summary(found))


@dataclass(frozen=True)
class Asked:
    """What is to be compared: an experiment's arms, a table's arms, or the holdout with everybody else."""

    name: str
    experiment: Experiment | None
    holdout: Holdout
    table: Path | None = None

    @staticmethod
    def of(name: str | None, arms: list[str] | None, salt: str, share: float, holdout_salt: str, assigned: Path | None = None) -> Asked:
        """Return what a person asked for; raises InputError where it is nothing, or no experiment."""
        if assigned is None and name is None and not share:
            raise InputError("name the experiment with --name, or the share of a holdout with --holdout to compare it with everybody else")
        if assigned is not None and name is None:
            name = assigned.stem
        holdout = Holdout(share, holdout_salt)
        if name is None:
            if arms or salt:
                raise InputError("--arm and --salt belong to an experiment: name it with --name")
            return Asked("holdout", None, holdout)
        parts = [weighed(text) for text in arms or ("control", "treatment")]
        try:
            experiment = Experiment(name, tuple(arm for arm, _ in parts), tuple(weight for _, weight in parts), salt)
        except ValueError as error:
            raise InputError(str(error)) from None
        return Asked(name, experiment, holdout, assigned)

    def split(self, users: pd.Index[str]) -> Split:
        """Return the arms of users."""
        held = self.holdout.holds(users.to_numpy(object))
        if self.experiment is None:
            return Split(users, np.where(held, 0, 1), ("held_out", "told"), np.array([self.holdout.share, 1 - self.holdout.share]))
        if self.table is None:
            code = self.experiment.assign(users.to_numpy(object)).astype(np.int64)
        else:
            rows = read(self.table, ASSIGNED)
            code = pd.Index(self.experiment.arms).get_indexer(pd.Index(rows["arm"].astype(object)))
            strange = (code < 0) & (rows["arm"] != "held_out").to_numpy()
            if strange.any():
                row = int(np.argmax(strange))
                raise InputError(
                    f"{self.table}: table assigned, column arm, row {row + 1:,}: {rows['arm'].iloc[row]!r} is none of the arms "
                    f"{', '.join(self.experiment.arms)}; name all of them with --arm, the control first"
                )
            at = pd.Index(rows["user_id"].astype(object)).get_indexer(users)
            code = np.where(at >= 0, np.append(code, -1)[at], -1)
        return Split(users, np.where(held, -1, code), self.experiment.arms, self.experiment.shares)


def weighed(text: str) -> tuple[str, float]:
    """Return an arm and its weight, 1 where it says none; raises InputError."""
    name, given, weight = text.partition("=")
    try:
        return name, float(weight) if given else 1.0
    except ValueError:
        raise InputError(f"--arm {text!r}: {weight!r} is no weight; write an arm such as treatment=0.5") from None


def read(path: Path, schema: Schema) -> pd.DataFrame:
    """Return the checked rows of a file; raises InputError naming file, column and row."""
    rows = schema.frame(schema.check(read_file(path, schema.expected), str(path)))
    if rows.empty:
        raise InputError(f"{path}: has no rows")
    return rows


def decided(path: Path, policy: str | None) -> pd.DataFrame:
    """Return the rows of a decision log, of one policy; raises InputError where there are several and none was named."""
    rows = read(path, DECISIONS)
    there = sorted(rows["policy"].dropna().unique())
    if policy is None and len(there) > 1:
        raise InputError(f"{path}: holds what several policies decided; name one with --policy: {', '.join(there)}")
    if policy is not None and policy not in there:
        raise InputError(f"{path}: holds no policy {policy!r}; there {'is ' + ', '.join(there) if there else 'are no policies in it'}")
    return rows if policy is None else rows[rows["policy"] == policy].reset_index(drop=True)


def leaked(log: pd.DataFrame | None, holdout: Holdout) -> int | None:
    """Return how many scheduled sends went to those held out, but for what the urgent lane had put off; None where no log tells."""
    if log is None or not holdout.share:
        return None
    sent = log[(log["disposition"] == "send") & log["lane"].fillna("scheduled").eq("scheduled") & log["source"].ne("held")]
    return int(holdout.holds(sent["user_id"].to_numpy(object)).sum())


def doubts(found: dict[str, Any], leaks: int | None, split: Split) -> list[str]:
    """Return what speaks against believing the comparison, each a sentence with what to do."""
    warnings = []
    if not found["sample_ratio"]["ok"]:
        counts = ", ".join(f"{arm} {row['share']:.2%} (not {row['wanted_share']:.2%})" for arm, row in found["arms"].items())
        p_value = found["sample_ratio"]["p_value"]
        warnings.append(
            f"users did not fall to the arms as they should have: {counts}; p = {p_value:.2g}. Find out who is lost before reading on"
        )
    if leaks:
        warnings.append(
            f"{leaks:,} scheduled sends went to users who are held out: check --holdout and --holdout-salt against the deployment's"
        )
    if split.counts.min() < FEW:
        warnings.append(f"an arm has fewer than {FEW} users: its intervals are too narrow to trust")
    return warnings


FEW = 100


def summary(found: dict[str, Any]) -> RenderableType:
    """Return the arms and what they differ in as tables."""
    arms = Table(box=None, pad_edge=False)
    arms.add_column("per arm")
    for name in found["arms"]:
        arms.add_column(name, justify="right")
    columns = found["arms"].values()
    arms.add_row("users", *(f"{column['users']:,} ({column['share']:.2%})" for column in columns))
    for metric, words in METRICS.items():
        arms.add_row(words, *(_figure(column[metric], ".4f") for column in columns))
    beside = Table(box=None, pad_edge=False)
    beside.add_column(f"beside {found['comparisons'][0]['control']}")
    beside.add_column("arm")
    for title in ("difference", f"{found['level']:.0%} interval", "lift", "p", "q"):
        beside.add_column(title, justify="right")
    for row in found["comparisons"]:
        interval = " .. ".join(_figure(row[name], "+.4f") for name in ("low", "high"))
        shown = (("difference", "+.4f"), ("lift", "+.1%"), ("p_value", ".3f"), ("q_value", ".3f"))
        first, *rest = (_figure(row[name], form) for name, form in shown)
        beside.add_row(METRICS[row["metric"]], row["arm"], first, interval, *rest)
    check = found["sample_ratio"]
    verdict = f"sample ratio: {'as it should be' if check['ok'] else 'WRONG'}, p = {check['p_value']:.3g}"
    return Group(arms, "", beside, "", tenths(found), "", verdict)


def tenths(found: dict[str, Any]) -> RenderableType:
    """Return what share of each arm's sends went to tenths of the users by their activity before, and how much of that was engaged with."""
    table = Table(box=None, pad_edge=False)
    table.add_column("sends, engaged per send")
    for arm in found["arms"]:
        table.add_column(arm, justify="right")
    parts = [column["by_activity_decile"] for column in found["arms"].values()]
    for place, row in enumerate(zip(*parts, strict=True), start=1):
        name = {1: "tenth 1, the least active", TENTHS: f"tenth {TENTHS}, the most active"}.get(place, f"tenth {place}")
        rates = (np.nan if part["engaged_per_send"] is None else part["engaged_per_send"] for part in row)
        table.add_row(name, *(f"{part['share_of_sends']:.1%}, {_figure(rate, '.4f')}" for part, rate in zip(row, rates, strict=True)))
    return table


def _figure(value: float, form: str) -> str:
    return "-" if np.isnan(value) else f"{value:{form}}"
