"""Put a graph on the chain: checked here first, announced, registered a block later, its lineage said."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak

from chain.errors import HyperdustError
from hyperdust.contracts_abi import ADDRESSES, decode_output, encode_call
from hyperdust.rpc_client import RpcClient
from pouw.graph_encoding import compute_graph_id, encode, encode_top_layer
from pouw.hypergraph import Hypergraph
from precompiles.graph_facts import read_facts

_REGISTRY: Final = ADDRESSES["GraphRegistry"]
_POLL_S: Final = 0.3


class RegistrationError(HyperdustError):
    """A graph cannot be registered; says why and what to do."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a graph was made from, and what its owner takes of the fee of each job."""

    parent: bytes
    """Id of a graph; zero for none."""
    royalty_bps: int


def register(
    client: RpcClient, account: LocalAccount, graph: Hypergraph, lineage: Lineage | None, *, timeout_s: float = 300.0
) -> dict[str, Any]:
    """Register a graph from an account, which becomes its owner for good: `{"graph", "name", "owner", "gas", …}`.

    Raises:
        RegistrationError: it belongs to somebody else, or no block came in time.
        Invalid: the graph cannot be registered; its kinds name the operator and the bound.
        RpcError, TransactionFailed, ReceiptTimeout.
    """
    file = encode(graph)
    read_facts(file)
    identity = compute_graph_id(encode_top_layer(graph))
    receipts = []
    owner = _view(client, "owner_of", identity)
    if int(owner, 16) == 0:
        receipts.append(_announce(client, account, identity, timeout_s))
        receipts.append(_send(client, account, "register", file))
        owner = _view(client, "owner_of", identity)
    if owner.lower() != account.address.lower():
        raise RegistrationError(
            f"graph {graph.name} is registered already, by {owner}; its jobs can be served all the same"
        )
    if lineage is not None:
        receipts.append(_send(client, account, "set_lineage", identity, lineage.parent, lineage.royalty_bps))
    return {
        "graph": "0x" + identity.hex(),
        "name": graph.name,
        "owner": account.address,
        "bytes": len(file),
        "transactions": [receipt["transactionHash"] for receipt in receipts],
        "gas": sum(int(receipt["gasUsed"], 16) for receipt in receipts),
    }


def _announce(client: RpcClient, account: LocalAccount, identity: bytes, timeout_s: float) -> Mapping[str, Any]:
    """Announce, and wait until the next block: before it nobody can register."""
    owner = bytes(12) + bytes.fromhex(account.address[2:])
    receipt = _send(client, account, "announce", keccak(identity + owner))
    announced, deadline = int(receipt["blockNumber"], 16), time.monotonic() + timeout_s
    while client.quantity("eth_blockNumber") <= announced:
        if time.monotonic() > deadline:
            raise RegistrationError(f"no block after {announced} in {timeout_s:.0f} s: is anybody mining? Try again")
        time.sleep(_POLL_S)
    return receipt


def _send(client: RpcClient, account: LocalAccount, function: str, *arguments: object) -> Mapping[str, Any]:
    return client.send_transaction(account, _REGISTRY, encode_call("GraphRegistry", function, *arguments))


def _view(client: RpcClient, function: str, *arguments: object) -> str:
    output = client.view(_REGISTRY, encode_call("GraphRegistry", function, *arguments))
    return str(decode_output("GraphRegistry", function, output)[0])
