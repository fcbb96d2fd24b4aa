"""Structured logs on standard error: JSON where a machine reads them, plain where a person does."""

import logging
import sys
import traceback
from typing import Any

import structlog
from sqlalchemy.exc import DBAPIError

from shared.observability import trace


def without_data(_logger: Any, _method: str, event: Any) -> Any:
    """A database's own words quote the rows: its errors are logged by name and place in the code alone."""
    error = event.get("exc_info")
    error = sys.exc_info()[1] if error is True else error
    if isinstance(error, DBAPIError):
        event["exc_info"] = None
        last = traceback.extract_tb(error.__traceback__)[-1] if error.__traceback__ else None
        event["database_error"] = type(error.orig).__name__
        event["at"] = f"{last.filename}:{last.lineno}" if last else ""
    return event


def with_trace(_logger: Any, _method: str, event: Any) -> Any:
    """Lines that come from one request bear its trace."""
    if (traceparent := trace.current()) and "trace" not in event:
        event["trace"] = trace.id_of(traceparent)
    return event


def configure(level: str, service: str | None = None) -> None:
    """Every line has time, level, event and, in a service's own process, its name. No token, message text or number belongs in it."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_data,
        with_trace,
        structlog.processors.format_exc_info,
    ]
    person = sys.stderr.isatty()
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)  # the default shows every variable's value
    renderer: Any = plain if person else structlog.processors.JSONRenderer()
    if person:
        shared.remove(structlog.processors.format_exc_info)
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))
    logging.getLogger("nameko.containers").setLevel(logging.ERROR)  # it logs every refusal with a traceback
    if service:
        structlog.contextvars.bind_contextvars(service=service)
