"""A miner and a node joined without sockets: the miner's stub calls the server's handlers with encoded bytes."""

import threading
from pathlib import Path
from typing import Any, Final

import grpc
from eth_account import Account

from chain.engine import AccountOverride
from chain.params import BONDS, JOB_MARKET
from hyperdust.contracts_abi import encode_call
from hyperdust.graph import LoadedGraph
from hyperdust.miner.config import MinerConfig
from hyperdust.miner.fault import Liar
from hyperdust.miner.role import Miner
from hyperdust.node.votes import Votes
from hyperdust.node.work_api import WorkServer
from hyperdust.proto import work_pb2 as messages
from hyperdust.work_client import WorkClient
from pouw.backends.reference import NumpyBackend
from pouw.graph_encoding import encode_top_layer
from pouw.trace import tensor_root
from tests import small_chain
from tests.small_chain import MINER, OTHER_MINER, SmallChain, graph, graph_id, weights

ASKER: Final = Account.from_key(b"\x21" * 32)


class Aborted(grpc.RpcError):
    """What a handler's `abort` becomes."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Context:
    """As much of a gRPC context as handlers use."""

    def __init__(self, peer: str = "ipv4:test") -> None:
        self._peer = peer
        self.active = True

    def abort(self, code: grpc.StatusCode, text: str) -> None:
        raise Aborted(code, text)

    def peer(self) -> str:
        return self._peer

    def is_active(self) -> bool:
        return self.active

    def add_callback(self, callback: Any) -> None:
        pass

    def cancel(self) -> None:
        self.active = False


class DirectStub:
    """The generated stub's methods, without a channel."""

    def __init__(self, server: WorkServer) -> None:
        self.SubmitTicket = _direct(server.submit_ticket)
        self.SubmitResult = _direct(server.submit_result)
        self.GetJob = _direct(server.get_job)
        self.GetData = _direct(server.get_data)
        self.SubmitData = _direct(server.submit_data)
        self.SubmitVote = _direct(server._votes.submit_vote)


class CallFailed(grpc.RpcError, grpc.Call):
    """What a client sees of an abort."""

    def __init__(self, aborted: Aborted) -> None:
        super().__init__(aborted.text)
        self._aborted = aborted

    def code(self) -> grpc.StatusCode:
        return self._aborted.code

    def details(self) -> str:
        return self._aborted.text


CallFailed.__abstractmethods__ = frozenset()


def _direct(handler: Any) -> Any:
    def call(message: Any, **_: Any) -> Any:
        try:
            return handler(message.SerializeToString(), Context())
        except Aborted as aborted:
            raise CallFailed(aborted) from aborted

    return call


class WorkChain(SmallChain):
    """A small chain with funded accounts and a work server."""

    def __init__(self, folder: Path) -> None:
        regular = small_chain.small_network

        def funded() -> Any:
            network = regular()
            for account in (MINER, OTHER_MINER, ASKER):
                network.alloc[bytes.fromhex(account.address[2:])] = AccountOverride(balance=10**19)
            return network

        small_chain.small_network = funded
        try:
            super().__init__(folder)
        finally:
            small_chain.small_network = regular
        self.votes = Votes(self.params, self.store, self.importer)
        self.server = WorkServer(
            self.params, self.store, self.importer, self.mempool, self.builder, self.votes, self.clock
        )

    def send(self, account: Any, to: bytes, data: bytes, value: int = 0, gas: int = 2_000_000) -> Any:
        address = bytes.fromhex(account.address[2:])
        signed = account.sign_transaction(
            {
                "type": 2,
                "chainId": self.params.chain_id,
                "nonce": self.mempool.pending_nonce(address),
                "maxFeePerGas": 10**8,
                "maxPriorityFeePerGas": 10**5,
                "gas": gas,
                "to": to,
                "value": value,
                "data": data,
            }
        )
        return self.mempool.add(bytes(signed.raw_transaction))

    def bond(self, account: Any) -> None:
        self.send(account, BONDS, encode_call("Bonds", "deposit"), 10**18)
        self.send(account, BONDS, encode_call("Bonds", "serve", graph_id()))

    def ask(self, data: bytes, rows: int, provider: Any = None, deadline: int | None = None) -> None:
        address = bytes.fromhex(provider.address[2:]) if provider else bytes(20)
        until = self.store.latest.head.number + 100 if deadline is None else deadline
        call = encode_call("JobMarket", "request", graph_id(), data, [rows], until, address)
        self.send(ASKER, JOB_MARKET, call, 10**12)

    def offer(self, account: Any = MINER) -> messages.Template:
        """What the stream would say now; the clock stands a block after the head."""
        self.clock.now = self.store.latest.head.header.timestamp + self.params.spacing_s
        request = messages.TemplateRequest(coinbase=bytes.fromhex(account.address[2:]), graphs=[graph_id()])
        stream = self.server.get_template(request.SerializeToString(), Context())
        message = next(stream)
        stream.close()
        return message


def small_miner(chain: WorkChain, folder: Path, account: Any = MINER, liar: Liar | None = None) -> Miner:
    """A miner of the small graph; tests call `turn`."""
    config = MinerConfig(account=account, graphs=("small",), data_dir=folder, bond=False, liar=liar, run_due=False)
    loaded = LoadedGraph(graph(), {tensor_root(weights()): weights()}, graph_id(), encode_top_layer(graph()))
    miner = Miner(config, [loaded], NumpyBackend(), threading.Event())
    client: WorkClient = miner._client
    client._channel.close()
    client._stub = DirectStub(chain.server)
    return miner


def turn(chain: WorkChain, miner: Miner, blocks: int = 1) -> None:
    """A template arrives, the miner acts on it, then draws until its block is in the chain."""
    for _ in range(blocks):
        template = chain.offer(miner._config.account)
        miner._client._set(template)
        while miner._provider_on(template).act(template):
            pass
        height = chain.store.latest.head.number
        while chain.store.latest.head.number == height:
            if miner._tickets.empty():
                work = miner._client.work()
                assert work is not None
                found = miner._drawer.draw(work)
                if found is None:
                    continue
                miner._hand_in(found)
            found = miner._tickets.get_nowait()
            verdict = miner._client.submit_ticket(found.work.template_id, found.nonce, found.certificate)
            assert verdict.accepted, verdict
