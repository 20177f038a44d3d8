"""eth_*: blocks, transactions and receipts."""

from hyperdust.node.foreign_blocks import ommers_of
from hyperdust.node.rpc import shapes
from hyperdust.node.rpc.backend import Request
from hyperdust.node.rpc.blocks import FullBlock
from hyperdust.node.rpc.errors import InvalidParams
from hyperdust.node.rpc.parameters import BlockReference, Hash, Quantity
from hyperdust.node.rpc.shapes import Json


def chain_id(request: Request) -> str:
    """The chain id of EIP-155."""
    return shapes.quantity(request.backend.params.chain_id)


def block_number(request: Request) -> str:
    """Height of the head."""
    return shapes.quantity(request.snapshot.head.number)


def syncing(_request: Request) -> bool:
    """False: this node has no peers to sync from yet."""
    return False


def accounts(_request: Request) -> list[str]:
    """Empty: the node keeps no keys."""
    return []


def get_block_by_number(request: Request, block: BlockReference, full: bool = False) -> Json | None:
    """A canonical block by number or tag; `pending` is the block under construction."""
    if block.hash is not None:
        raise InvalidParams("a block hash where a number or a tag belongs")
    if block.tag == "pending":
        return _pending_block(request, full)
    return _block_json(request, request.find_block(block), full)


def get_block_by_hash(request: Request, block_hash: Hash, full: bool = False) -> Json | None:
    """Any known block by hash."""
    return _block_json(request, request.find_block(BlockReference(hash=block_hash)), full)


def get_header_by_number(request: Request, block: BlockReference) -> Json | None:
    """A canonical header."""
    found = request.find_block(block)
    return shapes.header_json(found.header, found.hash) if found else None


def get_header_by_hash(request: Request, block_hash: Hash) -> Json | None:
    """Any known header."""
    return get_header_by_number(request, BlockReference(hash=block_hash))


def _block_json(request: Request, block: FullBlock | None, full: bool) -> Json | None:
    if block is None:
        return None
    hashes = request.snapshot.load_transaction_hashes(block.hash)
    return shapes.block_json(block, hashes, request.backend.blocks.transactions(block) if full else None)


def _pending_block(request: Request, full: bool) -> Json:
    pending, transactions = request.pending_block()
    result = shapes.block_json(
        pending, [transaction.hash for transaction in transactions], transactions if full else None
    )
    return result | {"hash": None, "nonce": None, "miner": None}


def get_block_transaction_count_by_number(request: Request, block: BlockReference) -> str | None:
    """How many transactions a block has."""
    found = request.pending_block()[0] if block.tag == "pending" else request.find_block(block)
    return shapes.quantity(len(found.body.transactions)) if found else None


def get_block_transaction_count_by_hash(request: Request, block_hash: Hash) -> str | None:
    """How many transactions a block has."""
    return get_block_transaction_count_by_number(request, BlockReference(hash=block_hash))


def get_uncle_count_by_number(request: Request, block: BlockReference) -> str | None:
    """How many ommers a block has; our own chain has none."""
    found = request.find_block(block)
    return shapes.quantity(len(ommers_of(found.body))) if found else None


def get_uncle_count_by_hash(request: Request, block_hash: Hash) -> str | None:
    """How many ommers a block has."""
    return get_uncle_count_by_number(request, BlockReference(hash=block_hash))


def get_uncle_by_number(request: Request, block: BlockReference, index: Quantity) -> Json | None:
    """A block's ommer; null where there is none."""
    found = request.find_block(block)
    ommers = ommers_of(found.body) if found else ()
    return shapes.ommer_json(ommers[index]) if index < len(ommers) else None


def get_uncle_by_hash(request: Request, block_hash: Hash, index: Quantity) -> Json | None:
    """A block's ommer; null where there is none."""
    return get_uncle_by_number(request, BlockReference(hash=block_hash), index)


def get_transaction_by_hash(request: Request, transaction_hash: Hash) -> Json | None:
    """A transaction on the chain, or waiting in the mempool."""
    place = request.snapshot.locate_transaction(transaction_hash)
    if place is not None:
        return _transaction_at(request, BlockReference(hash=place[0]), place[1])
    waiting = request.backend.mempool.get(transaction_hash)
    return shapes.transaction_json(waiting, None, None) if waiting else None


def get_transaction_by_number_and_index(request: Request, block: BlockReference, index: Quantity) -> Json | None:
    """A block's transaction."""
    return _transaction_at(request, block, index)


def get_transaction_by_hash_and_index(request: Request, block_hash: Hash, index: Quantity) -> Json | None:
    """A block's transaction."""
    return _transaction_at(request, BlockReference(hash=block_hash), index)


def _transaction_at(request: Request, reference: BlockReference, index: int) -> Json | None:
    block = request.find_block(reference)
    if block is None or index >= len(block.body.transactions):
        return None
    return shapes.transaction_json(request.backend.blocks.transactions(block)[index], block, index)


def get_raw_transaction_by_hash(request: Request, transaction_hash: Hash) -> str:
    """A transaction's EIP-2718 encoding; 0x where there is none."""
    place = request.snapshot.locate_transaction(transaction_hash)
    if place is None:
        waiting = request.backend.mempool.get(transaction_hash)
        return shapes.data(waiting.raw if waiting else b"")
    block = request.find_block(BlockReference(hash=place[0]))
    return shapes.data(block.body.transactions[place[1]] if block else b"")


def get_transaction_receipt(request: Request, transaction_hash: Hash) -> Json | None:
    """What a transaction did; null before it is on the chain."""
    place = request.snapshot.locate_transaction(transaction_hash)
    if place is None:
        return None
    receipts = get_block_receipts(request, BlockReference(hash=place[0]))
    return receipts[place[1]] if receipts else None


def get_block_receipts(request: Request, block: BlockReference) -> list[Json] | None:
    """All receipts of a block."""
    found = request.find_block(block)
    if found is None:
        return None
    blocks = request.backend.blocks
    return shapes.receipts_json(
        found,
        blocks.transactions(found),
        blocks.receipts(request.snapshot, found.hash),
        request.backend.rules.blob_base_fee(found.header),
    )
