"""A small JSON-RPC client for roles and commands: calls, signed transactions, receipts. It keeps no cached nonce."""

import itertools
import time
from collections.abc import Mapping
from typing import Any, Final, Self

import httpx
from eth_account.signers.local import LocalAccount

from chain.errors import HyperdustError

_TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.2
_GAS_MARGIN_PERCENT: Final = 25
"""A call's gas may grow between estimate and inclusion (a longer list of providers, a cold slot)."""


class Unreachable(HyperdustError):
    """Nobody answers JSON-RPC at that URL."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"no node answers at {url} ({reason}); start one with `hyperdust devnet`, or give --rpc URL")
        self.url = url
        self.reason = reason


class RpcError(HyperdustError):
    """The node answered with an error."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(f"{message} (JSON-RPC error {code})")
        self.code = code
        self.message = message
        self.data = data


class TransactionFailed(HyperdustError):
    """A transaction is in a block and was reverted."""

    def __init__(self, transaction: str, block: int) -> None:
        super().__init__(f"transaction {transaction} was reverted in block {block}")
        self.transaction = transaction
        self.block = block


class ReceiptTimeout(HyperdustError):
    """A transaction was accepted and is in no block yet."""

    def __init__(self, transaction: str, timeout_s: float) -> None:
        super().__init__(
            f"transaction {transaction} is in no block after {timeout_s:.0f} s; "
            "is a miner running? See `hyperdust status`"
        )
        self.transaction = transaction
        self.timeout_s = timeout_s


class RpcClient:
    """JSON-RPC over HTTP to one node.

    Safe to share between threads: httpx pools connections and nothing else is kept.
    """

    def __init__(self, url: str = "http://127.0.0.1:8545", timeout_s: float = _TIMEOUT_S) -> None:
        self.url = url
        self._ids = itertools.count(1)
        try:
            self._http = httpx.Client(timeout=timeout_s, trust_env=False)
            self._url = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise Unreachable(url, str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close pooled connections."""
        self._http.close()

    def call(self, method: str, *params: object) -> Any:
        """Ask the node.

        Raises:
            RpcError: the node answered with an error.
            Unreachable: it did not answer, or not in JSON-RPC.
        """
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        try:
            answer = self._http.post(self._url, json=request).json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unreachable(self.url, str(error) or type(error).__name__) from error
        if not isinstance(answer, dict) or ("result" not in answer and "error" not in answer):
            raise Unreachable(self.url, "the answer is not JSON-RPC")
        if (refusal := answer.get("error")) is not None:
            raise RpcError(int(refusal["code"]), str(refusal["message"]), refusal.get("data"))
        return answer["result"]

    def quantity(self, method: str, *params: object) -> int:
        """Ask for a number (`eth_blockNumber`, `eth_getBalance` …)."""
        return int(self.call(method, *params), 16)

    def view(self, to: bytes, data: bytes, block: str = "latest") -> bytes:
        """Call a contract without a transaction; `RpcError` where it reverts."""
        return bytes.fromhex(self.call("eth_call", {"to": _hex(to), "data": _hex(data)}, block)[2:])

    def send_transaction(
        self,
        account: LocalAccount,
        to: bytes | None,
        data: bytes = b"",
        value: int = 0,
        *,
        gas: int | None = None,
        timeout_s: float = 60.0,
    ) -> Mapping[str, Any]:
        """Sign, send and wait: the receipt of an EIP-1559 transaction that succeeded.

        Raises:
            RpcError: the node refused it, or it would revert.
            TransactionFailed: it is in a block, reverted.
            ReceiptTimeout: no block took it in time.
        """
        return self.wait_receipt(self.submit_transaction(account, to, data, value, gas=gas), timeout_s)

    def submit_transaction(
        self, account: LocalAccount, to: bytes | None, data: bytes = b"", value: int = 0, *, gas: int | None = None
    ) -> str:
        """Fill nonce, fees and gas, sign, send: the transaction's hash, before it is in any block.

        Raises:
            RpcError: the node refused it, or it would revert.
        """
        call: dict[str, object] = {"from": account.address, "value": hex(value), "data": _hex(data)}
        if to is not None:
            call["to"] = _hex(to)
        if gas is None:
            estimate = self.quantity("eth_estimateGas", call)
            plain_transfer = to is not None and not data
            gas = estimate if plain_transfer else estimate + estimate * _GAS_MARGIN_PERCENT // 100
        tip = self.quantity("eth_maxPriorityFeePerGas")
        base_fee = int(self.call("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
        transaction: dict[str, Any] = {
            "type": 2,
            "chainId": self.quantity("eth_chainId"),
            "nonce": self.quantity("eth_getTransactionCount", account.address, "pending"),
            "maxFeePerGas": 2 * base_fee + tip,
            "maxPriorityFeePerGas": tip,
            "gas": gas,
            "value": value,
            "data": data,
        }
        if to is not None:
            transaction["to"] = to
        signed = account.sign_transaction(transaction)
        return str(self.call("eth_sendRawTransaction", _hex(bytes(signed.raw_transaction))))

    def wait_receipt(self, transaction: str, timeout_s: float = 60.0) -> Mapping[str, Any]:
        """Poll until the transaction is in a block.

        Raises:
            TransactionFailed: it is, reverted.
            ReceiptTimeout: it is not, in time.
        """
        deadline = time.monotonic() + timeout_s
        while (receipt := self.call("eth_getTransactionReceipt", transaction)) is None:
            if time.monotonic() > deadline:
                raise ReceiptTimeout(transaction, timeout_s)
            time.sleep(_POLL_S)
        if int(receipt["status"], 16) != 1:
            raise TransactionFailed(transaction, int(receipt["blockNumber"], 16))
        return dict(receipt)


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
