"""Every reason to refuse something, in one tree. What a node does about each is said by the branch.

HyperdustError
├── Invalid      the sender broke a rule: refuse, remember, punish
│   ├── Malformed            bytes that do not decode
│   ├── TransactionInvalid   one transaction (chain.transactions)
│   └── Unexpected           a value beside the one that the rule asks for
│       ├── Mismatch         has to equal it: headers, certificates, graphs, tensors
│       └── OutOfRange       has to lie within it
├── NotYet       may become valid: keep and retry
└── NodeFault    our own trouble: never blame a peer
"""

from dataclasses import dataclass


class HyperdustError(Exception):
    """Root of the tree."""


class Invalid(HyperdustError):
    """The sender broke a rule."""


class NotYet(HyperdustError):
    """May become valid later: keep and retry."""


class NodeFault(HyperdustError):
    """Our own trouble (storage, engine, configuration): never blame a peer."""


@dataclass
class Unexpected(Invalid):
    """A value that breaks a rule, beside what the rule asks for."""

    what: str
    got: object
    expected: object

    def __str__(self) -> str:
        return f"{type(self).__name__}: {self.what}: got {_show(self.got)}, expected {_show(self.expected)}"


class Mismatch(Unexpected):
    """A value that has to equal another does not."""


class OutOfRange(Unexpected):
    """A value outside of its bounds; `expected` says the bound."""


@dataclass
class Malformed(Invalid):
    """Bytes that do not decode."""

    what: str
    reason: str

    def __str__(self) -> str:
        return f"malformed {self.what}: {self.reason}"


def _show(value: object) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)
