"""testing_*: blocks on demand, on an imported chain only. Source: execution-apis, src/testing."""

from collections.abc import Sequence

from chain.engine import Transaction, decode_transactions
from chain.errors import Invalid
from hyperdust.node.builder import Template
from hyperdust.node.foreign_pool import Attributes
from hyperdust.node.rpc import shapes
from hyperdust.node.rpc.backend import Request
from hyperdust.node.rpc.blocks import compute_effective_gas_price
from hyperdust.node.rpc.errors import MethodNotFound, ServerError
from hyperdust.node.rpc.parameters import Data, Hash, PayloadAttributes, RawTransactions
from hyperdust.node.rpc.shapes import Json


def build_block(
    request: Request,
    parent: Hash,
    attributes: PayloadAttributes,
    transactions: RawTransactions | None = None,
    extra_data: Data = Data(b""),
) -> Json:
    """A block on the head of these transactions (all must apply), or of the pool's; nothing is kept."""
    foreign = request.backend.foreign
    if foreign is None:
        raise MethodNotFound("testing_buildBlockV1")
    head = request.snapshot.head
    if parent != head.hash:
        raise ServerError("the parent is not the head")
    if attributes.timestamp <= head.header.timestamp:
        raise ServerError(f"invalid timestamp: parent {head.header.timestamp}, given {attributes.timestamp}")
    wanted = Attributes(
        timestamp=attributes.timestamp,
        coinbase=attributes.coinbase,
        prev_randao=attributes.prev_randao,
        beacon_root=attributes.beacon_root,
        withdrawals=attributes.withdrawals,
        extra_data=extra_data,
    )
    try:
        chosen: Sequence[Transaction] | None = None
        if transactions is not None:
            chosen = decode_transactions(transactions)
        template = foreign.builder.build(head, wanted, chosen)
    except Invalid as error:
        raise ServerError(str(error)) from error
    return _envelope(template, wanted)


def _envelope(template: Template, attributes: Attributes) -> Json:
    header = template.header
    value = sum(
        (compute_effective_gas_price(transaction, header.base_fee_per_gas) - header.base_fee_per_gas) * receipt.gas_used
        for transaction, receipt in zip(template.included, template.executed.receipts, strict=True)
    )
    return {
        "executionPayload": {
            "parentHash": shapes.data(header.parent_hash),
            "feeRecipient": shapes.data(header.coinbase),
            "stateRoot": shapes.data(header.state_root),
            "receiptsRoot": shapes.data(header.receipts_root),
            "logsBloom": shapes.data(header.logs_bloom),
            "prevRandao": shapes.data(header.mix_hash),
            "blockNumber": shapes.quantity(header.number),
            "gasLimit": shapes.quantity(header.gas_limit),
            "gasUsed": shapes.quantity(header.gas_used),
            "timestamp": shapes.quantity(header.timestamp),
            "extraData": shapes.data(header.extra_data),
            "baseFeePerGas": shapes.quantity(header.base_fee_per_gas),
            "blockHash": shapes.data(header.hash),
            "transactions": [shapes.data(raw) for raw in template.transactions],
            "withdrawals": shapes.withdrawals_json(attributes.withdrawals),
            "blobGasUsed": shapes.quantity(header.blob_gas_used),
            "excessBlobGas": shapes.quantity(header.excess_blob_gas),
        },
        "blockValue": shapes.quantity(value),
        "blobsBundle": {"commitments": [], "proofs": [], "blobs": []},
        "executionRequests": [shapes.data(request) for request in template.executed.requests],
        "shouldOverrideBuilder": False,
    }
