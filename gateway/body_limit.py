"""Bodies that are too long are refused before anything looks at them."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.problems import ProblemError

HEARD_OUT = 8
"""A body of up to this many times the limit is read and thrown away, so that its sender lives to hear the answer."""


@dataclass(frozen=True)
class BodyLimit:
    """ASGI middleware: 413 for a body of over `max_bytes`, announced or not."""

    app: ASGIApp
    max_bytes: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, its body counted as it comes."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > self.max_bytes:
            await _drain(receive, self.max_bytes * HEARD_OUT)
            await ProblemError(413, "too-large", self._detail).response()(scope, receive, send)
            return
        await self.app(scope, self._counted(receive), send)

    @property
    def _detail(self) -> str:
        return f"a body may hold {self.max_bytes:,} bytes; send it in parts"

    def _counted(self, receive: Receive) -> Receive:
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                if message.get("more_body", False):
                    await _drain(receive, self.max_bytes * HEARD_OUT)
                raise HTTPException(413, self._detail)
            return message

        return counted


async def _drain(receive: Receive, at_most: int) -> None:
    while at_most > 0:
        message = await receive()
        at_most -= len(message.get("body", b""))
        if not message.get("more_body", False):
            return
