"""What the system call that opens a block tells the state about the block before: its coinbase and difficulty."""

from typing import Final

from chain.blocks import Header
from chain.engine import SystemCall
from chain.hashing import keccak256
from chain.params import DUST

_OPEN_BLOCK: Final = keccak256(b"open_block(address,uint256)")[:4]


def opening_call(parent: Header) -> SystemCall:
    """`Dust.open_block(coinbase, difficulty)` for the parent: mints its subsidy, spends its coinbase's credit.

    Genesis has no proposer: block 1 passes zeros, which mints nothing and only records the beacon.
    """
    coinbase, difficulty = (parent.coinbase, parent.difficulty) if parent.number else (bytes(20), 0)
    return SystemCall(to=DUST, data=_OPEN_BLOCK + coinbase.rjust(32, b"\0") + difficulty.to_bytes(32, "big"))
