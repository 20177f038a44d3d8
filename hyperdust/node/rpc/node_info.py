"""net_*, web3_*, rpc_* and txpool_*: the node about itself."""

from collections.abc import Mapping

from chain.engine import Transaction
from chain.hashing import keccak256
from hyperdust.node.rpc import shapes
from hyperdust.node.rpc.backend import Request
from hyperdust.node.rpc.parameters import Address, Data
from hyperdust.node.rpc.shapes import Json

_Listing = Mapping[bytes, Mapping[int, Transaction]]


def net_version(request: Request) -> str:
    """The chain id, in decimal."""
    return str(request.backend.params.chain_id)


def net_listening(_request: Request) -> bool:
    """True, as every client answers whose ports are open."""
    return True


def net_peer_count(_request: Request) -> str:
    """Zero: no peers yet."""
    return shapes.quantity(0)


def client_version(request: Request) -> str:
    """Name and version of this program."""
    return request.backend.version


def sha3(_request: Request, value: Data) -> str:
    """Keccak-256."""
    return shapes.data(keccak256(value))


def txpool_status(request: Request) -> Json:
    """How many transactions wait."""
    pending, queued = request.backend.mempool.counts()
    return {"pending": shapes.quantity(pending), "queued": shapes.quantity(queued)}


def txpool_content(request: Request) -> Json:
    """All waiting transactions by sender and nonce."""
    pending, queued = request.backend.mempool.content()
    return {
        "pending": {shapes.data(sender): _by_nonce(entries) for sender, entries in pending.items()},
        "queued": {shapes.data(sender): _by_nonce(entries) for sender, entries in queued.items()},
    }


def txpool_content_from(request: Request, address: Address) -> Json:
    """One sender's waiting transactions by nonce."""
    pending, queued = request.backend.mempool.content()
    return {"pending": _by_nonce(pending.get(address, {})), "queued": _by_nonce(queued.get(address, {}))}


def txpool_inspect(request: Request) -> Json:
    """All waiting transactions, one line each."""
    pending, queued = request.backend.mempool.content()
    return {"pending": _summaries(pending), "queued": _summaries(queued)}


def _by_nonce(entries: Mapping[int, Transaction]) -> Json:
    return {str(nonce): shapes.transaction_json(entry, None, None) for nonce, entry in sorted(entries.items())}


def _summaries(listing: _Listing) -> Json:
    return {
        shapes.data(sender): {str(nonce): _summary(entry) for nonce, entry in sorted(entries.items())}
        for sender, entries in listing.items()
    }


def _summary(transaction: Transaction) -> str:
    target = "contract creation" if transaction.to is None else shapes.data(transaction.to)
    price = f"{transaction.gas_limit} gas × {transaction.max_fee_per_gas} wei"  # noqa: RUF001 - geth's sign
    return f"{target}: {transaction.value} wei + {price}"
