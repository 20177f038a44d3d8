"""What is final: votes of recent work on links between checkpoints (Casper FFG).

Votes are gossip and node data, never a condition of a block's validity. Pure: a node gives the chain that it follows
and the votes that it holds. Source: protocol.md, Fork choice and finality; docs/spec/finality.md.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from chain.errors import Malformed
from chain.hashing import keccak256
from chain.params import FinalityParams
from consensus.certificate import recover_signer, sign_seal
from consensus.errors import BadVoteSignature, DoubleVote, SurroundVote, UnknownCheckpoint, WrongCheckpoint

VOTE_BYTES: Final = 2 * (32 + 8)

_DOMAIN_TYPE: Final = keccak256(b"EIP712Domain(string name,string version,uint256 chainId)")
_VOTE_TYPE: Final = keccak256(b"Vote(bytes32 source,uint64 sourceNumber,bytes32 target,uint64 targetNumber)")
_NAME: Final = keccak256(b"Hyperdust Finality")
_VERSION: Final = keccak256(b"1")


@dataclass(frozen=True, slots=True, order=True)
class Checkpoint:
    """A block at a height that is a multiple of the epoch; genesis is one."""

    number: int
    """Height."""
    hash: bytes
    """Block hash."""


@dataclass(frozen=True, slots=True)
class Vote:
    """What a voter signs: the link from a justified checkpoint to a later one."""

    source: Checkpoint
    target: Checkpoint

    def encode(self) -> bytes:
        """Encoding: source hash 32 ‖ its height u64 ‖ target hash 32 ‖ its height u64; big-endian."""
        return b"".join(place.hash + place.number.to_bytes(8, "big") for place in (self.source, self.target))


def decode_vote(data: bytes) -> Vote:
    """The inverse of `Vote.encode`.

    Raises:
        Malformed: not `VOTE_BYTES` long.
    """
    if len(data) != VOTE_BYTES:
        raise Malformed("vote", f"{len(data)} bytes, expected {VOTE_BYTES}")
    source, target = (Checkpoint(int.from_bytes(data[i + 32 : i + 40], "big"), data[i : i + 32]) for i in (0, 40))
    return Vote(source, target)


def vote_digest(vote: Vote, chain_id: int) -> bytes:
    """The 32 bytes that a voter signs. Source: EIP-712, domain {name "Hyperdust Finality", version "1", chainId}."""
    domain = keccak256(_DOMAIN_TYPE + _NAME + _VERSION + chain_id.to_bytes(32, "big"))
    places = (vote.source, vote.target)
    content = b"".join(place.hash + place.number.to_bytes(32, "big") for place in places)
    return keccak256(b"\x19\x01" + domain + keccak256(_VOTE_TYPE + content))


def sign_vote(vote: Vote, chain_id: int, private_key: bytes) -> bytes:
    """A voter's signature, by the key that seals its blocks: r ‖ s ‖ y-parity."""
    return sign_seal(vote_digest(vote, chain_id), private_key)


def recover_voter(vote: Vote, signature: bytes, chain_id: int) -> bytes:
    """The address that signed a vote.

    Raises:
        BadVoteSignature: not 65 bytes, s in the upper half, y-parity above 1, or no such point.
    """
    try:
        return recover_signer(vote_digest(vote, chain_id), signature)
    except Malformed as error:
        raise BadVoteSignature("vote signature", error.reason) from error


def check_form(vote: Vote, params: FinalityParams) -> None:
    """What a vote has to be on any chain.

    Raises:
        WrongCheckpoint
    """
    for name, place in (("source", vote.source), ("target", vote.target)):
        if place.number % params.epoch_blocks or place.number >= 1 << 64 or len(place.hash) != 32:
            raise WrongCheckpoint(f"{name} height", place.number, f"a multiple of {params.epoch_blocks}")
    if vote.source.number >= vote.target.number:
        raise WrongCheckpoint("source height", vote.source.number, f"< {vote.target.number}")


def is_double(one: Vote, other: Vote) -> bool:
    """Whether two votes of one voter name two links with one target height."""
    return one != other and one.target.number == other.target.number


def is_surround(one: Vote, other: Vote) -> bool:
    """Whether the link of one vote lies strictly within the other's."""
    return (one.source.number - other.source.number) * (one.target.number - other.target.number) < 0


def find_conflict(vote: Vote, earlier: Iterable[Vote]) -> Vote | None:
    """The first of a voter's earlier votes that makes this one slashable."""
    return next((held for held in earlier if is_double(vote, held) or is_surround(vote, held)), None)


def check_consistent(vote: Vote, earlier: Iterable[Vote]) -> None:
    """Check a vote against all that its voter signed before.

    Raises:
        DoubleVote, SurroundVote: slashable.
    """
    held = find_conflict(vote, earlier)
    if held is None:
        return
    rule = DoubleVote if is_double(vote, held) else SurroundVote
    raise rule(f"{rule.__name__}: {_show(vote)}, and before {_show(held)}")


