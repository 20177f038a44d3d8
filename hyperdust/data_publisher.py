"""Who posts final blocks on Bitcoin: payloads by `bridge.batch`, each in the witness of one transaction of its own.

A payload takes two transactions: one of the operator's wallet pays to the envelope's script, one of the publisher's key
spends that and so shows the payload. One payload is on its way at a time (nodes relay at most 101 kvB of unconfirmed
transactions that hang together), and what a reorganisation throws out is sent again.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol

import coincurve
import structlog
from btclib.b32 import p2tr

from bridge.batch import NO_PAYLOAD, WINDOW_BLOCKS, build_payloads, read_head
from bridge.data import data_root, envelope_output
from bridge.taproot import compute_sighashes, vsize_of, with_witnesses
from bridge.transactions import Input, Output, Transaction
from bridge.work import show_hash
from chain.blocks import Block, decode_block, encode_body
from chain.errors import NodeFault
from hyperdust.bitcoind import Bitcoind, RpcFault, sats_to_btc
from hyperdust.durable import PRIVATE, create_durably, replace_durably
from hyperdust.rpc_client import RpcClient

log = structlog.get_logger()

_REPLACEABLE: Final = 0xFFFFFFFD
_LEFT_SATS: Final = 1_000
"""What the wallet gets back from a reveal: above every dust limit."""
_FALLBACK_RATE: Final = 2_000
"""Sat per 1,000 vB where bitcoind cannot tell."""
_LEAST_RATE: Final = 1_000
_TARGET_BLOCKS: Final = 6
_SETTLED: Final = 100
"""Confirmations after which a reveal is not looked at again."""
_MOST_BLOCKS: Final = 1_024
"""Looked at for one payload."""
_NETWORKS: Final = {
    "main": "mainnet",
    "test": "testnet",
    "testnet4": "testnet",
    "signet": "signet",
    "regtest": "regtest",
}
_NOT_FOUND: Final = -5
_ALREADY_IN_CHAIN: Final = -27


class JournalFault(NodeFault):
    """The publisher's folder cannot be used."""


class WalletFault(NodeFault):
    """The operator's Bitcoin wallet cannot pay."""


class Blocks(Protocol):
    """Where blocks come from: the operator's own node."""

    def final_height(self) -> int:
        """Of the last block that is final."""

    def block(self, number: int) -> Block:
        """A block of the node's chain."""


class NodeBlocks:
    """`Blocks` over JSON-RPC."""

    def __init__(self, client: RpcClient) -> None:
        self._client = client

    def final_height(self) -> int:
        """As `Blocks`."""
        return int(self._client.call("hyperdust_finality")["final"]["block"])

    def block(self, number: int) -> Block:
        """As `Blocks`.

        Raises:
            NodeFault: the node has none at that height.
        """
        raw = self._client.call("hyperdust_getRawBlock", hex(number))
        if raw is None:
            raise NodeFault(f"the node has no block {number}")
        return decode_block(bytes.fromhex(raw[2:]))


@dataclass(frozen=True, slots=True)
class Published:
    """One payload that was sent."""

    first: int
    last: int
    part: int
    """Of `parts`: a block too large for one payload takes several."""
    parts: int
    root: str
    """`bridge.data.data_root`, by which an anchor names it."""
    commit: str
    """Id, as bitcoind writes it, of the transaction that pays to the envelope."""
    reveal: str
    """Id of the one that carries the payload."""
    size: int
    """Bytes of the payload."""
    vsize: int
    """Of both transactions."""
    fee: int
    """Sats of both."""


