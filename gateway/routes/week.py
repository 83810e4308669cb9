"""/console/week: when a user is likely to look, the windows that follow, and why what was sent went when it did."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from gateway.pages import page
from gateway.problems import ProblemError
from gateway.routes.console import admit
from gateway.routing import services_of
from gateway.services import Services
from gateway.weeks import UserWeek, population, user_week
from lake.profiles import EVERYBODY, KNOWN

LATEST = 500
"""Rows of the decision log that are looked through for what was sent."""
MOST_SENT = 20

router = APIRouter(include_in_schema=False)


@router.get("/console/week")
async def get_week(request: Request, user: str = "") -> Response:
    """Show the week of a user, or of everybody."""
    try:
        await admit(request)
    except ProblemError as problem:
        return page("login.html", status_code=problem.status, problem="")
    services = services_of(request)
    if not user:
        svg = await run_in_threadpool(_everybody, services)
        return page("week.html", user="", problem="" if svg else "no hours are known yet", svg=svg, week=None)
    week = await run_in_threadpool(_of_user, services, user)
    if week is None:
        return page("week.html", status_code=404, user=user, problem=f"there is no user {user!r}", svg="", week=None)
    return page("week.html", user=user, problem="", svg=week.picture.svg(), week=week)


def _everybody(services: Services) -> str:
    scores = services.profiles.weeks([EVERYBODY])["scores"][0]
    return population(scores, "everybody").svg() if scores.any() else ""


def _of_user(services: Services, user_id: str) -> UserWeek | None:
    profile, now = services.profiles.get([user_id]), services.clock.now()
    if not profile["flags"][0] & KNOWN:
        return None
    rows = services.decisions.find(now, user_id=user_id, limit=LATEST)
    sent = rows[rows["disposition"].isin(("send", "update"))].head(MOST_SENT)
    return user_week(user_id, profile, services.profiles.weeks([user_id]), sent, now)
