"""A regtest node and a wallet with mature coins; on tmpfs where there is one, which makes blocks many times faster."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hyperdust.bitcoind import Bitcoind, NoBitcoind, RegtestNode, locate_bitcoind, start_regtest
from tests.functional.ports import free_ports

MATURE = 120
_TMPFS = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Bitcoin:
    """A node, its wallet, and an address that blocks are mined to."""

    node: RegtestNode
    wallet: Bitcoind
    address: str

    @property
    def client(self) -> Bitcoind:
        return self.node.client

    def mine(self, blocks: int) -> tuple[bytes, ...]:
        return self.client.generate_to_address(blocks, self.address)


@pytest.fixture(scope="session")
def bitcoind_program() -> Path:
    try:
        return locate_bitcoind()
    except NoBitcoind as error:
        pytest.skip(f"no bitcoind on the PATH and none from apt: {error}")


@pytest.fixture
def bitcoin_folder() -> Iterator[Path]:
    folder = tempfile.mkdtemp(prefix="hyperdust-", dir=_TMPFS if os.access(_TMPFS, os.W_OK) else None)
    yield Path(folder)
    shutil.rmtree(folder)


@pytest.fixture
def bitcoin(bitcoind_program: Path, bitcoin_folder: Path) -> Iterator[Bitcoin]:
    rpc_port, p2p_port = free_ports(2)
    node = start_regtest(bitcoin_folder, rpc_port, p2p_port, program=bitcoind_program)
    try:
        wallet = node.client.wallet("test")
        with wallet:
            made = Bitcoin(node, wallet, wallet.new_address())
            made.mine(MATURE)
            yield made
    finally:
        node.stop()
