"""eth_*: what a transaction should offer."""

from typing import Final

from chain.blocks import Header
from hyperdust.node.rpc import shapes
from hyperdust.node.rpc.backend import Request
from hyperdust.node.rpc.blocks import compute_effective_gas_price
from hyperdust.node.rpc.errors import ServerError
from hyperdust.node.rpc.parameters import BlockReference, Count, Percentiles
from hyperdust.node.rpc.shapes import Json

_SAMPLE_BLOCKS: Final = 20  # geth's oracle looks at as many
_SAMPLE_PERCENTILE: Final = 60  # likewise
_SAMPLES_PER_BLOCK: Final = 3  # likewise
_MIN_TIP: Final = 1  # wei: never suggest nothing, or idle chains teach wallets to send 0


def gas_price(request: Request) -> str:
    """A price that both the head's environment (calls) and the next block accept: base fee and the suggested tip."""
    head = request.snapshot.head.header
    return shapes.quantity(
        max(head.base_fee_per_gas, request.backend.rules.base_fee_after(head)) + suggest_tip(request)
    )


def max_priority_fee_per_gas(request: Request) -> str:
    """The suggested tip."""
    return shapes.quantity(suggest_tip(request))


def base_fee(request: Request) -> str:
    """Base fee of the next block."""
    return shapes.quantity(request.backend.rules.base_fee_after(request.snapshot.head.header))


def blob_base_fee(request: Request) -> str:
    """Wei a blob gas in the head; our own chain takes no blobs."""
    return shapes.quantity(request.backend.rules.blob_base_fee(request.snapshot.head.header))


def suggest_tip(request: Request) -> int:
    """A percentile of the lowest tips of recent blocks, in wei."""
    head = request.snapshot.head.number
    samples: list[int] = []
    for number in range(head, max(head - _SAMPLE_BLOCKS, -1), -1):
        block = request.find_block(BlockReference(number=number))
        if block is None or not block.body.transactions:
            continue
        fee = block.header.base_fee_per_gas
        tips = [
            compute_effective_gas_price(transaction, fee) - fee
            for transaction in request.backend.blocks.transactions(block)
            if transaction.sender != block.header.coinbase
        ]
        samples.extend(sorted(tips)[:_SAMPLES_PER_BLOCK])
    if not samples:
        return _MIN_TIP
    return max(sorted(samples)[(len(samples) - 1) * _SAMPLE_PERCENTILE // 100], _MIN_TIP)


def fee_history(
    request: Request, count: Count, newest: BlockReference, percentiles: Percentiles = Percentiles(())
) -> Json:
    """Base fees, fullness and tips of a range of blocks, and the base fee after it."""
    _check_percentiles(percentiles)
    if count < 1:
        return {"oldestBlock": "0x0", "gasUsedRatio": []}
    last = _last_block(request, newest)
    first = max(last - min(count, request.backend.limits.fee_history_blocks) + 1, 0)
    headers = [request.require_header(BlockReference(number=number))[1] for number in range(first, last + 1)]
    rules = request.backend.rules
    blob_fees = [rules.blob_base_fee(header) for header in headers] + [rules.blob_base_fee_after(headers[-1])]
    fees = [header.base_fee_per_gas for header in headers] + [rules.base_fee_after(headers[-1])]
    result: Json = {
        "oldestBlock": shapes.quantity(first),
        "baseFeePerGas": [shapes.quantity(fee) for fee in fees],
        "gasUsedRatio": [header.gas_used / header.gas_limit for header in headers],
        "baseFeePerBlobGas": [shapes.quantity(fee) for fee in blob_fees],
        "blobGasUsedRatio": [header.blob_gas_used / (rules.max_blob_gas(header) or 1) for header in headers],
    }
    if percentiles:
        result["reward"] = [_rewards(request, header, percentiles) for header in headers]
    return result


def _check_percentiles(percentiles: Percentiles) -> None:
    for index, percentile in enumerate(percentiles):
        if not 0 <= percentile <= 100:
            raise ServerError(f"invalid reward percentile: {percentile}")
        if index and percentile < percentiles[index - 1]:
            before = f"#{index - 1}:{percentiles[index - 1]}"
            raise ServerError(f"invalid reward percentile: {before} >= #{index}:{percentile}")


def _last_block(request: Request, newest: BlockReference) -> int:
    head = request.snapshot.head.number
    if newest.number is None:
        return request.require_header(newest)[1].number
    if newest.number > head:
        raise ServerError(f"request beyond head block: requested {newest.number}, head {head}")
    return newest.number


def _rewards(request: Request, header: Header, percentiles: Percentiles) -> list[str]:
    """Tips at percentiles of the block's gas, in order of tip."""
    request.check_time()
    block = request.find_block(BlockReference(number=header.number))
    if block is None or not block.body.transactions:
        return [shapes.quantity(0) for _ in percentiles]
    fee = header.base_fee_per_gas
    receipts = request.backend.blocks.receipts(request.snapshot, block.hash)
    used = [after.cumulative_gas_used for after in receipts]
    paid = sorted(
        (compute_effective_gas_price(transaction, fee) - fee, gas - before)
        for transaction, gas, before in zip(request.backend.blocks.transactions(block), used, [0, *used], strict=False)
    )
    rewards: list[str] = []
    index, covered = 0, paid[0][1]
    for percentile in percentiles:
        threshold = int(header.gas_used * percentile / 100)
        while covered < threshold and index < len(paid) - 1:
            index += 1
            covered += paid[index][1]
        rewards.append(shapes.quantity(paid[index][0]))
    return rewards
