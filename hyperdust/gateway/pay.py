"""Pays for questions: a transaction each, nonces in order under a lock, within the bounds of request and hour.

Everything here blocks; the server calls it in threads.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

from eth_account.signers.local import LocalAccount

from hyperdust import job
from hyperdust.contracts_abi import ADDRESSES, encode_call
from hyperdust.gateway.budget import Budget
from hyperdust.gateway.errors import Failed, NoBlock, NoCoins, TooDear
from hyperdust.gateway.models import Asked
from hyperdust.gateway.payments import Payment, Payments
from hyperdust.rpc_client import ReceiptTimeout, RpcClient, RpcError, TransactionFailed, Unreachable
from hyperdust.wallet import show_btc

_CLAIMED: Final = 2
_GAS_MARGIN_PERCENT: Final = 25
"""As in rpc_client: a call's gas may grow until it is in a block."""
_BLOCK_S: Final = 60.0
"""How long a payment may take into a block."""


@dataclass(frozen=True, slots=True)
class Paid:
    """A question that is a job now."""

    asked: Asked
    job: int
    transaction: str
    block: int
    deadline: int
    """Last block for the answer."""
    ask: int | None = None
    """Number of the agent's ask, where an agent was asked."""

    def facts(self) -> dict[str, Any]:
        """What is known before the answer."""
        return {
            "job": self.job,
            "graph": self.asked.model.graph.name,
            "graph_id": "0x" + self.asked.model.graph_id.hex(),
            "agent": None if self.asked.model.agent is None else self.asked.model.agent.id,
            "ask": self.ask,
            "transaction": self.transaction,
            "fee_wei": self.asked.given.fee,
            "price_wei": self.asked.model.price,
            "symbols": list(self.asked.whole.symbols),
            "seed": self.asked.seed,
        }


@dataclass(frozen=True, slots=True)
class _Order:
    """A transaction to sign."""

    asked: Asked
    to: bytes
    data: bytes
    gas: int
    deadline: int


