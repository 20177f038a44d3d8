"""Evidence that a vault transaction stands on Bitcoin, what it spends, and whose deposits those were.

A deposit needs no Merkle branch of its own: Bitcoin let the sweep spend it, so it exists, and the outpoint's id is the
hash of the transaction that made it. Its share of the fee is written into the sweep by its signers (`charge`).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

from bridge.errors import HeaderUnknown, TransactionMalformed
from bridge.headers import Header
from bridge.inclusion import Branch, check_branch
from bridge.peg_errors import (
    CoinbaseDeposit,
    CoinbaseSweep,
    DepositTooSmall,
    EvidenceMalformed,
    EvidenceTooLarge,
    NoVaultTransaction,
    SweepNotOnBranch,
    SweepTooShallow,
    UnknownEpoch,
    WrongDepositScript,
)
from bridge.rules import PegRules
from bridge.scripts import ADDRESS_BYTES, Binding, Custody, deposit_output
from bridge.transactions import Output, Reader, Transaction
from bridge.view import BitcoinView
from bridge.work import show_hash

EVIDENCE_VERSION: Final = 1
CHARGE_FLAG: Final = 1 << 31
"""Bit of an input's sequence that switches its relative lock off (BIP-68)."""
MAX_CHARGE: Final = CHARGE_FLAG - 3  # a sequence of at most 0xfffffffd stays replaceable (BIP-125)
BINDING_BYTES: Final = 32 + ADDRESS_BYTES + 8 + 3


@dataclass(frozen=True, slots=True, order=True)
class Outpoint:
    """An output of a transaction."""

    txid: bytes
    index: int

    def __str__(self) -> str:
        return f"{show_hash(self.txid)}:{self.index}"


@dataclass(frozen=True, slots=True)
class Claim:
    """Says whose deposit an outpoint was; the script of the output proves it."""

    outpoint: Outpoint
    binding: Binding


@dataclass(frozen=True, slots=True)
class Spent:
    """An output that a vault transaction takes in."""

    output: Output
    from_coinbase: bool


@dataclass(frozen=True, slots=True)
class Credit:
    """What a deposit is worth on L2."""

    outpoint: Outpoint
    address: bytes
    """20 bytes on L2."""
    sats: int
    """The deposit less its share of the fee."""
    fee_sats: int
    """That share."""
    depth: int
    """How deep the sweep has to lie."""


@dataclass(frozen=True, slots=True)
class ProvenTransaction:
    """A transaction below the origin, and all that it spends but the vault before."""

    transaction: Transaction
    txid: bytes
    block_hash: bytes
    height: int
    """Of that block."""
    spent: tuple[Spent | None, ...]
    """For each input; None: the vault output before, which the state knows."""
    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a block carries for one vault transaction. One encoding; transactions without witnesses."""

    block_hash: bytes
    """Of the Bitcoin block."""
    branch: Branch
    """From the transaction to the block's Merkle root."""
    transaction: Transaction
    """The vault transaction."""
    is_first: bool
    """Whether no vault output was there before it: else input 0 spends that one, and needs no funding."""
    funding: tuple[Transaction, ...]
    """Transactions that made the other inputs' outputs, each once, in the order of first use."""
    claims: tuple[Claim, ...]
    """In the order of inputs; may leave inputs out, which others may claim later."""

    def encode(self) -> bytes:
        """Little-endian: version 1, first 1, block 32, then sized: branch (u16), transactions (u32), counts (u16)."""
        places = {Outpoint(made.txid, made.index): at for at, made in enumerate(self.transaction.inputs)}
        branch = self.branch.encode()
        return b"".join(
            [
                bytes([EVIDENCE_VERSION, self.is_first]),
                self.block_hash,
                len(branch).to_bytes(2, "little") + branch,
                _sized(self.transaction),
                len(self.funding).to_bytes(2, "little"),
                *(_sized(made) for made in self.funding),
                len(self.claims).to_bytes(2, "little"),
                *(places[one.outpoint].to_bytes(2, "little") + encode_binding(one.binding) for one in self.claims),
            ]
        )

    @classmethod
    def decode(cls, raw: bytes, rules: PegRules) -> Self:
        """Read exactly one.

        Raises:
            EvidenceTooLarge: above its bound.
            EvidenceMalformed, ProofMalformed: no evidence in its one encoding.
        """
        if len(raw) > rules.max_evidence_bytes:
            raise EvidenceTooLarge("evidence", len(raw), f"at most {rules.max_evidence_bytes} bytes")
        reader = Reader(raw)
        try:
            if (version := reader.number(1)) != EVIDENCE_VERSION:
                raise EvidenceMalformed("evidence", f"version {version}")
            if (first := reader.number(1)) > 1:
                raise EvidenceMalformed("evidence", f"flag {first}")
            block_hash = reader.take(32)
            branch = Branch.decode(reader.take(reader.number(2)))
            transaction = _read_transaction(reader)
            funding = tuple(_read_transaction(reader) for _ in range(reader.number(2)))
            claims = tuple(_read_claim(reader, transaction) for _ in range(reader.number(2)))
            reader.end()
        except TransactionMalformed as error:
            raise EvidenceMalformed("evidence", str(error)) from error
        evidence = cls(block_hash, branch, transaction, bool(first), funding, claims)
        evidence.check_order()
        return evidence

    def check_order(self) -> None:
        """Check that everything stands where its one encoding has it.

        Raises:
            EvidenceMalformed: something is missing, superfluous or out of order.
        """
        needed = list(dict.fromkeys(spent.txid for spent in self.transaction.inputs[not self.is_first :]))
        if [made.txid for made in self.funding] != needed:
            raise EvidenceMalformed("evidence", "funding is not what the inputs spend, in the order of first use")
        places = [Outpoint(spent.txid, spent.index) for spent in self.transaction.inputs[not self.is_first :]]
        order = [places.index(one.outpoint) for one in self.claims if one.outpoint in places]
        if len(order) != len(self.claims) or any(left >= right for left, right in pairwise(order)):
            raise EvidenceMalformed("evidence", "claims are not of inputs, in their order")


