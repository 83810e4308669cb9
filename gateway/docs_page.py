"""/docs: Swagger UI, whose scripts come from a CDN, around a plain list of the routes for as long as they have not come."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

from gateway.pages import rendered

PLACE = '<div id="swagger-ui">'


def install(app: FastAPI) -> None:
    """Serve the page; a machine without the internet shows the list."""

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        viewer = bytes(get_swagger_ui_html(openapi_url="/openapi.json", title="Tidings API").body).decode()
        head, place, tail = viewer.partition(PLACE)
        return HTMLResponse(head + place + rendered("routes.html", routes=listed(app.openapi())) + tail)


def listed(schema: dict[str, Any]) -> list[dict[str, str]]:
    """Return each route of an OpenAPI schema: `method`, `path`, `does` (its first sentence)."""
    return [
        {"method": method.upper(), "path": path, "does": operation.get("description", "").partition("\n")[0]}
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    ]
