"""eth_*: accounts, code, storage and their proofs."""

from chain.engine import account_proof
from chain.state import EMPTY_CODE_HASH, Account, account_key, code_key, decode_account, slot_key
from hyperdust.node.contracts import State
from hyperdust.node.rpc import shapes
from hyperdust.node.rpc.backend import Request
from hyperdust.node.rpc.parameters import LATEST, Address, BlockReference, ProofKey, Slot, StorageRequest
from hyperdust.node.rpc.shapes import Json


def load_account(state: State, address: bytes) -> Account:
    """An account; the empty one where there is none."""
    (encoded,) = state.read_many([account_key(address)])
    return decode_account(encoded)


def load_code(state: State, address: bytes) -> bytes:
    """An account's code; empty where it has none."""
    code_hash = load_account(state, address).code_hash
    if code_hash == EMPTY_CODE_HASH:
        return b""
    (code,) = state.read_many([code_key(code_hash)])
    return code or b""


def load_slot(state: State, address: bytes, slot: bytes) -> bytes:
    """A storage word, 32 bytes."""
    (value,) = state.read_many([slot_key(address, int.from_bytes(slot, "big"))])
    return (value or b"").rjust(32, b"\0")


def get_balance(request: Request, address: Address, block: BlockReference = LATEST) -> str:
    """Balance in wei."""
    return shapes.quantity(load_account(request.state(block), address).balance)


def get_code(request: Request, address: Address, block: BlockReference = LATEST) -> str:
    """Runtime bytecode."""
    return shapes.data(load_code(request.state(block), address))


def get_storage_at(request: Request, address: Address, slot: Slot, block: BlockReference = LATEST) -> str:
    """One storage word."""
    return shapes.data(load_slot(request.state(block), address, slot))


def get_storage_values(request: Request, slots: StorageRequest, block: BlockReference = LATEST) -> Json:
    """Storage words of several accounts."""
    state = request.state(block)
    return {
        shapes.data(address): [shapes.data(load_slot(state, address, slot)) for slot in wanted]
        for address, wanted in slots.accounts
    }


def get_transaction_count(request: Request, address: Address, block: BlockReference = LATEST) -> str:
    """Nonce; `pending` counts what waits in the mempool."""
    if block.tag == "pending":
        return shapes.quantity(request.backend.mempool.pending_nonce(address))
    return shapes.quantity(load_account(request.state(block), address).nonce)


def get_account_info(request: Request, address: Address, block: BlockReference = LATEST) -> Json:
    """Balance, nonce and code in one answer."""
    state = request.state(block)
    account = load_account(state, address)
    return {
        "balance": shapes.quantity(account.balance),
        "nonce": shapes.quantity(account.nonce),
        "code": shapes.data(load_code(state, address)),
    }


def get_proof(request: Request, address: Address, keys: tuple[ProofKey, ...], block: BlockReference = LATEST) -> Json:
    """Merkle proofs of an account and its slots. Source: EIP-1186."""
    state = request.state(block)
    proof = account_proof(address, [key.slot for key in keys], state.read_many)
    return {
        "address": shapes.data(address),
        "accountProof": [shapes.data(node) for node in proof.nodes],
        "balance": shapes.quantity(proof.balance),
        "codeHash": shapes.data(proof.code_hash),
        "nonce": shapes.quantity(proof.nonce),
        "storageHash": shapes.data(proof.storage_root),
        "storageProof": [
            {
                "key": key.shown,
                "value": shapes.quantity(entry.value),
                "proof": [shapes.data(node) for node in entry.nodes],
            }
            for key, entry in zip(keys, proof.storage, strict=True)
        ],
    }
