"""Make a key a bonded provider of its graphs, through JSON-RPC; tries until it is, beside the mining."""

import threading
from collections.abc import Sequence
from typing import Final

import structlog

from chain.errors import HyperdustError
from hyperdust.contracts_abi import ADDRESSES, decode_output, encode_call
from hyperdust.miner.config import MinerConfig
from hyperdust.rpc_client import RpcClient

log = structlog.get_logger()

_BACKOFF_S: Final = (0.5, 15.0)


def keep_bonding(config: MinerConfig, graph_ids: Sequence[bytes], stop: threading.Event) -> None:
    """Return once the key serves the graphs, or on `stop`."""
    pause_s = _BACKOFF_S[0]
    while not stop.is_set():
        try:
            with RpcClient(config.rpc) as client:
                for graph_id in graph_ids:
                    ensure_bonded(client, config, graph_id)
        except HyperdustError as error:
            log.info("not bonded yet", reason=str(error))
        else:
            return
        stop.wait(pause_s)
        pause_s = min(2 * pause_s, _BACKOFF_S[1])


def ensure_bonded(client: RpcClient, config: MinerConfig, graph_id: bytes) -> None:
    """Deposit what is missing of the smallest bond and list the key as a provider, where it is not yet.

    Raises:
        RpcError, Unreachable, TransactionFailed, ReceiptTimeout: try again.
    """
    address = config.account.address
    if not _ask(client, "serves", graph_id, address):
        missing = int(str(_ask(client, "min_bond"))) - int(str(_ask(client, "bond_of", address)))
        if missing > 0:
            client.send_transaction(config.account, ADDRESSES["Bonds"], encode_call("Bonds", "deposit"), missing)
        client.send_transaction(config.account, ADDRESSES["Bonds"], encode_call("Bonds", "serve", graph_id))
    log.info("bonded", provider=address, graph="0x" + graph_id.hex())


def _ask(client: RpcClient, function: str, *args: object) -> object:
    (value,) = decode_output("Bonds", function, client.view(ADDRESSES["Bonds"], encode_call("Bonds", function, *args)))
    return value
