"""Histories of the whole chain with its peg, from seeds: every block can be built, and the books hold after each."""

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from bridge.anchors import Anchor
from bridge.custody import Announcement
from bridge.deposits import Evidence, Outpoint
from bridge.peg_errors import NothingToDo, PegFrozen
from bridge.peg_state import Reason
from bridge.rescue import build_rescue
from bridge.transactions import Transaction
from chain.errors import HyperdustError
from consensus.evidence import decode_evidence_item
from tests.peg_chain import USER, PegChain

SEEDS = int(os.environ.get("HYPERDUST_TEST_PEG_CHAINS", "12"))
STEPS = 70
WEI = 10**10


class History:
    """What happens, and what must hold after each block."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.chain = PegChain(folder, notice_blocks=15, takeover_margin_blocks=12, emergency_blocks=60)
        self.rounds: list[Transaction] = []
        self.others: dict[bytes, Transaction] = {}
        self.lost: list[Transaction] = []
        self.asked: Counter[tuple[bytes, int]] = Counter()
        self.credited: set[Outpoint] = set()
        self.counts: Counter[str] = Counter()
        self.is_lost = False

    def deposit(self) -> None:
        self.chain.deposit(
            self.random.choice((60_000, 900_000, 3_000_000)), bytes([self.random.randrange(1, 200)]) * 20
        )

    def sign(self) -> None:
        """A round in two versions; the other one may take its place in a reorganisation."""
        chain = self.chain
        open_ = [one for at, one in chain.deposits.items() if at in chain.bitcoin.coins]
        if self.is_lost:
            return
        epoch = chain.peg.custody_at(chain.bitcoin.height, chain.rules).epoch
        anchor = Anchor(epoch, chain.store.latest.head.number, bytes(32)) if chain.peg.vault else None
        if chain.peg.vault is None and any(map(self.is_alive, self.rounds)):
            return
        try:
            made = chain.draft(*open_, anchor=anchor)
            self.others[made.txid] = other = chain.draft(*open_, anchor=anchor, rate=2_500)
        except (NothingToDo, PegFrozen):
            return
        self.rounds += [made, other]
        chain.bitcoin.mine([made])

    def is_alive(self, made: Transaction) -> bool:
        """Mined, or still possible."""
        bitcoin = self.chain.bitcoin
        return bitcoin.find(made.txid)[0] is not None or bitcoin.is_possible(made, bitcoin.coins)

    def announce(self) -> None:
        """One key goes, by an item in a block; perhaps in the place of another."""
        if not self.is_lost and len(self.chain.peg.announced) < 2:
            self.put(by_council=False)

    def put(self, *, by_council: bool) -> None:
        try:
            self.chain.announce(self.random.randrange(10, 19), by_council=by_council)
        except HyperdustError as error:
            self.counts[type(error).__name__] += 1

    def lose(self) -> None:
        """The signers are gone, the council comes in time; what was signed before may still be mined."""
        if self.is_lost or self.chain.peg.vault is None or self.random.random() < 0.5:
            return
        self.is_lost = True
        self.chain.bury(self.chain.rules.emergency_blocks)
        self.burn()

    def rescue(self) -> None:
        """Who was named gets the vault, whether the signers are gone or only quiet."""
        chain = self.chain
        if not chain.peg.rescuers:
            self.put(by_council=True)
            self.block()
        try:
            made = build_rescue(chain.peg, 1_000, chain.rules).transaction
        except HyperdustError:
            return
        self.rounds.append(made)
        chain.bitcoin.mine([made])

    def come_back(self) -> None:
        """What reorganisations took away is mined again, where it still can be."""
        lost, self.lost = self.lost, []
        for made in lost:
            self.chain.bitcoin.mine([made])

    def bury(self) -> None:
        self.chain.bury(self.random.choice((1, 1, 3, 7)))

    def withdraw(self) -> None:
        script = b"\x00\x14" + bytes([self.random.randrange(256)]) * 20
        sats, fee = self.random.choice((20_000, 40_000)), self.random.choice((0, 3_000, 20_000))
        self.chain.send("withdraw", script, fee, value=(sats + fee) * WEI)
        self.block()
        if self.chain.bridge("next_number") > sum(self.asked.values()):
            self.asked[script, sats] += 1

    def give_up(self) -> None:
        if self.chain.bridge("next_number"):
            self.chain.send("give_up", self.random.randrange(self.chain.bridge("next_number")))
            self.block()

    def burn(self) -> None:
        self.chain.send("", value=self.random.randrange(10**15))
        self.block()

    def reorganise(self) -> None:
        """Deep or not; what was mined comes back, or some of it, in another block."""
        depth = self.random.choice((2, 8, 10, 12))
        if self.chain.bitcoin.height <= depth + 16:
            return
        gone = self.chain.bitcoin.drop(depth)
        self.counts["deep" if depth > 6 else "shallow"] += 1
        for made in gone:
            if self.random.random() < 0.5:
                self.chain.bitcoin.mine([self.others.get(made.txid, made) if self.random.random() < 0.4 else made])
            self.lost.append(made)
        self.chain.bury(depth + 1)
        self.block()

    def show(self) -> None:
        """All vault transactions that the best chain has, as signers show them."""
        for made in self.rounds:
            if self.chain.bitcoin.find(made.txid)[0] is not None:
                try:
                    self.chain.show(made, claimed=True)
                except HyperdustError as error:
                    self.counts[type(error).__name__] += 1

    def block(self) -> None:
        self.show()
        chain = self.chain
        frozen, epoch = chain.peg.frozen, chain.peg.custody.epoch
        block = chain.extend()
        if chain.peg.custody.epoch > epoch:
            self.counts["rescued" if chain.peg.custody.rescues else "handed over"] += 1
            self.is_lost = False
        self.counts["evidence"] += len(block.body.evidence)
        self.counts["credits"] += len(block.body.withdrawals)
        self.counts["frozen"] += frozen is None and chain.peg.frozen is not None
        self.counts["thawed"] += frozen is not None and chain.peg.frozen is None
        for raw in block.body.evidence:
            item = decode_evidence_item(raw, chain.rules)
            assert isinstance(item, Evidence | Announcement)
            self.counts["announced"] += isinstance(item, Announcement)
        self.check()

    def check(self) -> None:
        chain = self.chain
        peg, header = chain.peg, chain.store.latest.head.header
        supply = chain.all_balances() + header.base_fee_per_gas * header.gas_used
        assert chain.bridge("supply_wei") == supply
        assert supply <= peg.vault_sats * WEI + chain.params.genesis_supply_wei
        assert peg.surplus_sats >= 0
        assert chain.bridge("is_frozen") == (peg.frozen is not None)
        assert peg.frozen is None or peg.frozen.reason is Reason.REORGANISED, "what was signed keeps the rules"
        paid: Counter[tuple[bytes, int]] = Counter(
            (output.script, output.sats)
            for block in chain.bitcoin.best
            for made in block.transactions[1:]
            for output in made.outputs[1:]
            if output.script[:2] == b"\x00\x14"
        )
        assert paid <= self.asked, "paid twice"
        waiting = {one.number for one in peg.queue}
        for number in range(peg.next_number):
            status = chain.bridge("withdrawal_of", number)[4]
            assert (status in {1, 2}) == (number in waiting), (number, status)

    def run(self) -> None:
        actions = [
            *[self.deposit] * 3,
            *[self.sign] * 4,
            *[self.bury] * 6,
            *[self.block] * 6,
            *[self.withdraw] * 3,
            self.give_up,
            self.burn,
            *[self.announce] * 2,
            self.lose,
            *[self.rescue] * 2,
            *[self.reorganise] * 2,
            self.come_back,
        ]
        for _ in range(STEPS):
            self.random.choice(actions)()
        for _ in range(3):
            self.come_back()
            if self.is_lost:
                self.burn()
                self.rescue()
                self.chain.bury(7)
                self.block()
            self.deposit()
            self.sign()
            self.chain.bury(7)
            self.block()
            self.block()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_books_hold_whatever_happens(tmp_path: Path, seed: int) -> None:
    history = History(tmp_path / "chain", seed)
    assert history.chain.balance(bytes.fromhex(USER.address[2:]))
    try:
        history.run()
    finally:
        print(f"seed {seed}: {dict(history.counts)}")
        history.chain.close()
    assert history.counts["credits"]
