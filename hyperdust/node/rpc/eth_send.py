"""eth_sendRawTransaction."""

from chain.errors import Invalid
from hyperdust.node.rpc import shapes
from hyperdust.node.rpc.backend import Request
from hyperdust.node.rpc.errors import ServerError
from hyperdust.node.rpc.parameters import Data


def send_raw_transaction(request: Request, raw: Data) -> str:
    """Put a signed transaction into the mempool; returns its hash."""
    try:
        transaction = request.backend.mempool.add(raw)
    except Invalid as error:
        raise ServerError(str(error)) from error
    return shapes.data(transaction.hash)