class Journal:
    """A folder: the publisher's key, the list of what was sent, and the transactions themselves until they are deep."""

    def __init__(self, folder: Path) -> None:
        """Open or make it.

        Raises:
            JournalFault: it cannot be read or written.
        """
        self._folder = folder
        path = folder / "published.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.key = self._load_key(folder / "publisher.key")
            found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
            self.entries = [Published(**one) for one in found]
        except (OSError, ValueError, TypeError) as error:
            raise JournalFault(f"the publisher's folder {folder} cannot be used: {error}") from error

    @staticmethod
    def _load_key(path: Path) -> coincurve.PrivateKey:
        if not path.exists():
            create_durably(path, secrets.token_hex(32), PRIVATE)
        return coincurve.PrivateKey(bytes.fromhex(path.read_text(encoding="ascii").strip()))

    def add(self, entry: Published, transactions: Sequence[bytes]) -> None:
        """Write down what is about to be sent; afterwards it can be sent any number of times.

        Raises:
            JournalFault: the disk does not take it; nothing may be sent then.
        """
        entries = [*self.entries, entry]
        try:
            replace_durably(self._path_of(entry), "\n".join(raw.hex() for raw in transactions))
            replace_durably(self._folder / "published.json", json.dumps([asdict(one) for one in entries], indent=1))
        except OSError as error:
            raise JournalFault(f"the publisher's folder {self._folder} cannot be written: {error}") from error
        self.entries = entries

    def load_transactions(self, entry: Published) -> list[bytes]:
        """Commit and reveal; nothing once they were settled."""
        path = self._path_of(entry)
        return [bytes.fromhex(line) for line in path.read_text(encoding="ascii").split()] if path.exists() else []

    def settle(self, entry: Published) -> None:
        """Forget the bytes of what no reorganisation takes away."""
        self._path_of(entry).unlink(missing_ok=True)

    def _path_of(self, entry: Published) -> Path:
        return self._folder / f"{entry.reveal}.sent"