@dataclass(frozen=True, slots=True)
class Committee:
    """Who votes on a link, and with what weight."""

    weights: Mapping[bytes, int]
    """Blocks of the window by coinbase, in the order of addresses."""
    total: int
    """Blocks of the window."""

    def weigh(self, voters: Iterable[bytes]) -> int:
        """Blocks of those who voted; each voter is given once."""
        return sum(self.weights.get(voter, 0) for voter in voters)


def committee_end(vote: Vote, params: FinalityParams) -> int:
    """Height of the last block of a link's window: its source, or one window before its target where that is later.

    The later window lets a chain whose voters vanished become final again. The link alone decides (ADR 10).
    """
    return max(vote.source.number, vote.target.number - params.committee_blocks)


def compute_committee(end: int, coinbase_at: Callable[[int], bytes], params: FinalityParams) -> Committee:
    """The coinbases of the window that ends at a height; at and below genesis its validators fill it in turn."""
    validators = params.genesis_validators
    counts: dict[bytes, int] = {}
    for number in range(end - params.committee_blocks + 1, end + 1):
        if number > 0:
            member = coinbase_at(number)
        elif validators:
            member = validators[-number % len(validators)]
        else:
            continue
        counts[member] = counts.get(member, 0) + 1
    return Committee({member: counts[member] for member in sorted(counts)}, sum(counts.values()))


def is_supermajority(weight: int, total: int, params: FinalityParams) -> bool:
    """Whether a weight justifies: two thirds; an empty committee justifies nothing."""
    return weight > 0 and weight * params.threshold_denominator >= total * params.threshold_numerator


class FollowedChain(Protocol):
    """The heaviest valid chain that a node knows."""

    def hash_at(self, number: int) -> bytes | None:
        """Hash of its block at a height; None above the head."""

    def committee_at(self, end: int) -> Committee:
        """The committee of the window that ends at a height of it."""


@dataclass(frozen=True, slots=True)
class Finality:
    """What votes have settled so far."""

    final: Checkpoint
    """Never taken back."""
    justified: tuple[Checkpoint, ...]
    """From the final one up; those of branches that are not followed now are among them, and do not count."""

    def highest(self, chain: FollowedChain) -> Checkpoint:
        """The last justified checkpoint of a chain."""
        on_chain = [place for place in self.justified if chain.hash_at(place.number) == place.hash]
        return max(on_chain, default=self.final)


def start_of_finality(genesis_hash: bytes) -> Finality:
    """Genesis is final, and the first source."""
    genesis = Checkpoint(0, genesis_hash)
    return Finality(genesis, (genesis,))


def check_on_chain(vote: Vote, chain: FollowedChain) -> None:
    """Check that both ends of a link lie on a chain.

    Raises:
        UnknownCheckpoint: the target lies on another branch, or above the head.
        WrongCheckpoint: the target lies on the chain, the source does not.
    """
    if chain.hash_at(vote.target.number) != vote.target.hash:
        raise UnknownCheckpoint(f"UnknownCheckpoint: target {_name(vote.target)} is not on the chain that is followed")
    source = chain.hash_at(vote.source.number)
    if source != vote.source.hash:
        raise WrongCheckpoint("source", vote.source.hash, source)


def compute_finality(
    held: Finality, votes: Mapping[Vote, Collection[bytes]], chain: FollowedChain, params: FinalityParams
) -> Finality:
    """What votes settle on a chain, after what they settled before; `votes` gives each link's voters.

    The order in which votes came does not matter. Links off the chain count for nothing: on a lighter branch the window
    may be an attacker's own. A justified checkpoint is final when the next one is justified from it, so that one link,
    or links that skip, make nothing final.
    """
    justified = dict.fromkeys(held.justified)
    final = held.final
    for vote in sorted(
        votes, key=lambda vote: (vote.target, vote.source)
    ):  # sources first: they lie below their targets
        if vote.source not in justified or not _is_on_chain(vote, chain):
            continue
        committee = chain.committee_at(committee_end(vote, params))
        if not is_supermajority(committee.weigh(votes[vote]), committee.total, params):
            continue
        justified[vote.target] = None
        if vote.target.number == vote.source.number + params.epoch_blocks:
            final = max(final, vote.source)
    return Finality(final, tuple(sorted(place for place in justified if place.number >= final.number)))


def _is_on_chain(vote: Vote, chain: FollowedChain) -> bool:
    return all(chain.hash_at(place.number) == place.hash for place in (vote.source, vote.target))


def _show(vote: Vote) -> str:
    return f"{_name(vote.source)} -> {_name(vote.target)}"


def _name(place: Checkpoint) -> str:
    return f"{place.number} (0x{place.hash.hex()})"
