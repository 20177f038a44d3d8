"""Reports validators that voted against themselves: the node shows both votes, the Court takes their locked subsidies.

Half of what is taken is the reporter's. A voter is reported once, for the blocks that are locked when it is first seen
to have some; whoever else reports it first leaves nothing to take. Spec: docs/spec/finality.md.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from chain.errors import HyperdustError
from chain.params import COURT, DUST
from hyperdust.contracts_abi import decode_output, encode_call
from hyperdust.durable import replace_durably
from hyperdust.outbox import Call, Outbox
from hyperdust.proto import work_pb2 as messages
from hyperdust.rpc_client import RpcClient

log = structlog.get_logger()

BLOCKS_A_REPORT: Final = 64  # Court.prove_equivocation's bound
_GAS: Final = 1 << 22  # 64 rewards at 40,000 each, two signatures, one payment
_AT_ONCE: Final = 4  # an outbox has eight nonces ahead, and its duties want some
_EVERY_BLOCKS: Final = 4
_REMEMBERED: Final = 4_096

SignedVote = tuple[tuple[bytes, int, bytes, int], bytes]
"""((source, its height, target, its height), r ‖ s ‖ y-parity)."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two votes of one voter that may not both exist."""

    voter: bytes
    first: SignedVote
    second: SignedVote


class Rewards(Protocol):
    """What a report is made of, read from a node, and where it goes."""

    def load_pairs(self) -> Sequence[Pair]:
        """The node's evidence."""
        ...

    def load_locked(self, coinbase: bytes) -> list[int]:
        """Blocks of a coinbase whose subsidy can still be taken, oldest first."""
        ...

    def send(self, raw: bytes) -> None:
        """Hand a signed transaction to the node."""
        ...


class Reporter:
    """One key's reports on one chain. One process, one thread."""

    def __init__(self, address: bytes, outbox: Outbox, path: Path, rewards: Rewards) -> None:
        self._address = address
        self._outbox = outbox
        self._path = path
        self._rewards = rewards
        self._looked_at = 0
        self._reports: dict[str, list[list[int]]] = {}
        """Voter -> numbers of blocks not taken yet, at most 64 a transaction; none: it was reported."""
        try:
            self._reports = _checked(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError) as error:
            # At worst a report is made again, of blocks that are locked by now.
            log.warning("reports unreadable, starting anew", path=str(path), error=str(error))

    def act(self, template: messages.Template) -> None:
        """Bring reports nearer to the chain; to be called for each template, looks at the node every few blocks."""
        pause = 1 if any(self._reports.values()) else _EVERY_BLOCKS
        if 0 <= template.number - self._looked_at < pause:
            return
        self._looked_at = template.number
        try:
            pairs = [pair for pair in self._rewards.load_pairs() if pair.voter != self._address]
        except HyperdustError as error:
            log.warning("double votes wait for the node", reason=str(error))
            return
        for pair in pairs:
            try:
                self._report(pair, template)
            except HyperdustError as error:
                log.warning("a report waits", voter="0x" + pair.voter.hex(), reason=str(error))

    def _report(self, pair: Pair, template: messages.Template) -> None:
        voter = "0x" + pair.voter.hex()
        if self._reports.get(voter) == []:
            return
        locked = self._rewards.load_locked(pair.voter)
        if voter not in self._reports:
            if not locked:
                return  # it may mine again
            starts = range(0, len(locked), BLOCKS_A_REPORT)
            self._put(voter, [locked[start : start + BLOCKS_A_REPORT] for start in starts])
            log.warning("a validator voted against itself, reporting it", voter=voter, blocks=len(locked))
        left = [numbers for numbers in self._reports[voter] if not set(numbers).isdisjoint(locked)]
        given_up = [numbers for numbers in left[:_AT_ONCE] if not self._deliver(pair, numbers, template)]
        self._put(voter, [numbers for numbers in left if numbers not in given_up])
        self._outbox.keep_only("equivocation", {each for each, open_ in self._reports.items() if open_})

    def _deliver(self, pair: Pair, numbers: Sequence[int], template: messages.Template) -> bool:
        data = encode_call("Court", "prove_equivocation", *pair.first, *pair.second, list(numbers))
        name = f"equivocation:0x{pair.voter.hex()}:{numbers[0]}"
        return self._outbox.deliver(name, Call(COURT, data, _GAS), template, self._rewards.send)

    def _put(self, voter: str, blocks: list[list[int]]) -> None:
        if self._reports.get(voter) == blocks:
            return
        self._reports[voter] = blocks
        while len(self._reports) > _REMEMBERED:
            del self._reports[next(iter(self._reports))]
        replace_durably(self._path, json.dumps(self._reports))
        if not blocks:
            log.info("nothing locked is left of a validator that voted against itself", voter=voter)


class RpcRewards:
    """The same over JSON-RPC."""

    def __init__(self, rpc: str) -> None:
        self._rpc = rpc
        self._coinbases: dict[int, bytes] = {}
        """Of the blocks that may be locked; a reorganisation is noticed when a reward is read again."""

    def load_pairs(self) -> Sequence[Pair]:
        """The node's evidence.

        Raises:
            Unreachable, RpcError.
        """
        with RpcClient(self._rpc) as client:
            found = client.call("hyperdust_finality")["equivocations"]
        return [Pair(_bytes(pair["voter"]), _signed(pair["first"]), _signed(pair["second"])) for pair in found]

    def load_locked(self, coinbase: bytes) -> list[int]:
        """Blocks of a coinbase whose subsidy can still be taken in the block after the next.

        Raises:
            Unreachable, RpcError.
        """
        with RpcClient(self._rpc) as client:
            head = client.quantity("eth_blockNumber")
            (*_, unlock, _) = _reward(client, head - 1)
            window = range(max(1, 2 * (head - 1) - unlock + 1), head)
            self._coinbases = {
                number: self._coinbases.get(number) or _bytes(_reward(client, number)[0]) for number in window
            }
            theirs = [number for number, miner in self._coinbases.items() if miner == coinbase]
            rewards = [(number, _reward(client, number)) for number in theirs]
        return [
            number
            for number, (miner, _, _, unlocks, claimed) in rewards
            if _bytes(miner) == coinbase and unlocks > head + 2 and not claimed
        ]

    def send(self, raw: bytes) -> None:
        """Hand a signed transaction to the node.

        Raises:
            Unreachable, RpcError.
        """
        with RpcClient(self._rpc) as client:
            client.call("eth_sendRawTransaction", "0x" + raw.hex())


def _reward(client: RpcClient, number: int) -> tuple[Any, ...]:
    """Coinbase, minted, credit spent, block that unlocks it, claimed."""
    return decode_output("Dust", "reward_of", client.view(DUST, encode_call("Dust", "reward_of", number)))


def _signed(vote: Mapping[str, Any]) -> SignedVote:
    source, target = vote["source"], vote["target"]
    link = (_bytes(source["hash"]), int(source["block"]), _bytes(target["hash"]), int(target["block"]))
    return link, _bytes(vote["signature"])


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _checked(found: object) -> dict[str, list[list[int]]]:
    if not isinstance(found, dict):
        raise TypeError("no reports")
    return {str(voter): [[int(number) for number in part] for part in blocks] for voter, blocks in found.items()}