def check_evidence(evidence: Evidence, view: BitcoinView, origin: bytes, rules: PegRules) -> ProvenTransaction:
    """Check that the transaction stands in a block at or below the origin, and what its inputs spend.

    Raises:
        SweepNotOnBranch: the block is unknown, stale or above the origin.
        CoinbaseSweep: a coinbase transaction.
        EvidenceTooLarge, EvidenceMalformed: its parts do not fit.
        And the rules of `inclusion.check_branch`: a wrong root, a transaction of 64 bytes.
    """
    evidence.check_order()
    height = check_on_branch(evidence.block_hash, view, origin)
    root = Header.decode(view.raw_header(evidence.block_hash)).merkle_root
    transaction = check_branch(evidence.branch, root, evidence.transaction.encode_stripped())
    if transaction.is_coinbase:
        raise CoinbaseSweep("vault transaction", show_hash(transaction.txid), "none that makes new coins")
    made = {funding.txid: funding for funding in evidence.funding}
    for funding in evidence.funding:
        if (size := len(funding.encode_stripped())) > rules.max_funding_bytes:
            raise EvidenceTooLarge("funding transaction", size, f"at most {rules.max_funding_bytes} bytes")
    spent: list[Spent | None] = [] if evidence.is_first else [None]
    for place in transaction.inputs[not evidence.is_first :]:
        funding = made[place.txid]
        if place.index >= len(funding.outputs):
            raise EvidenceMalformed("evidence", f"{show_hash(place.txid)} has no output {place.index}")
        spent.append(Spent(funding.outputs[place.index], funding.is_coinbase))
    return ProvenTransaction(transaction, transaction.txid, evidence.block_hash, height, tuple(spent), evidence.claims)


def check_on_branch(block_hash: bytes, view: BitcoinView, origin: bytes) -> int:
    """The height of a block at or below the origin.

    Raises:
        SweepNotOnBranch: it is not.
    """
    try:
        height = view.height_of(block_hash)
        found = view.ancestor(origin, height)
    except HeaderUnknown as error:
        raise SweepNotOnBranch(show_hash(block_hash), str(error)) from error
    if found != block_hash:
        raise SweepNotOnBranch(show_hash(block_hash), f"at {height} the origin's branch has {show_hash(found)}")
    return height


