"""Signers for a devnet: the keys that its genesis table names, each a process; and the first coin of the vault."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import coincurve
from eth_account.signers.local import LocalAccount

from hyperdust.bitcoind import Bitcoind
from hyperdust.contracts_abi import ADDRESSES
from hyperdust.devnet_bitcoin import USER, WALLET, DevnetBitcoin
from hyperdust.rpc_client import RpcClient, Unreachable
from hyperdust.supervisor import Role
from hyperdust.wallet import signer_key

FIRST_PORT: Final = 20
"""Above the devnet's first port."""
_ROUND_BLOCKS: Final = 2
_DEPOSIT_DEPTH: Final = 2
_DATA_DEPTH: Final = 2
_FALLBACK_RATE: Final = 2_000
_FIRST_DEPOSIT_SATS: Final = 100_000_000
_FIRST_MAX_FEE: Final = 50_000
_FIRST_BURN_WEI: Final = 10**17
"""Anchors are paid from what was burned on L2: so many that a devnet's never wait."""
_BURN_GAS: Final = 100_000
_POLL_S: Final = 0.5


def count_signers(genesis: Mapping[str, Any]) -> int:
    """How many the table names; 0 where it has no peg."""
    peg = genesis.get("peg")
    return len(peg["signers"]["keys"]) if peg else 0


def signer_roles(
    command: tuple[str, ...], data_dir: Path, genesis: Mapping[str, Any], rpc_port: int, bitcoin: DevnetBitcoin
) -> list[Role]:
    """All signers of the table, on ports from `rpc_port + 20` on."""
    addresses = [f"127.0.0.1:{rpc_port + FIRST_PORT + index}" for index in range(count_signers(genesis))]
    return [
        Role(
            kind="signer",
            name=f"signer{index}",
            log=data_dir / "logs" / f"signer{index}.log",
            environment={
                "HYPERDUST_KEY": "0x" + bytes(signer_key(index).key).hex(),
                "HYPERDUST_BITCOIN_PASSWORD": bitcoin.login.password,
            },
            command=(
                *command, "signer", "--data-dir", str(data_dir / f"signer{index}"),
                "--genesis", str(data_dir / "genesis.json"), "--rpc", f"http://127.0.0.1:{rpc_port}",
                "--bitcoin-rpc", bitcoin.url, "--bitcoin-user", USER,
                "--listen", address, "--peers", ",".join(other for other in addresses if other != address),
                "--round-blocks", str(_ROUND_BLOCKS), "--deposit-depth", str(_DEPOSIT_DEPTH),
                "--data-depth", str(_DATA_DEPTH), "--fallback-rate", str(_FALLBACK_RATE),
                "--poll", str(genesis["spacing_s"]),
            ),
            stage="miner",
        )
        for index, address in enumerate(addresses)
    ]  # fmt: skip


def open_vault(client: RpcClient, bitcoin: DevnetBitcoin, owner: LocalAccount, stop: threading.Event) -> None:
    """Pay the first deposit and burn a little, once Bitcoin is there: anchors need a vault and a surplus. Once a chain.

    Raises:
        HyperdustError: node or bitcoind refuse.
    """
    while not (bitcoin.is_ready.is_set() and _answers(client)):
        if stop.wait(_POLL_S):
            return
    if client.call("hyperdust_getAnnouncedDeposits"):
        return
    deposit = {
        "userKey": "0x" + coincurve.PrivateKey(bytes(owner.key)).public_key.format()[1:].hex(),
        "address": owner.address,
        "maxFee": _FIRST_MAX_FEE,
    }
    address = client.call("hyperdust_announceDeposit", deposit)["bitcoinAddress"]
    client.send_transaction(owner, ADDRESSES["Bridge"], value=_FIRST_BURN_WEI, gas=_BURN_GAS)
    with Bitcoind(bitcoin.url, bitcoin.login) as node, node.wallet(WALLET) as wallet:
        wallet.send_to_address(address, _FIRST_DEPOSIT_SATS)


def _answers(client: RpcClient) -> bool:
    try:
        client.call("eth_blockNumber")
    except Unreachable:
        return False
    return True
