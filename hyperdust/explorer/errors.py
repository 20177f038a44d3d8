"""Why the explorer refuses a request: each reason has a name, a sentence and its HTTP status."""

from chain.errors import HyperdustError, NodeFault


class PortTaken(NodeFault):
    """Another process listens on the explorer's port."""


class Refused(HyperdustError):
    """A request that the explorer does not serve."""

    status = 400

    def as_json(self) -> dict[str, dict[str, str]]:
        """The answer's body."""
        return {"error": {"name": type(self).__name__, "message": str(self)}}


class BadRequest(Refused):
    """Not the JSON that is expected."""


class BadAddress(Refused):
    """Not an address, or one with a wrong checksum."""


class TooLarge(Refused):
    """A body beyond its bound."""

    status = 413


class MethodRefused(Refused):
    """A JSON-RPC method that does more than read cheaply."""

    status = 403


class NoFaucet(Refused):
    """This explorer pays nothing."""

    status = 404


class NotADevnet(Refused):
    """The faucet's coins would be worth something."""

    status = 403


class TooSoon(Refused):
    """The address was paid a moment ago."""

    status = 429

    def __init__(self, message: str, wait_s: int) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class FaucetFailed(Refused):
    """The node refused the payment."""

    status = 502


class NodeUnreachable(Refused):
    """The node does not answer."""

    status = 502


class Busy(Refused):
    """Too many requests at once."""

    status = 503
