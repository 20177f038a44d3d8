"""What headers, blocks, transactions, receipts and logs look like in JSON: geth's fields, no more."""

from collections.abc import Sequence
from typing import Final

from chain.blocks import Body, Header, Withdrawal
from chain.engine import Transaction
from hyperdust.node.foreign_blocks import (
    CANCUN_FIELDS,
    LONDON_FIELDS,
    PRAGUE_FIELDS,
    SHANGHAI_FIELDS,
    ForeignHeader,
    encode_ethereum_block,
    field_count_of,
    ommers_of,
)
from hyperdust.node.rpc.blocks import (
    DecodedReceipt,
    FullBlock,
    Log,
    compute_contract_address,
    compute_effective_gas_price,
)

Json = dict[str, object]

GAS_PER_BLOB: Final = 1 << 17  # EIP-4844


def quantity(number: int) -> str:
    """Hex without leading zeros."""
    return hex(number)


def data(value: bytes) -> str:
    """Hex, two digits a byte."""
    return "0x" + value.hex()


def optional_data(value: bytes | None) -> str | None:
    """As `data`; null for nothing."""
    return None if value is None else data(value)


def header_json(header: Header, block_hash: bytes | None) -> Json:
    """A header; `block_hash` None for the pending block, whose hash is not known before it is sealed."""
    shown: Json = {
        "number": quantity(header.number),
        "hash": optional_data(block_hash),
        "parentHash": data(header.parent_hash),
        "nonce": data(header.nonce) if block_hash is not None else None,
        "mixHash": data(header.mix_hash),
        "sha3Uncles": data(header.ommers_hash),
        "logsBloom": data(header.logs_bloom),
        "stateRoot": data(header.state_root),
        "miner": data(header.coinbase),
        "difficulty": quantity(header.difficulty),
        "extraData": data(header.extra_data),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "transactionsRoot": data(header.transactions_root),
        "receiptsRoot": data(header.receipts_root),
    }
    late: Sequence[tuple[int, str, str]] = (
        (LONDON_FIELDS, "baseFeePerGas", quantity(header.base_fee_per_gas)),
        (SHANGHAI_FIELDS, "withdrawalsRoot", data(header.withdrawals_root)),
        (CANCUN_FIELDS, "blobGasUsed", quantity(header.blob_gas_used)),
        (CANCUN_FIELDS, "excessBlobGas", quantity(header.excess_blob_gas)),
        (CANCUN_FIELDS, "parentBeaconBlockRoot", data(header.parent_beacon_block_root)),
        (PRAGUE_FIELDS, "requestsHash", data(header.requests_hash)),
    )
    present = field_count_of(header)
    return shown | {name: value for count, name, value in late if present >= count}


def block_json(block: FullBlock, hashes: Sequence[bytes], transactions: Sequence[Transaction] | None) -> Json:
    """A block with the hashes of its transactions, or with the transactions where they are given."""
    listed: list[object] = [data(transaction_hash) for transaction_hash in hashes]
    if transactions is not None:
        listed = [transaction_json(transaction, block, index) for index, transaction in enumerate(transactions)]
    shown: Json = {
        **header_json(block.header, block.hash),
        "size": quantity(len(encode_ethereum_block(block.header, block.body))),
        "transactions": listed,
        "uncles": [data(ommer.hash) for ommer in ommers_of(block.body)],
    }
    if field_count_of(block.header) >= SHANGHAI_FIELDS:
        shown["withdrawals"] = withdrawals_json(block.body.withdrawals)
    return shown


def ommer_json(ommer: ForeignHeader) -> Json:
    """An ommer: a block that only its header is known of."""
    size = len(encode_ethereum_block(ommer, Body((), (), b"")))
    return {**header_json(ommer, ommer.hash), "size": quantity(size), "uncles": []}


def withdrawals_json(withdrawals: Sequence[Withdrawal]) -> list[Json]:
    """BTC credits in the form of EIP-4895."""
    return [
        {
            "index": quantity(withdrawal.index),
            "validatorIndex": quantity(withdrawal.validator_index),
            "address": data(withdrawal.address),
            "amount": quantity(withdrawal.amount),
        }
        for withdrawal in withdrawals
    ]


