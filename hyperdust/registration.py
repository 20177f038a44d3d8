"""Put a graph on the chain: checked here first, announced, brought part by part a block later, its lineage said.

What stands on the chain says what is next, so that doing it again goes on where it stopped.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak

from chain.errors import HyperdustError
from hyperdust.contracts_abi import ADDRESSES, decode_output, encode_call
from hyperdust.registration_parts import ANNOUNCE_GAS, LINEAGE_GAS, Part, check_parts, cut
from hyperdust.rpc_client import RpcClient, TransactionFailed
from pouw.graph_encoding import compute_graph_id, encode_top_layer
from pouw.hypergraph import Hypergraph

Tick = Callable[[str, int, int], None]
"""Called with what is being done, how many subgraphs are registered, and of how many."""

_REGISTRY: Final = ADDRESSES["GraphRegistry"]
_NOBODY: Final = "0x" + "00" * 20
_POLL_S: Final = 0.3


class RegistrationError(HyperdustError):
    """A graph cannot be registered; says why and what to do."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a graph was made from, and what its owner takes of the fee of each job."""

    parent: bytes
    """Id of a graph; zero for none."""
    royalty_bps: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What is left to do until a graph is registered."""

    name: str
    identity: bytes
    owner: str
    """Who owns it, or will: who began it, else the account."""
    is_announced: bool
    parts: tuple[Part, ...]
    has_lineage: bool

    @property
    def transactions(self) -> int:
        """How many are left, the announcement and the lineage among them."""
        return len(self.parts) + (not self.is_announced) + self.has_lineage

    @property
    def gas(self) -> int:
        """What they use at most."""
        left = sum(part.gas for part in self.parts)
        return left + (not self.is_announced) * ANNOUNCE_GAS + self.has_lineage * LINEAGE_GAS

    def as_json(self, gas_price: int) -> dict[str, Any]:
        """The plan for programs; `gas_price` in wei."""
        return {
            "graph": "0x" + self.identity.hex(),
            "name": self.name,
            "owner": self.owner,
            "transactions_left": self.transactions,
            "gas_at_most": self.gas,
            "wei_at_most": str(self.gas * gas_price),
        }


def plan(
    client: RpcClient, address: str, graph: Hypergraph, lineage: Lineage | None = None, *, finish: bool = False
) -> Plan:
    """Check a graph and say what an account has yet to send; `finish`: also for somebody else who began it.

    Raises:
        RegistrationError: it is, or will be, somebody else's.
        SubgraphTooLarge, Invalid: the graph cannot be registered; kinds of Invalid name the operator and the bound.
        RpcError.
    """
    identity = compute_graph_id(encode_top_layer(graph))
    check_parts(graph, cut(graph))
    owner, begun_by = _owner(client, identity), str(_view(client, "begun_by", identity))
    found = next(each for each in (owner, begun_by, address) if each != _NOBODY)
    if owner != _NOBODY and not _is_same(owner, address):
        raise RegistrationError(
            f"graph {graph.name} is registered already, by {owner}; its jobs can be served all the same"
        )
    if not _is_same(found, address) and not (finish and lineage is None):
        raise RegistrationError(
            f"graph {graph.name} was begun by {found}, who will own it; --finish (without a lineage) adds the rest"
        )
    parts = _parts_left(client, identity, graph) if owner == _NOBODY else ()
    announced = begun_by != _NOBODY or owner != _NOBODY or _announced_at(client, identity, address) > 0
    return Plan(graph.name, identity, found, announced, parts, lineage is not None)


def register(
    client: RpcClient,
    account: LocalAccount,
    graph: Hypergraph,
    lineage: Lineage | None,
    *,
    finish: bool = False,
    tick: Tick = lambda _what, _done, _of: None,
    timeout_s: float = 300.0,
) -> dict[str, Any]:
    """Register a graph, or go on registering it: `{"graph", "name", "owner", "gas", "transactions", "bytes"}`.

    Raises:
        RegistrationError: it is somebody else's, or no block came in time.
        SubgraphTooLarge, Invalid: as `plan`.
        RpcError, TransactionFailed, ReceiptTimeout.
    """
    planned = plan(client, account.address, graph, lineage, finish=finish)
    identity, count = planned.identity, len(graph.subgraphs)
    receipts = []
    if planned.parts and planned.parts[0].first == 0:
        tick("announcing", 0, count)
        receipts += _announce(client, account, identity, timeout_s)
    while _owner(client, identity) == _NOBODY:
        part = _parts_left(client, identity, graph)[0]
        tick("registering", part.first, count)
        try:
            receipts.append(_bring(client, account, identity, part, timeout_s))
        except TransactionFailed:
            # Somebody may have added this part first: then the next one is next.
            if _owner(client, identity) == _NOBODY and _next_subgraph(client, identity) == part.first:
                raise
    if lineage is not None:
        tick("lineage", count, count)
        receipts.append(_send(client, account, "set_lineage", identity, lineage.parent, lineage.royalty_bps))
    return {
        "graph": "0x" + identity.hex(),
        "name": graph.name,
        "owner": planned.owner,
        "bytes": sum(len(part.data) for part in cut(graph)),
        "transactions": [receipt["transactionHash"] for receipt in receipts],
        "gas": sum(int(receipt["gasUsed"], 16) for receipt in receipts),
    }


def _parts_left(client: RpcClient, identity: bytes, graph: Hypergraph) -> tuple[Part, ...]:
    return cut(graph, _next_subgraph(client, identity))


def _bring(
    client: RpcClient, account: LocalAccount, identity: bytes, part: Part, timeout_s: float
) -> Mapping[str, Any]:
    if part.first == 0:
        data = encode_call("GraphRegistry", "register", part.data)
    else:
        data = encode_call("GraphRegistry", "add", identity, part.first, part.data)
    # The bound is given, not asked for: an estimate with the usual margin may be more than a transaction may have.
    return client.send_transaction(account, _REGISTRY, data, gas=part.gas, timeout_s=timeout_s)


def _announce(client: RpcClient, account: LocalAccount, identity: bytes, timeout_s: float) -> list[Mapping[str, Any]]:
    """Announce unless that was done, and wait until a later block: before it nobody can register."""
    receipts: list[Mapping[str, Any]] = []
    announced = _announced_at(client, identity, account.address)
    if announced == 0:
        receipts.append(_send(client, account, "announce", _commitment(identity, account.address)))
        announced = int(receipts[0]["blockNumber"], 16)
    deadline = time.monotonic() + timeout_s
    while client.quantity("eth_blockNumber") <= announced:
        if time.monotonic() > deadline:
            raise RegistrationError(f"no block after {announced} in {timeout_s:.0f} s: is anybody mining? Try again")
        time.sleep(_POLL_S)
    return receipts


def _announced_at(client: RpcClient, identity: bytes, address: str) -> int:
    return int(_view(client, "announced_at", _commitment(identity, address)))


def _commitment(identity: bytes, address: str) -> bytes:
    return keccak(identity + bytes(12) + bytes.fromhex(address[2:]))


def _owner(client: RpcClient, identity: bytes) -> str:
    return str(_view(client, "owner_of", identity))


def _next_subgraph(client: RpcClient, identity: bytes) -> int:
    return int(_view(client, "next_subgraph", identity))


def _is_same(one: str, other: str) -> bool:
    return one.lower() == other.lower()


def _send(client: RpcClient, account: LocalAccount, function: str, *arguments: object) -> Mapping[str, Any]:
    return client.send_transaction(account, _REGISTRY, encode_call("GraphRegistry", function, *arguments))


def _view(client: RpcClient, function: str, *arguments: object) -> Any:
    output = client.view(_REGISTRY, encode_call("GraphRegistry", function, *arguments))
    return decode_output("GraphRegistry", function, output)[0]