class Payer:
    """Signs with one key."""

    def __init__(
        self,
        client: RpcClient,
        account: LocalAccount,
        budget: Budget,
        payments: Payments,
        max_fee: int,
        *,
        provider: bytes = bytes(20),
        deadline_blocks: int = job.DEADLINE_BLOCKS,
    ) -> None:
        """`provider` answers what is asked of graphs; zeros: drawn. An agent's asks are drawn always."""
        self._client = client
        self._account = account
        self._budget = budget
        self._payments = payments
        self._max_fee = max_fee
        self._provider = provider
        self._deadline_blocks = deadline_blocks
        self._chain_id = client.quantity("eth_chainId")
        self._lock = Lock()

    def pay(self, questions: Sequence[Asked]) -> list[Paid]:
        """Ask all of them, and wait until they are in a block.

        Raises:
            TooDear, OverBudget, NoCoins: nothing was spent.
            Failed: the node or the market refuses, nothing was spent unless it says so.
            NoBlock: it may still be mined.
            Unreachable
        """
        value = sum(asked.value for asked in questions)
        if value > self._max_fee:
            raise TooDear(
                f"{len(questions)} jobs cost {show_btc(value)}; a request may cost {show_btc(self._max_fee)} here "
                f"(--max-fee). Nothing was spent"
            )
        orders = [self._order(asked) for asked in questions]
        gas_price, tip = self._gas_price()
        most = [order.asked.value + order.gas * gas_price for order in orders]
        held = self._client.quantity("eth_getBalance", self._account.address, "latest")
        if held < sum(most):
            raise NoCoins(f"{self._account.address} holds {show_btc(held)}; this takes up to {show_btc(sum(most))}")
        reservations = self._budget.reserve(most)
        sent = self._send(orders, reservations, (gas_price, tip))
        paid = []
        for order, transaction, reservation in zip(orders, sent, reservations, strict=True):
            try:
                receipt = self._receipt(transaction, sent)
            except TransactionFailed as error:
                self._budget.settle(reservation, order.gas * gas_price)
                self._payments.drop(transaction)
                facts = {"job": None, "transactions": sent}
                raise Failed(f"{error}: it cost its gas, not the fee", facts=facts) from error
            gas = int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
            self._budget.settle(reservation, order.asked.value + gas)
            block = int(receipt["blockNumber"], 16)
            noted = self._note(order, transaction).in_block(receipt)
            self._payments.put(noted)
            paid.append(Paid(order.asked, job.job_of(receipt), transaction, block, order.deadline, noted.ask))
        return paid

    def send(self, to: bytes, data: bytes) -> None:
        """A transaction without value that is in a block when this returns; its gas is not the budget's.

        Raises:
            RpcError: it would revert.
            ReceiptTimeout, TransactionFailed, Unreachable.
        """
        call = {"from": self._account.address, "to": "0x" + to.hex(), "data": "0x" + data.hex()}
        gas = self._client.quantity("eth_estimateGas", call)
        fees = self._gas_price()
        with self._lock:
            _, raw = self._sign(to, data, 0, gas + gas * _GAS_MARGIN_PERCENT // 100, self._nonce(), fees)
            transaction = str(self._client.call("eth_sendRawTransaction", raw))
        self._client.wait_receipt(transaction, _BLOCK_S)

    def _order(self, asked: Asked) -> _Order:
        given, agent = asked.given, asked.model.agent
        deadline = job.deadline_of(self._client, asked.model.graph_id, asked.whole.symbols, self._deadline_blocks)
        if agent is None:
            to = ADDRESSES["JobMarket"]
            terms: tuple[object, ...] = (given.data, list(given.symbols), deadline, self._provider)
            data = encode_call("JobMarket", "request", asked.model.graph_id, *terms)
        else:
            to = agent.address
            # No callback: the answer is read from the chain.
            limits = (bytes(20), given.fee, agent.currency, agent.price, _CLAIMED, 0, 0)
            data = encode_call("Agent", "ask", given.data, list(given.symbols), deadline, limits)
        call = {
            "from": self._account.address,
            "to": "0x" + to.hex(),
            "value": hex(asked.value),
            "data": "0x" + data.hex(),
        }
        try:
            gas = self._client.quantity("eth_estimateGas", call)
        except RpcError as error:
            raise Failed(f"the chain refuses this job: {error.message}. Nothing was spent") from error
        return _Order(asked, to, data, gas + gas * _GAS_MARGIN_PERCENT // 100, deadline)

    def _send(self, orders: Sequence[_Order], reservations: Sequence[int], fees: tuple[int, int]) -> list[str]:
        """Sign and send in one go, so that no other request takes the nonces between."""
        sent: list[str] = []
        with self._lock:
            nonce = self._nonce()
            for order in orders:
                value = order.asked.value
                hash_, raw = self._sign(order.to, order.data, value, order.gas, nonce + len(sent), fees)
                self._payments.put(self._note(order, hash_))
                try:
                    self._client.call("eth_sendRawTransaction", raw)
                except RpcError as error:
                    self._payments.drop(hash_)
                    for reservation in reservations[len(sent) :]:
                        self._budget.settle(reservation, 0)
                    raise self._half_sent(error, sent) from error
                except Unreachable as error:
                    facts = {"job": None, "transactions": [*sent, hash_]}
                    raise NoBlock(f"{error}. Whether {hash_} was taken is not known", facts=facts) from error
                sent.append(hash_)
        return sent

    @staticmethod
    def _note(order: _Order, transaction: str) -> Payment:
        agent = order.asked.model.agent
        asked = None if agent is None else agent.address.hex()
        return Payment(transaction, int(time.time()), order.asked.value, order.deadline, asked)

    def _sign(self, to: bytes, data: bytes, value: int, gas: int, nonce: int, fees: tuple[int, int]) -> tuple[str, str]:
        """Hash and bytes of a transaction."""
        signed = self._account.sign_transaction(
            {
                "type": 2,
                "chainId": self._chain_id,
                "nonce": nonce,
                "maxFeePerGas": fees[0],
                "maxPriorityFeePerGas": fees[1],
                "gas": gas,
                "value": value,
                "data": data,
                "to": to,
            }
        )
        return "0x" + bytes(signed.hash).hex(), "0x" + bytes(signed.raw_transaction).hex()

    def _nonce(self) -> int:
        """The next one, after what waits for a block; asked for under the lock alone."""
        return self._client.quantity("eth_getTransactionCount", self._account.address, "pending")

    def _gas_price(self) -> tuple[int, int]:
        """Wei for a unit of gas at most, and the tip in it."""
        tip = self._client.quantity("eth_maxPriorityFeePerGas")
        base_fee = int(self._client.call("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
        return 2 * base_fee + tip, tip

    @staticmethod
    def _half_sent(error: RpcError, sent: Sequence[str]) -> Failed:
        if not sent:
            return Failed(f"the node refuses the payment: {error.message}. Nothing was spent")
        return Failed(
            f"the node refuses a payment: {error.message}. {len(sent)} jobs of this request are paid",
            facts={"job": None, "transactions": list(sent)},
        )

    def _receipt(self, transaction: str, sent: Sequence[str]) -> Mapping[str, Any]:
        facts = {"job": None, "transactions": list(sent)}
        try:
            return self._client.wait_receipt(transaction, _BLOCK_S)
        except (ReceiptTimeout, Unreachable) as error:
            raise NoBlock(
                f"{error}. Once it is in a block, its job is paid and the answer stands on chain", facts=facts
            ) from error
