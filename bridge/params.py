"""What a Bitcoin network fixes for its headers. Source: Bitcoin Core, kernel/chainparams.cpp."""

from dataclasses import dataclass
from typing import Final

RETARGET_BLOCKS: Final = 2016  # 14 days * 144 blocks a day
RETARGET_SPAN_S: Final = 14 * 24 * 60 * 60
SPACING_S: Final = 10 * 60
MEDIAN_BLOCKS: Final = 11
MAX_FUTURE_S: Final = 2 * 60 * 60
MAX_TIMEWARP_S: Final = 600
"""BIP-94: how far the first block of a period may lie before its parent."""


@dataclass(frozen=True, slots=True)
class BitcoinParams:
    """Constants of one network."""

    name: str
    """As bitcoind's `getblockchaininfo` says it in `chain`."""
    genesis: bytes
    """80 bytes."""
    easiest_bits: int
    """The easiest target, in compact form."""
    easiest_target: int
    """The limit itself: the compact form rounds it down."""
    bip34_height: int
    """From here on, version 2 at least."""
    bip66_height: int
    """Version 3 at least."""
    bip65_height: int
    """Version 4 at least."""
    retargets: bool = True
    """False on regtest: every block has its parent's bits."""
    min_difficulty: bool = False
    """Whether a block that comes 20 minutes late may have the easiest target."""
    bip94: bool = False
    """Whether a period's first block, not its last, carries the target on, and time warps are refused."""


def _genesis(timestamp: int, bits: int, nonce: int, merkle_root: str = "") -> bytes:
    root = merkle_root or "3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a"
    numbers = b"".join(number.to_bytes(4, "little") for number in (timestamp, bits, nonce))
    return (1).to_bytes(4, "little") + bytes(32) + bytes.fromhex(root) + numbers


_MAIN_LIMIT: Final = (1 << 224) - 1

MAIN: Final = BitcoinParams(
    "main", _genesis(1231006505, 0x1D00FFFF, 2083236893), 0x1D00FFFF, _MAIN_LIMIT, 227_931, 363_725, 388_381
)
TESTNET3: Final = BitcoinParams(
    "test",
    _genesis(1296688602, 0x1D00FFFF, 414098458),
    0x1D00FFFF,
    _MAIN_LIMIT,
    21_111,
    330_776,
    581_885,
    min_difficulty=True,
)
TESTNET4: Final = BitcoinParams(
    "testnet4",
    _genesis(1714777860, 0x1D00FFFF, 393743547, "4e7b2b9128fe0291db0693af2ae418b767e657cd407e80cb1434221eaea7a07a"),
    0x1D00FFFF,
    _MAIN_LIMIT,
    1,
    1,
    1,
    min_difficulty=True,
    bip94=True,
)
SIGNET: Final = BitcoinParams(  # its blocks' signatures stand in coinbases: headers alone do not show them
    "signet", _genesis(1598918400, 0x1E0377AE, 52613770), 0x1E0377AE, 0x377AE << 216, 1, 1, 1
)
REGTEST: Final = BitcoinParams(
    "regtest",
    _genesis(1296688602, 0x207FFFFF, 2),
    0x207FFFFF,
    (1 << 255) - 1,
    1,
    1,
    1,
    retargets=False,
    min_difficulty=True,
)

NETWORKS: Final = {params.name: params for params in (MAIN, TESTNET3, TESTNET4, SIGNET, REGTEST)}
