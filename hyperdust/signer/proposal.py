"""A proposal: which L2 block, deposits, gifts, data and rate a leader has chosen. All else follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self, TypeVar

from google.protobuf.message import DecodeError

from bridge.anchors import NO_DATA
from bridge.deposits import BINDING_BYTES, Outpoint, encode_binding, read_binding
from bridge.errors import TransactionMalformed
from bridge.rules import PegRules
from bridge.scripts import Binding
from bridge.taproot import Path
from bridge.transactions import Reader, Transaction
from hyperdust.proto import signer_pb2 as messages
from hyperdust.signer.errors import ProposalMalformed
from hyperdust.signer.sources import Place

MAX_PROPOSAL_BYTES: Final = 150_000
"""100 sweeps of 140 bytes, 100 gifts of 45, and a transaction of 200 inputs and 200 outputs; and room."""
MAX_PAYLOADS: Final = 32
"""Named by one anchor: a block of the largest size takes some dozen."""
_PATHS: Final = {Path.SCRIPT: messages.SpendPath.SCRIPT, Path.KEY: messages.SpendPath.KEY}


@dataclass(frozen=True, slots=True)
class Sweep:
    """A deposit to be swept, and whose it is."""

    outpoint: Outpoint
    binding: Binding


@dataclass(frozen=True, slots=True)
class GiftCoin:
    """A coin that was paid to a vault's script, to be taken in."""

    outpoint: Outpoint
    epoch: int
    """Of the signers whose script it is."""


@dataclass(frozen=True, slots=True)
class PayloadPlace:
    """A payload of blocks, and the transaction that carries it."""

    root: bytes
    txid: bytes


Taken = TypeVar("Taken", Sweep, GiftCoin)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a leader asks the others to sign; field by field as `signer.proto` says."""

    chain: bytes
    leader: bytes
    state: Place
    payable: Place
    height: int
    planned_rate: int
    rate: int
    deposits: tuple[Sweep, ...]
    transaction: Transaction
    """Without witnesses."""
    path: Path = Path.SCRIPT
    gifts: tuple[GiftCoin, ...] = ()
    data_root: bytes = NO_DATA
    """Of the anchor; zero where it names no data."""
    data: tuple[PayloadPlace, ...] = ()
    """What leads to it, in the order of blocks."""

    def encode(self) -> bytes:
        """As it is signed and sent."""
        message = messages.Proposal(
            chain=self.chain,
            leader=self.leader,
            state_number=self.state.number,
            state_hash=self.state.hash,
            payable_number=self.payable.number,
            payable_hash=self.payable.hash,
            height=self.height,
            planned_rate=self.planned_rate,
            rate=self.rate,
            deposits=[
                messages.Sweep(txid=one.outpoint.txid, index=one.outpoint.index, binding=encode_binding(one.binding))
                for one in self.deposits
            ],
            transaction=self.transaction.encode_stripped(),
            path=_PATHS[self.path],
            gifts=[
                messages.GiftCoin(txid=one.outpoint.txid, index=one.outpoint.index, epoch=one.epoch)
                for one in self.gifts
            ],
            data_root=self.data_root,
            data=[messages.Payload(root=one.root, txid=one.txid) for one in self.data],
        )
        return bytes(message.SerializeToString(deterministic=True))

    @classmethod
    def decode(cls, raw: bytes, rules: PegRules) -> Self:
        """Read one that somebody sent.

        Raises:
            ProposalMalformed: sizes, bounds or order are wrong.
        """
        if len(raw) > MAX_PROPOSAL_BYTES:
            raise ProposalMalformed("proposal", f"{len(raw)} bytes, at most {MAX_PROPOSAL_BYTES}")
        try:
            message = messages.Proposal.FromString(raw)
        except DecodeError as error:
            raise ProposalMalformed("proposal", str(error)) from error
        hashes = (message.chain, message.leader, message.state_hash, message.payable_hash)
        if any(len(one) != 32 for one in hashes) or len(message.data_root) not in {0, 32}:
            raise ProposalMalformed("proposal", "a hash or key that has not 32 bytes")
        if not 0 < message.planned_rate <= message.rate <= rules.max_rate:
            raise ProposalMalformed("proposal", f"rates {message.planned_rate}, {message.rate}")
        path = next((path for path, value in _PATHS.items() if value == message.path), None)
        if path is None:
            raise ProposalMalformed("proposal", f"path {message.path}, known are script and key")
        try:
            transaction = Transaction.decode(message.transaction)
        except TransactionMalformed as error:
            raise ProposalMalformed("proposal", str(error)) from error
        if transaction.encode_stripped() != message.transaction:
            raise ProposalMalformed("proposal", "a transaction with witnesses")
        return cls(
            message.chain,
            message.leader,
            Place(message.state_number, message.state_hash),
            Place(message.payable_number, message.payable_hash),
            message.height,
            message.planned_rate,
            message.rate,
            _read_coins("deposits", [_read_sweep(one) for one in message.deposits[: rules.max_sweeps + 1]], rules),
            transaction,
            path,
            _read_coins("gifts", [_read_gift(one) for one in message.gifts[: rules.max_sweeps + 1]], rules),
            message.data_root or NO_DATA,
            _read_payloads(message.data),
        )


def inputs_of(transaction: Transaction) -> tuple[Outpoint, ...]:
    """What a transaction spends."""
    return tuple(Outpoint(one.txid, one.index) for one in transaction.inputs)


def _read_coins(name: str, coins: list[Taken], rules: PegRules) -> tuple[Taken, ...]:
    if len(coins) > rules.max_sweeps:
        raise ProposalMalformed("proposal", f"more than {rules.max_sweeps} {name}")
    outpoints = [one.outpoint for one in coins]
    if outpoints != sorted(set(outpoints)):
        raise ProposalMalformed("proposal", f"{name} out of order, or twice")
    return tuple(coins)


def _read_sweep(message: messages.Sweep) -> Sweep:
    if len(message.txid) != 32 or len(message.binding) != BINDING_BYTES:
        raise ProposalMalformed("proposal", "a deposit of another size")
    return Sweep(Outpoint(message.txid, message.index), read_binding(Reader(message.binding)))


def _read_payloads(data: Sequence[messages.Payload]) -> tuple[PayloadPlace, ...]:
    if len(data) > MAX_PAYLOADS or any(len(one.root) != 32 or len(one.txid) != 32 for one in data):
        raise ProposalMalformed("proposal", f"more than {MAX_PAYLOADS} payloads, or one of another size")
    return tuple(PayloadPlace(one.root, one.txid) for one in data)


def _read_gift(message: messages.GiftCoin) -> GiftCoin:
    if len(message.txid) != 32:
        raise ProposalMalformed("proposal", "a gift of another size")
    return GiftCoin(Outpoint(message.txid, message.index), message.epoch)