def transaction_json(transaction: Transaction, block: FullBlock | None, index: int | None) -> Json:
    """A transaction in its block; without one, a waiting transaction."""
    price = transaction.max_fee_per_gas
    if block is not None:
        price = compute_effective_gas_price(transaction, block.header.base_fee_per_gas)
    result: Json = {
        "blockHash": data(block.hash) if block else None,
        "blockNumber": quantity(block.header.number) if block else None,
        "blockTimestamp": quantity(block.header.timestamp) if block else None,
        "from": data(transaction.sender),
        "gas": quantity(transaction.gas_limit),
        "gasPrice": quantity(price),
    }
    if transaction.type >= 2:
        result["maxFeePerGas"] = quantity(transaction.max_fee_per_gas)
        result["maxPriorityFeePerGas"] = quantity(transaction.max_priority_fee_per_gas)
    result |= {
        "hash": data(transaction.hash),
        "input": data(transaction.data),
        "nonce": quantity(transaction.nonce),
        "to": optional_data(transaction.to),
        "transactionIndex": None if index is None else quantity(index),
        "value": quantity(transaction.value),
        "type": quantity(transaction.type),
    }
    if transaction.type >= 1:
        result["accessList"] = access_list_json(transaction)
    if transaction.type == 3:
        result["maxFeePerBlobGas"] = quantity(transaction.max_fee_per_blob_gas)
        result["blobVersionedHashes"] = [data(blob_hash) for blob_hash in transaction.blob_hashes]
    if transaction.type == 4:
        result["authorizationList"] = authorizations_json(transaction)
    if transaction.chain_id is not None:
        result["chainId"] = quantity(transaction.chain_id)
    result |= _signature_json(transaction)
    return result


def access_list_json(transaction: Transaction) -> list[Json]:
    """EIP-2930."""
    return [
        {"address": data(address), "storageKeys": [data(key) for key in keys]}
        for address, keys in transaction.access_list
    ]


def authorizations_json(transaction: Transaction) -> list[Json]:
    """EIP-7702."""
    return [
        {
            "chainId": quantity(chain_id),
            "address": data(address),
            "nonce": quantity(nonce),
            "yParity": quantity(y_parity),
            "r": quantity(r),
            "s": quantity(s),
        }
        for chain_id, address, nonce, y_parity, r, s in transaction.authorization_list
    ]


def _signature_json(transaction: Transaction) -> Json:
    numbers = {"v": transaction.v, "r": transaction.r, "s": transaction.s}
    if transaction.type:
        numbers |= {"v": transaction.y_parity, "yParity": transaction.y_parity}
    return {name: quantity(number) for name, number in numbers.items()}


def log_json(
    log: Log, block: FullBlock | tuple[bytes, Header], place: tuple[bytes, int, int], *, removed: bool = False
) -> Json:
    """A log; `place` is (transaction hash, transaction index, index of the log in its block)."""
    block_hash, header = (block.hash, block.header) if isinstance(block, FullBlock) else block
    transaction_hash, transaction_index, log_index = place
    return {
        "address": data(log.address),
        "topics": [data(topic) for topic in log.topics],
        "data": data(log.data),
        "blockNumber": quantity(header.number),
        "transactionHash": data(transaction_hash),
        "transactionIndex": quantity(transaction_index),
        "blockHash": data(block_hash),
        "blockTimestamp": quantity(header.timestamp),
        "logIndex": quantity(log_index),
        "removed": removed,
    }


def receipts_json(
    block: FullBlock, transactions: Sequence[Transaction], receipts: Sequence[DecodedReceipt], blob_base_fee: int
) -> list[Json]:
    """A block's receipts; `blob_base_fee` in wei."""
    results: list[Json] = []
    gas_before, first_log = 0, 0
    for index, (transaction, receipt) in enumerate(zip(transactions, receipts, strict=True)):
        shown = _receipt_json(block, transaction, receipt, (index, gas_before, first_log))
        if transaction.blob_hashes:
            shown["blobGasUsed"] = quantity(len(transaction.blob_hashes) * GAS_PER_BLOB)
            shown["blobGasPrice"] = quantity(blob_base_fee)
        results.append(shown)
        gas_before = receipt.cumulative_gas_used
        first_log += len(receipt.logs)
    return results


def _receipt_json(
    block: FullBlock, transaction: Transaction, receipt: DecodedReceipt, place: tuple[int, int, int]
) -> Json:
    index, gas_before, first_log = place
    logs = [
        log_json(log, block, (transaction.hash, index, first_log + offset)) for offset, log in enumerate(receipt.logs)
    ]
    result: Json = {
        "blockHash": data(block.hash),
        "blockNumber": quantity(block.header.number),
        "contractAddress": optional_data(compute_contract_address(transaction)),
        "cumulativeGasUsed": quantity(receipt.cumulative_gas_used),
        "effectiveGasPrice": quantity(compute_effective_gas_price(transaction, block.header.base_fee_per_gas)),
        "from": data(transaction.sender),
        "gasUsed": quantity(receipt.cumulative_gas_used - gas_before),
        "logs": logs,
        "logsBloom": data(receipt.bloom),
        "to": optional_data(transaction.to),
        "transactionHash": data(transaction.hash),
        "transactionIndex": quantity(index),
        "type": quantity(transaction.type),
    }
    if receipt.root is not None:
        result["root"] = data(receipt.root)
    else:
        result["status"] = quantity(receipt.status or 0)
    return result
