"""Why the gateway refuses a request, or cannot answer it, in the JSON that OpenAI's clients expect.

Refused            a status, a type, a code, the parameter at fault
├── BadRequest …   the caller's: nothing is spent
├── OverBudget …   this gateway's bounds: nothing is spent
└── Failed …       the chain's; `paid` says whether a job was paid, and what becomes of the money
"""

from typing import Any

from chain.errors import HyperdustError, NodeFault


class PortTaken(NodeFault):
    """Another process listens on the gateway's port."""


class KeyTaken(NodeFault):
    """Another process pays with the gateway's key: they would spend a budget each, and take each other's nonces."""


class Refused(HyperdustError):
    """A request that gets no answer."""

    status = 400
    kind = "invalid_request_error"
    code: str | None = None
    retry = True
    """Whether asking again is free; OpenAI's clients do it by themselves from 429 and 5xx on."""

    def __init__(self, message: str, param: str | None = None, *, facts: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.facts = facts
        """What is known of jobs that were paid."""
        self.wait_s: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The answer's body."""
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error} | ({} if self.facts is None else {"hyperdust": self.facts})

    def headers(self) -> dict[str, str]:
        """The answer's headers."""
        found = {} if self.wait_s is None else {"retry-after": str(self.wait_s)}
        if self.facts is not None and self.facts.get("job") is not None:
            found["x-hyperdust-job"] = str(self.facts["job"])
        return found if self.retry and self.facts is None else found | {"x-should-retry": "false"}


class BadRequest(Refused):
    """Not what the endpoint takes."""


class Unsupported(Refused):
    """A parameter that no graph here takes."""

    code = "unsupported_parameter"


class TooLong(Refused):
    """More tokens than the graph takes, or makes."""

    code = "context_length_exceeded"


class NoKey(Refused):
    """The bearer token is missing or wrong."""

    status = 401
    code = "invalid_api_key"


class NotHere(Refused):
    """A page of another site, or a name that is not this machine's, asks."""

    status = 403
    code = "host_refused"


class NoModel(Refused):
    """No such graph or agent, or one that answers something else."""

    status = 404
    code = "model_not_found"


class NoPage(Refused):
    """No such address."""

    status = 404
    code = "unknown_url"


class WrongMethod(Refused):
    """An address that takes another method."""

    status = 405
    code = "method_not_allowed"


class TooSlow(Refused):
    """The body did not come in time."""

    status = 408
    code = "body_timeout"


class TooLarge(Refused):
    """A body beyond its bound."""

    status = 413
    code = "body_too_large"


class TooDear(Refused):
    """One request costs more than --max-fee."""

    status = 402
    kind = "insufficient_quota"
    code = "over_max_fee"


class NoCoins(Refused):
    """The gateway's key does not hold that much."""

    status = 402
    kind = "insufficient_quota"
    code = "insufficient_funds"


class OverBudget(Refused):
    """The hour's budget is spent."""

    status = 429
    kind = "insufficient_quota"
    code = "over_budget"
    retry = False  # it would be refused again for minutes

    def __init__(self, message: str, wait_s: int) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class Busy(Refused):
    """Too many requests at once."""

    status = 429
    kind = "rate_limit_error"
    code = "too_many_requests"

    def __init__(self, message: str, wait_s: int) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class Failed(Refused):
    """The chain did not take or not answer the request."""

    status = 502
    kind = "api_error"
    code = "chain_refused"


class NoNode(Failed):
    """The node does not answer."""

    status = 503
    code = "node_unreachable"


class NoProvider(Failed):
    """Nobody is bonded for the graph."""

    status = 503
    code = "no_provider"


class NoBlock(Failed):
    """The payment is in no block yet."""

    status = 504
    code = "payment_pending"
    retry = False


class NoAnswer(Failed):
    """The job is not answered in time."""

    status = 504
    code = "answer_timeout"
    retry = False


class Lost(Failed):
    """The job was given back, or its provider lied."""

    code = "job_lost"
    retry = False


class Unreadable(Failed):
    """The job is answered, and its answer cannot be read."""

    code = "answer_unreadable"
    retry = False
