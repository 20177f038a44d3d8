"""Make a key a bonded provider or companion of its graphs, through JSON-RPC; tries until it is, beside the work."""

import threading
from collections.abc import Sequence
from enum import Enum
from typing import Final

import structlog
from eth_account.signers.local import LocalAccount

from chain.errors import HyperdustError
from hyperdust.contracts_abi import ADDRESSES, decode_output, encode_call
from hyperdust.rpc_client import RpcClient

log = structlog.get_logger()

_BACKOFF_S: Final = (0.5, 15.0)


class Service(Enum):
    """What a bond is for: the question that Bonds answers, and the call that makes it so."""

    PROVIDER = ("serves", "serve")
    COMPANION = ("is_companion", "serve_as_companion")


def keep_bonding(
    rpc: str,
    account: LocalAccount,
    graph_ids: Sequence[bytes],
    service: Service,
    stop: threading.Event,
    *,
    again: bool = False,
) -> None:
    """Return once the key serves the graphs, or on `stop`; with `again` only then, bonding it after each slash."""
    pause_s = _BACKOFF_S[0]
    known: set[bytes] = set()
    while not stop.is_set():
        try:
            with RpcClient(rpc) as client:
                for graph_id in graph_ids:
                    if ensure_bonded(client, account, graph_id, service) or graph_id not in known:
                        log.info("bonded", service=service.name.lower(), account=account.address, graph=_hex(graph_id))
                    known.add(graph_id)
        except HyperdustError as error:
            log.info("not bonded yet", reason=str(error))
        else:
            if not again:
                return
            pause_s = _BACKOFF_S[0]
        stop.wait(pause_s)
        pause_s = min(2 * pause_s, _BACKOFF_S[1])


def ensure_bonded(client: RpcClient, account: LocalAccount, graph_id: bytes, service: Service) -> bool:
    """Deposit what is missing of the smallest bond and list the key for the service; False where it was listed.

    Raises:
        RpcError, Unreachable, TransactionFailed, ReceiptTimeout: try again.
    """
    is_listed, make_listed = service.value
    if _ask(client, is_listed, graph_id, account.address):
        return False
    missing = int(str(_ask(client, "min_bond"))) - int(str(_ask(client, "bond_of", account.address)))
    if missing > 0:
        client.send_transaction(account, ADDRESSES["Bonds"], encode_call("Bonds", "deposit"), missing)
    client.send_transaction(account, ADDRESSES["Bonds"], encode_call("Bonds", make_listed, graph_id))
    return True


def _hex(graph_id: bytes) -> str:
    return "0x" + graph_id.hex()


def _ask(client: RpcClient, function: str, *args: object) -> object:
    (value,) = decode_output("Bonds", function, client.view(ADDRESSES["Bonds"], encode_call("Bonds", function, *args)))
    return value
