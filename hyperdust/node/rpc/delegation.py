"""EIP-7702 in calls: what a transaction's authorizations would make of accounts, as overrides of a trial."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import rlp
from eth_keys.datatypes import Signature
from eth_keys.exceptions import BadSignature, ValidationError

from chain.engine import AccountOverride, CallResult
from chain.hashing import keccak256
from chain.state import decode_account
from hyperdust.node.contracts import State
from hyperdust.node.rpc.eth_state import load_account, load_code
from hyperdust.node.rpc.parameters import Authorization

GAS_PER_AUTHORIZATION: Final = 25_000  # EIP-7702: PER_EMPTY_ACCOUNT_COST, part of a transaction's intrinsic gas
_REFUND_PER_EXISTING: Final = 12_500  # EIP-7702: less PER_AUTH_BASE_COST
_REFUND_QUOTIENT: Final = 5  # EIP-3529
DELEGATION: Final = b"\xef\x01\x00"
_HALF_ORDER: Final = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0  # secp256k1 n // 2


EMPTY_ACCOUNT: Final = decode_account(None)


@dataclass(frozen=True, slots=True)
class _Account:
    nonce: int
    code: bytes


@dataclass(frozen=True, slots=True)
class Delegated:
    """What authorizations cost, which a message without them does not pay in the engine."""

    gas: int = 0
    """Paid before anything runs."""
    refund: int = 0
    """For accounts that exist already."""

    def settle(self, result: CallResult) -> CallResult:
        """The result of the message with what its authorizations cost. Source: EIP-7702, EIP-3529."""
        if not self.gas:
            return result
        spent = result.gas_used + result.gas_refunded + self.gas
        refunded = min(result.gas_refunded + self.refund, spent // _REFUND_QUOTIENT)
        return replace(result, gas_used=spent - refunded, gas_refunded=refunded)


def delegate(
    overrides: dict[bytes, AccountOverride],
    authorizations: Sequence[Authorization],
    state: State,
    sender: bytes,
    chain_id: int,
) -> Delegated:
    """Add what valid authorizations do to `overrides`; invalid ones do nothing but cost, as in a transaction."""
    refund = 0
    for authorization in authorizations:
        authority = _recover(authorization)
        if authority is None or authorization.chain_id not in {0, chain_id}:
            continue
        account = _current(overrides, state, authority)
        expected = account.nonce + (1 if authority == sender else 0)  # the sender's nonce has gone up by then
        delegated = not account.code or account.code[:3] == DELEGATION
        if authorization.nonce != expected or not delegated:
            continue
        code = DELEGATION + authorization.address if any(authorization.address) else b""
        nonce = account.nonce if authority == sender else account.nonce + 1
        if authority in overrides or load_account(state, authority) != EMPTY_ACCOUNT:
            refund += _REFUND_PER_EXISTING
        overrides[authority] = replace(overrides.get(authority, AccountOverride()), code=code, nonce=nonce)
    return Delegated(GAS_PER_AUTHORIZATION * len(authorizations), refund)


def _current(overrides: dict[bytes, AccountOverride], state: State, address: bytes) -> _Account:
    changed = overrides.get(address, AccountOverride())
    nonce = load_account(state, address).nonce if changed.nonce is None else changed.nonce
    return _Account(nonce, load_code(state, address) if changed.code is None else changed.code)


def _recover(authorization: Authorization) -> bytes | None:
    """The account that signed; None where nobody did."""
    if authorization.s > _HALF_ORDER or authorization.y_parity > 1:
        return None
    fields = [_integer(authorization.chain_id), authorization.address, _integer(authorization.nonce)]
    digest = keccak256(b"\x05" + rlp.encode(fields))
    try:
        signature = Signature(vrs=(authorization.y_parity, authorization.r, authorization.s))
        public_key = signature.recover_public_key_from_msg_hash(digest)
    except (BadSignature, ValidationError, ValueError):
        return None
    return keccak256(public_key.to_bytes())[12:]


def _integer(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
