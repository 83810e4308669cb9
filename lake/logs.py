"""Logs, set up in one place for every process: one line per record, with nothing in it that must not be written down.

`configure()` is called by the command line, by the supervisor and by every Ray actor and task of ours before it does anything.
Loggers are the standard library's, or structlog's; both go through the same processors. Handlers that others have put in, such as
Ray Serve's files, keep their place and write what is left after redaction.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
import threading
from collections.abc import Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any

import structlog
from structlog.typing import EventDict

from lake.redaction import TEXT, redact, redact_value

OURS = frozenset({"event", "level", "logger", "timestamp", "exception", "stack", "reason", "detail", "error", "_record", "_from_structlog"})
"""Fields whose texts are read for addresses and secrets and else stay."""

KNOWN_PHRASES = frozenset(status.phrase for status in HTTPStatus)
OTHERS = ("ray", "ray.serve", "uvicorn", "uvicorn.error", "uvicorn.access")
"""Loggers that may have handlers of their own."""

SERVE_LOGS = {"log_level": "WARNING", "enable_access_log": False}
"""What Serve is told of each deployment's logs: a line for each request, redacted like any other, costs a request more than its routing."""


class Reason(str):
    """A text of the program's own, given to a log call as an argument: it is read for addresses and secrets, and else stays."""

    __slots__ = ()


def configure(level: int = logging.WARNING) -> None:
    """Set the process's logging up; calling it again changes nothing but covers handlers that have come since."""
    root = logging.getLogger()
    if not any(isinstance(handler.formatter, _Formatter) for handler in root.handlers):
        ours = logging.StreamHandler()
        ours.setFormatter(formatter())
        root.addHandler(ours)
        root.setLevel(min(level, root.level) if root.level else level)
        structlog.configure(
            processors=NATIVE,
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
        )
        sys.excepthook = _uncaught
        threading.excepthook = _uncaught_in_thread
    for name in ("", *OTHERS):
        for handler in logging.getLogger(name).handlers:
            cover(handler)


def quieten_serve() -> None:
    """Keep Ray Serve's small talk from the person who looks at this process; for one that asks a system something and is no part of it.

    Call it after Serve is imported, which puts a handler of its own on the terminal.
    """
    serve = logging.getLogger("ray.serve")
    serve.setLevel(logging.WARNING)
    for handler in serve.handlers:
        cover(handler)


def formatter() -> logging.Formatter:
    """Return the formatter of every handler of ours."""
    return _Formatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.dev.ConsoleRenderer(colors=False)],
        foreign_pre_chain=_SHARED,
        pass_foreign_args=True,
        use_get_message=False,
    )


def cover(handler: logging.Handler) -> None:
    """Have a handler that somebody else has made redact what its own formatter makes of a record."""
    if isinstance(handler, logging.handlers.MemoryHandler) and handler.target is not None:
        cover(handler.target)
    if not isinstance(handler.formatter, _Formatter | _Covered):
        handler.setFormatter(_Covered(handler.formatter or logging.Formatter()))


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """The formatter of our own handlers."""


class _Covered(logging.Formatter):
    """Another formatter's lines, redacted."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        safe = logging.makeLogRecord(record.__dict__)
        safe.msg, safe.args = _message(str(record.msg), record.args), None
        safe.__dict__.update({name: redact_value(name, value) for name, value in record.__dict__.items() if name not in _STANDARD})
        if record.exc_info and not record.exc_text:
            safe.exc_text = self.formatException(record.exc_info)
        return redact(self._inner.format(safe))


def redact_record(_: Any, __: str, event_dict: EventDict) -> EventDict:
    """Take out of every field of a record what must not be written down: the processor that all records pass last."""
    for name, value in event_dict.items():
        if name in ("_record", "_from_structlog"):
            continue
        event_dict[name] = redact(str(value)) if name in OURS else redact_value(name, _unknown(value))
    return event_dict


def _with_arguments(_: Any, __: str, event_dict: EventDict) -> EventDict:
    """Put the arguments of a standard library's call into its message, each as it may be written down."""
    if "positional_args" in event_dict:
        event_dict["event"] = _message(str(event_dict["event"]), event_dict.pop("positional_args"))
    return event_dict


def _message(template: str, arguments: Any) -> str:
    if not arguments:
        return template
    if isinstance(arguments, Mapping):
        safe: Any = {name: redact_value(str(name), _unknown(value)) for name, value in arguments.items()}
    else:
        safe = tuple(_argument(value) for value in arguments)
    try:
        return str(template % safe)
    except (TypeError, ValueError, KeyError):
        return f"{template} {safe}"


def _argument(value: Any) -> Any:
    return value if isinstance(value, int | float) else redact_value("", _unknown(value))


def _unknown(value: Any) -> Any:
    """Return a value, or a mark in the place of a text of several words: it may be what a message says."""
    if isinstance(value, str) and not isinstance(value, Reason) and value not in KNOWN_PHRASES and any(map(str.isspace, value)):
        return TEXT
    return value


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        logging.getLogger("tidings").critical("this ended the process", exc_info=(kind, error, trace))


def _uncaught_in_thread(given: threading.ExceptHookArgs) -> None:
    if given.exc_value is not None and not issubclass(given.exc_type, SystemExit):
        told = (given.exc_type, given.exc_value, given.exc_traceback)
        logging.getLogger("tidings").critical("this ended a thread", exc_info=told)


_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "positional_args"}
_SHARED: list[Any] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    _with_arguments,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper("iso"),
    structlog.processors.StackInfoRenderer(),
    structlog.processors.format_exc_info,
    redact_record,
]

NATIVE: list[Any] = [
    structlog.stdlib.filter_by_level,
    _with_arguments,
    *_SHARED,
    structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
]
"""The processors of structlog's own loggers."""
