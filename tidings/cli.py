"""The `tidings` command. A module per group of commands, imported only when one of its commands runs, so that help is instant.

How to write a command:
- A module of this package exposes `register(app: typer.Typer) -> None`, which adds its commands to `app`: `app.command("train")(train)`,
  or for a group such as `keys new`, `app.add_typer(keys, name="keys")`. The module may import whatever it needs at the top.
- COMMANDS below has a line for each command: its name, its module, and its summary in `tidings --help`.
- Arguments are `Annotated[..., typer.Option(...)]`; a command that reports takes `as_json: Json = False` (tidings.console.Json).
- It speaks through tidings.console: `emit(report, as_json=as_json, summary=...)` once at the end, on stdout; `say`, `progress`, `step`
  on stderr. It never calls print.
- Bad input raises lake.errors.InputError with a message that says what was wrong, where, and what to do: the command ends with that
  message and exit code 2, and no traceback. `fail(message, code=1)` ends a command for any other reason.
- tidings.home knows where this machine's state lies, what is running, and which store to talk to.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_group

from lake.errors import InputError
from tidings.console import fail, out, step


class Command(NamedTuple):
    """Where a command lives and what `tidings --help` says of it."""

    module: str
    summary: str
    panel: str


_DATA, _TRY, _RUN = "Learn from history", "Try it", "Run it"

COMMANDS = {
    "import": Command("tidings.importing", "Read tables, a Deskdrop export or a git clone into a folder of tables.", _DATA),
    "train": Command("tidings.learning", "Train a model on what happened before a moment.", _DATA),
    "calibrate": Command("tidings.calibrating", "Fit a model's probabilities to what has happened since its training.", _DATA),
    "score": Command("tidings.learning", "Score candidates with a trained model.", _DATA),
    "send-times": Command("tidings.timing", "Predict each user's best hours of the week.", _DATA),
    "evaluate": Command("tidings.evaluating", "Estimate from logs what a policy or a treatment is worth.", _DATA),
    "experiment": Command("tidings.experimenting", "Assign users to the arms of an experiment, and compare what the arms did.", _DATA),
    "demo": Command("tidings.replaying", "Watch a week of history go through the whole system.", _TRY),
    "replay": Command("tidings.replaying", "Play history through the pipeline and compare policies.", _TRY),
    "preview": Command("tidings.previewing", "Show what a message would say to a user, without sending it.", _TRY),
    "simulate": Command("tidings.simulating", "Play a world with known truth, and compare ways to keep to a budget.", _TRY),
    "bench": Command("tidings.benching", "Measure speed against a peer in the same run.", _TRY),
    "up": Command("tidings.running", "Start the whole system on this machine.", _RUN),
    "down": Command("tidings.running", "Stop it, losing nothing.", _RUN),
    "status": Command("tidings.running", "Say what is running and where to look.", _RUN),
    "doctor": Command("tidings.doctor", "Say what was found, what is wrong, and what to do.", _RUN),
    "deadletters": Command("tidings.deadletters", "List and replay what could not be delivered.", _RUN),
    "refresh": Command("tidings.refreshing", "Publish features and windows by what is known now, as happens once a day.", _RUN),
    "nightly": Command("tidings.nightly", "Do now what the scheduler does once a day: thresholds, features, windows, budgets.", _RUN),
    "collect": Command("tidings.refreshing", "Write tables of all that is known now, to train on.", _DATA),
    "models": Command("tidings.models", "Say which model serves, promote another, or go back.", _RUN),
    "window": Command("tidings.windowing", "Say what a window would send if it opened now, sending nothing.", _RUN),
    "switch": Command("tidings.switching", "Stop a lane, a channel, a kind or everything within a second.", _RUN),
    "users": Command("tidings.users", "Export or erase everything held about a user.", _RUN),
    "keys": Command("tidings.keys", "Make, list and revoke API keys.", _RUN),
}


INPUTS = {"--data", "--settings"}
"""Options that name something to read, in every command that has them."""


def refuse_missing(args: list[str]) -> None:
    """Raise InputError where an option of INPUTS names nothing: known at once, while a command's imports may take half a minute."""
    pairs = [(arg, following) for arg, following in pairwise(args) if arg in INPUTS]
    pairs += [(name, given) for name, _, given in (arg.partition("=") for arg in args) if name in INPUTS and given]
    for option, path in pairs:
        if not Path(path).exists():
            raise InputError(f"{option} {path}: there is no such file or folder")


def load(name: str) -> Any:
    """Import the module of a command and return the command, ready to run; raises KeyError if the module does not register it."""
    group = typer.Typer()
    import_module(COMMANDS[name].module).register(group)
    return get_group(group).commands[name]


class LazyGroup(TyperGroup):
    """Commands whose modules are imported when they run, and whose bad input ends in a message instead of a traceback."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Replace the placeholder of the help page by the command itself."""
        name, placeholder, rest = super().resolve_command(ctx, args)
        if name not in COMMANDS:
            return name, placeholder, rest
        refuse_missing(rest)
        with step("loading the program"):
            return name, load(name), rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; InputError becomes its message and exit code 2."""
        try:
            return super().invoke(ctx)
        except InputError as error:
            fail(str(error))


app = typer.Typer(
    name="tidings",
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        out.print(version("tidings"), highlight=False)
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")]


@app.callback()
def options(show_version: Version = False) -> None:
    """Tell each person the few things worth telling them, when they would want to hear them."""


def _placeholder() -> Callable[[], None]:
    return lambda: None


for _name, _command in COMMANDS.items():
    app.command(_name, help=_command.summary, rich_help_panel=_command.panel)(_placeholder())


def main() -> None:
    """Run the command line; what nobody expected ends in the log, without what must not be written down."""
    if not sys.argv[1:] or {"-h", "--help", "--version"} & set(sys.argv[1:]):
        app()
    from lake import logs

    logs.configure()
    try:
        app()
    except Exception:
        logging.getLogger(__name__).critical("this ended the command", exc_info=True)
        sys.exit(1)
