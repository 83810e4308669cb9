"""The way in: FastAPI routes, keys, idempotent requests, problem+json errors, and the console pages."""