class Publisher:
    """`step` as often as one likes; each does what there is to do and returns. One thread."""

    def __init__(
        self, blocks: Blocks, client: Bitcoind, wallet: Bitcoind, journal: Journal, max_rate: int = 500_000
    ) -> None:
        """`wallet`: pays, and gets the change; `max_rate`: sat per 1,000 vB, above which it waits."""
        self._blocks = blocks
        self._client = client
        self._wallet = wallet
        self._journal = journal
        self._max_rate = max_rate
        self._network = _NETWORKS[client.chain_info().network]
        self._cache: dict[int, Block] = {}

    @property
    def entries(self) -> tuple[Published, ...]:
        """What was sent so far, oldest first."""
        return tuple(self._journal.entries)

    def step(self, least_blocks: int = 1) -> Published | None:
        """Send again what is not confirmed; if all is, send the next payload of at least so many final blocks.

        Raises:
            NodeFault: node, bitcoind or wallet do not do what is asked.
        """
        if not self._resend():
            return None
        payload = self._next_payload(least_blocks)
        if payload is None:
            return None
        rate = max(self._client.fee_rate(_TARGET_BLOCKS) or _FALLBACK_RATE, _LEAST_RATE)
        if rate > self._max_rate:
            log.info("data waits for lower fees", rate=rate, most=self._max_rate)
            return None
        entry, transactions = self._make(payload, rate)
        self._journal.add(entry, transactions)
        for raw in transactions:
            self._client.send_raw_transaction(raw)
        log.info("data sent", first=entry.first, last=entry.last, size=entry.size, vsize=entry.vsize, fee=entry.fee)
        return entry

    def is_settled(self, least_blocks: int = 1) -> bool:
        """Whether all that is to be sent is sent and confirmed."""
        return all(map(self._confirmations, self._journal.entries)) and not self._has_next(least_blocks)

    def find_root(self, height: int) -> bytes:
        """The data root for an anchor of a block: that of the newest confirmed payload of blocks up to it; or zero."""
        for entry in reversed(self._journal.entries):
            if entry.last <= height and entry.part + 1 == entry.parts and self._confirmations(entry):
                return bytes.fromhex(entry.root)
        return NO_PAYLOAD

    def _resend(self) -> bool:
        """Whether every payload is confirmed; what is not is sent again."""
        settled = True
        for entry in self._journal.entries:
            transactions = self._journal.load_transactions(entry)
            if not transactions:
                continue
            if (depth := self._confirmations(entry)) >= _SETTLED:
                self._journal.settle(entry)
            elif depth == 0:
                settled = False
                for raw in transactions:
                    self._send_again(entry, raw)
        return settled

    def _send_again(self, entry: Published, raw: bytes) -> None:
        try:
            self._client.send_raw_transaction(raw)
        except RpcFault as error:
            if error.code != _ALREADY_IN_CHAIN:
                log.warning("data is not taken", first=entry.first, last=entry.last, reason=error.message)

    def _confirmations(self, entry: Published) -> int:
        """Of the reveal, which pays to the wallet, so that the wallet knows it."""
        try:
            return max(0, int(self._wallet.call("gettransaction", entry.reveal)["confirmations"]))
        except RpcFault as error:
            if error.code != _NOT_FOUND:
                raise
            return 0

    def _next_payload(self, least_blocks: int) -> bytes | None:
        """What follows the last one sent; None: nothing yet."""
        entries = self._journal.entries
        if entries and entries[-1].part + 1 < entries[-1].parts:
            last = entries[-1]
            payloads = self._build(last.first, last.first, self._root_before(len(entries) - last.part - 1))
            if data_root(payloads[last.part]).hex() != last.root:
                raise JournalFault(f"block {last.first} is not the one whose first parts were sent; use another folder")
            return payloads[last.part + 1]
        if not self._has_next(least_blocks):
            return None
        first, final = entries[-1].last + 1 if entries else 1, self._blocks.final_height()
        return self._build(first, min(final, first + _MOST_BLOCKS - 1), self._root_before(len(entries)))[0]

    def _has_next(self, least_blocks: int) -> bool:
        entries = self._journal.entries
        if entries and entries[-1].part + 1 < entries[-1].parts:
            return True
        return self._blocks.final_height() - (entries[-1].last if entries else 0) >= least_blocks

    def _root_before(self, place: int) -> bytes:
        return bytes.fromhex(self._journal.entries[place - 1].root) if place else NO_PAYLOAD

    def _build(self, first: int, last: int, previous: bytes) -> tuple[bytes, ...]:
        blocks = [self._block(number) for number in range(first, last + 1)]
        payloads, _ = build_payloads(blocks, self._block(first - 1).header, previous, self._load_body)
        self._cache = {number: block for number, block in self._cache.items() if number >= first - WINDOW_BLOCKS}
        return payloads

    def _block(self, number: int) -> Block:
        if number not in self._cache:
            self._cache[number] = self._blocks.block(number)
        return self._cache[number]

    def _load_body(self, number: int) -> bytes:
        return encode_body(self._block(number).body)

    def _make(self, payload: bytes, rate: int) -> tuple[Published, tuple[bytes, bytes]]:
        """Commit and reveal, signed and not sent."""
        key = self._journal.key
        script, leaf = envelope_output(payload, key.public_key.format()[1:])
        back = bytes.fromhex(self._wallet.call("getaddressinfo", self._wallet.new_address())["scriptPubKey"])
        blank = _reveal(
            Input(bytes(32), 0, b"", _REPLACEABLE, (bytes(64), leaf.script, leaf.control)), back, _LEFT_SATS
        )
        fee = -(-vsize_of(blank) * rate // 1_000)
        commit = self._fund(p2tr(script[2:], self._network), fee + _LEFT_SATS, rate)
        index = next(at for at, made in enumerate(commit.outputs) if made.script == script)
        place = Input(commit.txid, index, b"", _REPLACEABLE)
        unsigned = _reveal(place, back, commit.outputs[index].sats - fee)
        (message,) = compute_sighashes(unsigned, (commit.outputs[index],), (leaf,))
        signature = bytes(key.sign_schnorr(message, secrets.token_bytes(32)))
        reveal = with_witnesses(unsigned, [(signature, leaf.script, leaf.control)])
        head = read_head(payload)
        entry = Published(
            first=head.first,
            last=head.last,
            part=head.part,
            parts=head.parts,
            root=data_root(payload).hex(),
            commit=show_hash(commit.txid),
            reveal=show_hash(reveal.txid),
            size=len(payload),
            vsize=vsize_of(commit) + vsize_of(reveal),
            fee=fee + -(-vsize_of(commit) * rate // 1_000),
        )
        return entry, (commit.encode(), reveal.encode())

    def _fund(self, address: str, sats: int, rate: int) -> Transaction:
        """A signed payment of the wallet, not sent yet: the journal has to know it first.

        Raises:
            WalletFault: the wallet does not sign it.
        """
        bare = self._client.call("createrawtransaction", [], [{address: sats_to_btc(sats)}])
        options = {"fee_rate": f"{rate // 1_000}.{rate % 1_000:03d}"}  # sat per vB
        funded = self._wallet.call("fundrawtransaction", bare, options)
        signed = self._wallet.call("signrawtransactionwithwallet", funded["hex"])
        if not signed["complete"]:
            raise WalletFault(f"the wallet at {self._wallet.url} does not sign; unlock it, or name another")
        return Transaction.decode(bytes.fromhex(signed["hex"]))


def _reveal(place: Input, script: bytes, sats: int) -> Transaction:
    return Transaction(2, (place,), (Output(sats, script),), 0)