def read_charge(transaction: Transaction) -> int:
    """Sats that each deposit pays of the fee at most: the lower 31 bits of every input's sequence.

    Raises:
        NoVaultTransaction: sequences that say no charge.
    """
    sequence = transaction.inputs[0].sequence
    if any(spent.sequence != sequence for spent in transaction.inputs) or not sequence & CHARGE_FLAG:
        raise NoVaultTransaction("sequences", [spent.sequence for spent in transaction.inputs], "one charge for all")
    if (charge := sequence - CHARGE_FLAG) > MAX_CHARGE:
        raise NoVaultTransaction("charge", charge, f"at most {MAX_CHARGE}")
    return charge


def check_claim(claim: Claim, spent: Spent, charge: int, custodies: tuple[Custody, ...], rules: PegRules) -> Credit:
    """What a swept deposit is worth to whom.

    Raises:
        CoinbaseDeposit, UnknownEpoch, WrongDepositScript, DepositTooSmall: by rule.
    """
    binding, sats = claim.binding, spent.output.sats
    if spent.from_coinbase:
        raise CoinbaseDeposit("deposit", str(claim.outpoint), "an output of an ordinary transaction")
    if binding.epoch >= len(custodies):
        raise UnknownEpoch("signer epoch", binding.epoch, f"0 to {len(custodies) - 1}")
    expected = deposit_output(custodies[binding.epoch], binding, rules).script
    if spent.output.script != expected:
        raise WrongDepositScript("deposit script", spent.output.script, expected)
    if sats < rules.min_deposit_sats:
        raise DepositTooSmall("deposit", sats, f"at least {rules.min_deposit_sats} sats")
    fee = min(charge, binding.max_fee)
    if fee >= sats:
        raise DepositTooSmall("deposit", sats, f"more than {fee} sats, its share of the fee")
    return Credit(claim.outpoint, binding.address, sats - fee, fee, rules.depth_of(sats))


def check_deposits(
    evidence: Evidence, view: BitcoinView, origin: bytes, custodies: tuple[Custody, ...], rules: PegRules
) -> tuple[Credit, ...]:
    """What the claims in evidence are worth below an origin, by themselves: for wallets and explorers.

    Whether the transaction belongs to the list, and what is credited already, is for `peg` to say.

    Raises:
        SweepTooShallow: one is not deep enough yet.
        And the rules of `check_evidence`, `read_charge` and `check_claim`.
    """
    proven = check_evidence(evidence, view, origin, rules)
    charge, depth = read_charge(proven.transaction), view.height_of(origin) - proven.height + rules.origin_depth
    spent = spent_by_outpoint(proven)
    worth = tuple(check_claim(claim, spent[claim.outpoint], charge, custodies, rules) for claim in proven.claims)
    for credit in worth:
        if depth < credit.depth:
            raise SweepTooShallow(depth, credit.depth)
    return worth


def spent_by_outpoint(proven: ProvenTransaction) -> dict[Outpoint, Spent]:
    """All that it takes in but the vault before."""
    pairs = zip(proven.transaction.inputs, proven.spent, strict=True)
    return {Outpoint(place.txid, place.index): spent for place, spent in pairs if spent is not None}


def encode_binding(binding: Binding) -> bytes:
    """63 bytes: user key 32, L2 address 20, maximum fee 8, epoch 3."""
    numbers = binding.max_fee.to_bytes(8, "little") + binding.epoch.to_bytes(3, "little")
    return binding.user_key + binding.address + numbers


def read_binding(reader: Reader) -> Binding:
    """The next 63 bytes."""
    return Binding(reader.take(32), reader.take(ADDRESS_BYTES), reader.number(8), reader.number(3))


def _read_claim(reader: Reader, transaction: Transaction) -> Claim:
    if (at := reader.number(2)) >= len(transaction.inputs):
        raise EvidenceMalformed("evidence", f"a claim of input {at}")
    place = transaction.inputs[at]
    return Claim(Outpoint(place.txid, place.index), read_binding(reader))


def _read_transaction(reader: Reader) -> Transaction:
    raw = reader.take(reader.number(4))
    transaction = Transaction.decode(raw)
    if transaction.encode_stripped() != raw:
        raise EvidenceMalformed("evidence", "a transaction with its witnesses")
    return transaction


def _sized(transaction: Transaction) -> bytes:
    raw = transaction.encode_stripped()
    return len(raw).to_bytes(4, "little") + raw
