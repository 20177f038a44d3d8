"""How roles log: one line an event on stderr, for people or as JSON, at a chosen level."""

import logging
import sys
from enum import StrEnum

import structlog


class LogLevel(StrEnum):
    """Least severe events that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a line looks."""

    CONSOLE = "console"
    JSON = "json"


def set_up(level: LogLevel, form: LogFormat) -> None:
    """Configure structlog for this process; the standard library's loggers are shown from warnings on."""
    colors = form is LogFormat.CONSOLE and sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if form is LogFormat.JSON else structlog.dev.ConsoleRenderer(colors=colors)
    )
    errors: list[structlog.typing.Processor] = [structlog.processors.dict_tracebacks] if form is LogFormat.JSON else []
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *errors,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
