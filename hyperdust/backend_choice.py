"""Which backend a role computes with: the one asked for where it can serve, else the reference."""

import structlog

from pouw.backends.registry import BackendUnavailable, BackendWrong, load_backend
from pouw.execution import Backend

log = structlog.get_logger()


def choose_backend(name: str) -> Backend:
    """The backend asked for, or numpy where it cannot serve.

    Raises:
        BackendUnavailable, BackendWrong: neither serves.
    """
    try:
        return load_backend(name)
    except (BackendUnavailable, BackendWrong) as error:
        if name == "numpy":
            raise
        log.warning("backend cannot serve, using numpy", backend=name, reason=str(error))
        return load_backend("numpy")
