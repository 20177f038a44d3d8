"""One signer's answers: what it signs, what it takes note of, and the file between."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import structlog

from bridge.errors import TransactionMalformed
from bridge.peg_state import PegState
from bridge.scripts import Binding
from bridge.taproot import Path, check_signature
from bridge.transactions import Transaction
from bridge.vault import Draft
from chain.errors import HyperdustError
from hyperdust.signer.data_watch import DataWatch
from hyperdust.signer.errors import (
    NonceUnknown,
    NotMine,
    OtherChain,
    ProposalMalformed,
    SignatureWrong,
    UnknownLeader,
    WrongPath,
)
from hyperdust.signer.key import SigningKey, is_signed, nonces_digest, proposal_digest
from hyperdust.signer.musig import NONCE_S, Commitment, Commitments, check_shared
from hyperdust.signer.proposal import Proposal, inputs_of
from hyperdust.signer.protection import FIRST, Protection, Version, read_list, show_outpoint, show_txid
from hyperdust.signer.rebuild import Sources, outpoint_of, rebuild
from hyperdust.signer.spoilers import Spoilers

log = structlog.get_logger()

MAX_TRANSACTION_BYTES: Final = 400_000
"""With witnesses: what Bitcoin's nodes relay."""
_LEADERS_S: Final = 2.0


