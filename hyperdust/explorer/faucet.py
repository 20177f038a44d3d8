"""Gives coins of a devnet away: so much to each, not too often, not too much altogether."""
# ruff: noqa: PLC0415  # eth_account loads with the first payment, so that the explorer starts at once

import math
from collections.abc import Callable
from typing import Final

import trio

from chain.errors import HyperdustError
from chain.params import DEVNET_CHAIN_IDS
from hyperdust.explorer.errors import BadAddress, FaucetFailed, NodeUnreachable, NotADevnet, Refused, TooSoon

AMOUNT_WEI: Final = 10**17  # 0.1 BTC
ADDRESS_PAUSE_S: Final = 600
WINDOW_S: Final = 600
WINDOW_PAYMENTS: Final = 20  # of 0.1 BTC: at most 2 BTC in ten minutes


class Limits:
    """Who was paid when: one payment an address in ten minutes, twenty altogether."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._paid: dict[bytes, float] = {}
        """Oldest first; never more than a window's payments."""

    def reserve(self, address: bytes) -> None:
        """Count a payment before it is made.

        Raises:
            TooSoon: says for how long to wait.
        """
        now = self._now()
        self._paid = {paid: when for paid, when in self._paid.items() if now - when < WINDOW_S}
        if (when := self._paid.get(address)) is not None:
            wait_s = math.ceil(ADDRESS_PAUSE_S - (now - when))
            raise TooSoon(f"this address was paid a moment ago; ask again in {_duration(wait_s)}", wait_s)
        if len(self._paid) >= WINDOW_PAYMENTS:
            wait_s = math.ceil(WINDOW_S - (now - min(self._paid.values())))
            raise TooSoon(f"the faucet has given enough for now; ask again in {_duration(wait_s)}", wait_s)
        self._paid[address] = now

    def release(self, address: bytes) -> None:
        """The payment was not made."""
        self._paid.pop(address, None)


class Faucet:
    """Pays from one key, one payment at a time, so that nonces follow each other."""

    def __init__(self, pay: Callable[[bytes], str], limits: Limits) -> None:
        self._pay = pay
        self._limits = limits
        self._lock = trio.Lock()

    async def give(self, text: str) -> str:
        """Pay an address: the transaction's hash, before it is in any block.

        Raises:
            BadAddress, TooSoon, NotADevnet, FaucetFailed, NodeUnreachable.
        """
        address = parse_address(text)
        self._limits.reserve(address)
        try:
            async with self._lock:
                return await trio.to_thread.run_sync(self._pay, address)
        except Refused:
            self._limits.release(address)
            raise


def parse_address(text: str) -> bytes:
    """The 20 bytes of an address as people write it.

    Raises:
        BadAddress: not one.
    """
    from hyperdust.wallet import WalletError
    from hyperdust.wallet import parse_address as parse

    try:
        return parse(text.strip()[:100])
    except WalletError as error:
        raise BadAddress(str(error)) from error


class Payer:
    """Sends the faucet's transactions through a node."""

    def __init__(self, rpc: str, key: str) -> None:
        self._rpc = rpc
        self._key = key

    def pay(self, address: bytes) -> str:
        """Send the amount.

        Raises:
            NotADevnet, FaucetFailed, NodeUnreachable.
        """
        from hyperdust.rpc_client import RpcClient, Unreachable
        from hyperdust.wallet import parse_key

        try:
            with RpcClient(self._rpc) as client:
                chain_id = client.quantity("eth_chainId")
                if chain_id not in DEVNET_CHAIN_IDS:
                    raise NotADevnet(f"the faucet pays on devnets; chain {chain_id} is none")
                return client.submit_transaction(parse_key(self._key), address, value=AMOUNT_WEI)
        except Refused:
            raise
        except Unreachable as error:
            raise NodeUnreachable("the node does not answer; is it running?") from error
        except HyperdustError as error:
            raise FaucetFailed(f"the node refused the payment: {error}") from error


def _duration(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{math.ceil(seconds / 60)} min"
