"""A Bitcoin without proof of work: blocks with real Merkle roots, coins, branches. Scripts are not run."""

from dataclasses import dataclass

from bridge.deposits import Outpoint
from bridge.errors import HeaderUnknown
from bridge.headers import Header
from bridge.inclusion import build_branch
from bridge.transactions import COINBASE_OUTPOINT, Input, Output, Transaction


@dataclass
class Block:
    hash: bytes
    height: int
    raw: bytes
    transactions: list
    coins: dict


class FakeBitcoin:
    """Keeps the rules of `BitcoinView`; the best chain is the one that was mined last and is longest."""

    def __init__(self):
        self.blocks = {}
        self.best = []
        self.mined = 0
        self.mine([])

    # --- what a view says

    @property
    def height(self):
        return len(self.best) - 1

    def hash_at(self, height):
        if not 0 <= height <= self.height:
            raise HeaderUnknown("height", height, f"0 to {self.height}")
        return self.best[height].hash

    def _block(self, block_hash):
        if block_hash not in self.blocks:
            raise HeaderUnknown("hash", block_hash.hex(), "a known one")
        return self.blocks[block_hash]

    def height_of(self, block_hash):
        return self._block(block_hash).height

    def raw_header(self, block_hash):
        return self._block(block_hash).raw

    def ancestor(self, block_hash, height):
        block = self._block(block_hash)
        if not 0 <= height <= block.height:
            raise HeaderUnknown("height", height, f"0 to {block.height}")
        while block.height > height:
            block = self._block(block.raw[4:36])
        return block.hash

    def confirmations(self, block_hash):
        block = self._block(block_hash)
        on_best = block.height <= self.height and self.best[block.height] is block
        return self.height - block.height + 1 if on_best else 0

    # --- what happens

    def mine(self, transactions):
        """A block with those that are possible; gives it."""
        height = len(self.best)
        coins = dict(self.best[-1].coins) if self.best else {}
        self.mined += 1
        script = b"\x03" + height.to_bytes(3, "little") + self.mined.to_bytes(4, "little")
        coinbase = Input(COINBASE_OUTPOINT[:32], 0xFFFFFFFF, script, 0xFFFFFFFF)
        taken = [Transaction(2, (coinbase,), (Output(5_000_000_000, b"\x51"),), 0)]
        for transaction in transactions:
            if self.is_possible(transaction, coins):
                spend(coins, transaction)
                taken.append(transaction)
        for made in taken:
            coins.update({Outpoint(made.txid, at): output for at, output in enumerate(made.outputs)})
        parent = self.best[-1].hash if self.best else bytes(32)
        txids = tuple(made.txid for made in taken)
        root = root_of(txids)
        header = Header(0x20000000, parent, root, 1_700_000_000 + height, 0x207FFFFF, self.mined)
        block = Block(header.hash, height, header.encode(), taken, coins)
        self.blocks[block.hash] = block
        self.best.append(block)
        return block

    @staticmethod
    def is_possible(transaction, coins):
        places = [Outpoint(spent.txid, spent.index) for spent in transaction.inputs]
        if len(set(places)) < len(places) or any(place not in coins for place in places):
            return False
        return sum(coins[place].sats for place in places) >= sum(made.sats for made in transaction.outputs)

    def drop(self, depth):
        """Forget the last blocks as the best ones; their transactions, oldest first, without coinbases."""
        gone, self.best = self.best[-depth:], self.best[:-depth]
        return [made for block in gone for made in block.transactions[1:]]

    @property
    def coins(self):
        return self.best[-1].coins

    def pay(self, *outputs):
        """A transaction out of nowhere: spends the newest coinbase."""
        block = next(block for block in reversed(self.best) if Outpoint(block.transactions[0].txid, 0) in self.coins)
        place = Input(block.transactions[0].txid, 0, b"", 0xFFFFFFFD)
        return Transaction(2, (place,), tuple(outputs), 0)

    def find(self, txid):
        """The block of the best chain that has a transaction, and the transaction."""
        for block in reversed(self.best):
            for made in block.transactions:
                if made.txid == txid:
                    return block, made
        return None, None

    def prove(self, txid):
        block, made = self.find(txid)
        txids = tuple(one.txid for one in block.transactions)
        return block.hash, build_branch(txids, txids.index(txid)), made


def spend(coins, transaction):
    for spent in transaction.inputs:
        del coins[Outpoint(spent.txid, spent.index)]


def root_of(txids):
    from bridge.inclusion import compute_merkle_root

    return compute_merkle_root(txids)