class Session:
    """Signs proposals on one chain. Safe from any thread: one at a time."""

    def __init__(self, key: SigningKey, chain: bytes, sources: Sources, protection: Protection) -> None:
        self.key = key
        self.chain = chain
        self.sources = sources
        self._protection = protection
        self._lock = threading.RLock()
        self._dead: frozenset[str] = frozenset()
        self._known_leaders: tuple[bytes, ...] = ()
        self._leaders_until = 0.0
        self._commitments = Commitments()
        self._clock = time.monotonic
        self.spoilers = Spoilers()
        """Whom this signer waits for no longer when it leads."""
        self.data = DataWatch()
        """Payloads of blocks that its anchors may name."""

    def sign(self, raw: bytes, signature: bytes) -> tuple[bytes, ...]:
        """Signatures of a proposal, one an input, empty where the key has no part.

        Raises:
            WrongPath: the round is one for all together.
            The refusals of `errors`, and those of `rebuild`.
        """
        with self._lock:
            proposal = self._read(raw, signature)
            draft, vault, mine = self._rebuild(proposal, Path.SCRIPT)
            self._protect(vault, proposal, draft, raw, signature)
            messages = draft.compute_sighashes()
            return tuple(self.key.sign(message) if own else b"" for own, message in zip(mine, messages, strict=True))

    def commit(self, raw: bytes, signature: bytes) -> tuple[bytes, ...]:
        """Public nonces for a proposal, one an input; the same ones until they have signed.

        Raises:
            WrongPath: the round is one for k signatures, or the common key is another.
            The refusals of `errors`, and those of `rebuild`.
        """
        with self._lock:
            proposal, digest, now = self._read(raw, signature), proposal_digest(raw), self._clock()
            try:
                if not (known := self._commitments.find(proposal.leader, digest, now)).asked:
                    return known.public
            except NonceUnknown:
                pass
            draft, vault, mine = self._rebuild(proposal, Path.KEY)
            check_shared(draft)
            self._check(self._version(vault, proposal, draft.transaction, raw, signature))
            made = [
                self.key.make_nonce(message) if own else (bytearray(), b"")
                for own, message in zip(mine, draft.compute_sighashes(), strict=True)
            ]
            secret, public = tuple(one for one, _ in made), tuple(one for _, one in made)
            self._commitments.put(
                proposal.leader, Commitment(digest, draft, vault, public, secret, self._clock() + NONCE_S)
            )
            return public

    def sign_together(
        self, raw: bytes, signature: bytes, nonces: tuple[bytes, ...], nonces_signature: bytes
    ) -> tuple[bytes, ...]:
        """This key's parts of the signatures, one an input, over the aggregates of all nonces: once.

        Raises:
            NonceUnknown, NonceSpent, NonceWrong: by rule.
            AnotherRound, and the other refusals of the protection file.
        """
        with self._lock:
            proposal, digest = self._read(raw, signature), proposal_digest(raw)
            if not is_signed(proposal.leader, nonces_digest(digest, nonces), nonces_signature):
                raise UnknownLeader("leader's signature of nonces", nonces_signature, f"one of {proposal.leader.hex()}")
            known = self._commitments.find(proposal.leader, digest, self._clock())
            contexts = known.open(nonces)
            if not known.asked:
                self._protect(known.vault, proposal, known.draft, raw, signature)
                known.asked = nonces
                known.parts = tuple(
                    self.key.sign_part(secret, context) if secret else b""
                    for secret, context in zip(known.secret, contexts, strict=True)
                )
            return known.parts

    def deliver(self, raw: bytes, signature: bytes, signed: bytes) -> None:
        """Take note of a round that somebody completed, and send it on.

        Raises:
            ProposalMalformed, UnknownLeader, OtherChain: it is none.
            RpcFault: bitcoind does not take it.
        """
        if len(signed) > MAX_TRANSACTION_BYTES:
            raise ProposalMalformed("transaction", f"{len(signed)} bytes, at most {MAX_TRANSACTION_BYTES}")
        with self._lock:
            proposal = self._read(raw, signature)
            try:
                transaction = Transaction.decode(signed)
            except TransactionMalformed as error:
                raise ProposalMalformed("transaction", str(error)) from error
            if transaction.encode_stripped() != proposal.transaction.encode_stripped():
                raise ProposalMalformed("transaction", "not that of its proposal")
            vault = self._vault_of(transaction)
            if vault != FIRST and show_outpoint(inputs_of(transaction)[0]) != vault:
                raise ProposalMalformed("transaction", f"does not spend the vault, {vault}")
            self.sources.bitcoin.send(transaction)
            self.note_completed(vault, proposal, raw, signature, transaction)

    def note_completed(
        self, vault: str, proposal: Proposal, raw: bytes, signature: bytes, transaction: Transaction
    ) -> None:
        """Write a completed round down, so that this signer can send it again and raise its rate."""
        with self._lock:
            version = self._version(vault, proposal, transaction, raw, signature)
            self._protection.record(replace(version, signed=False, raw=transaction.encode().hex()))
            self._protection.mark_seen(version.txid)

    def mark_seen(self, txid: str) -> None:
        """Note that Bitcoin has a round."""
        with self._lock:
            self._protection.mark_seen(txid)

    def versions(self, vault: str) -> tuple[Version, ...]:
        """What is known of the rounds of a vault."""
        with self._lock:
            return self._protection.versions(vault)

    def bindings(self) -> tuple[Binding, ...]:
        """Of all deposits in rounds that this signer knows: evidence of them needs no node's memory."""
        with self._lock:
            raws = [bytes.fromhex(one.proposal) for one in self._protection.all_versions]
        found = (sweep.binding for raw in raws for sweep in Proposal.decode(raw, self.sources.rules).deposits)
        return tuple(dict.fromkeys(found))

    def note_dead(self, txids: frozenset[str]) -> None:
        """First rounds that can never be mined: another transaction, deep on Bitcoin, spends one of their deposits."""
        with self._lock:
            self._dead = txids

    def close(self) -> None:
        """Forget secret nonces, let go of the protection file."""
        with self._lock:
            self._commitments.clear()
            self._protection.close()

    def _rebuild(self, proposal: Proposal, path: Path) -> tuple[Draft, str, list[bool]]:
        """The draft, the vault that it spends, and which inputs are this key's to sign."""
        if proposal.path is not path:
            raise WrongPath("path", proposal.path.value, path.value)
        known = [one.rate for one in self._protection.versions(self._vault_of(proposal.transaction)) if one.signed]
        rebuilt = rebuild(proposal, self.sources, max(known, default=0))
        mine = [self.key.public in one.custody.signers.keys for one in rebuilt.draft.inputs]
        if not any(mine):
            raise NotMine("key", self.key.public, "one of those that hold what the round spends")
        return rebuilt.draft, show_outpoint(rebuilt.vault), mine

    def _vault_of(self, transaction: Transaction) -> str:
        """The vault that a round has to spend; of a frozen peg only Bitcoin knows it, and `rebuild` looks there."""
        head = self._head()
        if head.frozen is None:
            return vault_of(head)
        return show_outpoint(next(iter(inputs_of(transaction)), None))

    def _protect(self, vault: str, proposal: Proposal, draft: Draft, raw: bytes, signature: bytes) -> None:
        """Check and write down; only then may a signature, or a part of one, leave."""
        version = self._version(vault, proposal, draft.transaction, raw, signature)
        self._check(version)
        self._protection.record(version)
        log.info("signed", txid=version.txid, vault=vault, rate=version.rate, path=version.path, leader=version.leader)

    def _check(self, version: Version) -> None:
        self._protection.check(version, self.sources.limits.bump_blocks, read_list(self.sources.bitcoin), self._dead)

    def _read(self, raw: bytes, signature: bytes) -> Proposal:
        proposal = Proposal.decode(raw, self.sources.rules)
        if proposal.chain != self.chain:
            raise OtherChain("chain", proposal.chain, self.chain)
        if not is_signed(proposal.leader, proposal_digest(raw), signature):
            raise UnknownLeader("leader's signature", signature, f"one of {proposal.leader.hex()}")
        if proposal.leader not in self._leaders():
            raise UnknownLeader("leader", proposal.leader, "a key that may hold the vault")
        return proposal

    def _leaders(self) -> tuple[bytes, ...]:
        """Looked up now and then: strangers shall not keep this signer's node busy."""
        if (now := time.monotonic()) >= self._leaders_until:
            self._known_leaders, self._leaders_until = keys_of(self._head()), now + _LEADERS_S
        return self._known_leaders

    def _head(self) -> PegState:
        return self.sources.node.load_peg().state

    def _version(
        self, vault: str, proposal: Proposal, transaction: Transaction, raw: bytes, signature: bytes
    ) -> Version:
        return Version(
            vault,
            show_txid(transaction.txid),
            tuple(map(show_outpoint, inputs_of(transaction))) if vault == FIRST else (),
            proposal.leader.hex(),
            proposal.rate,
            self.sources.bitcoin.load_height(),
            raw.hex(),
            signature.hex(),
            signed=True,
            path=proposal.path.value,
        )


def vault_of(state: PegState) -> str:
    """The vault of a state, as the protection file writes it."""
    return show_outpoint(outpoint_of(state.vault))


def keys_of(state: PegState) -> tuple[bytes, ...]:
    """Keys that may lead: of the vault's signers, of those announced, and of those before as long as they sweep."""
    return tuple(dict.fromkeys(key for custody in state.answering() for key in custody.signers.keys))


def check_signatures(draft: Draft, key: bytes, signatures: Sequence[bytes]) -> Mapping[int, bytes]:
    """What another signer answered, by input.

    Raises:
        SignatureWrong: names the input.
    """
    if len(signatures) != len(draft.inputs):
        raise SignatureWrong("signatures", len(signatures), f"{len(draft.inputs)}, one an input")
    found: dict[int, bytes] = {}
    for at, (one, message, signature) in enumerate(
        zip(draft.inputs, draft.compute_sighashes(), signatures, strict=True)
    ):
        if key not in one.custody.signers.keys:
            continue
        try:
            check_signature(key, message, signature)
        except HyperdustError as error:
            raise SignatureWrong(f"input {at}", signature, f"a signature of {key.hex()}") from error
        found[at] = signature
    return found
