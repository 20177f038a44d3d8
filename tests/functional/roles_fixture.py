"""Roles beside a devnet's own: started with their own keys, asked, watched; and the ledger of everybody's wei."""

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from eth_account import Account

from hyperdust.contracts_abi import ADDRESSES, decode_event, decode_output, encode_call, event_topic
from hyperdust.graph import input_bytes
from hyperdust.job import find_graph
from hyperdust.rpc_client import RpcClient

HYPERDUST: Final = Path(sys.executable).parent / "hyperdust"
GRAPHS: Final = ("minilm", "llama-tiny", "render_island")
BTC: Final = 10**18
FEE: Final = 10**13
GENESIS: Final = Path(__file__).resolve().parents[2] / "genesis" / "regtest.json"


@dataclass
class Roles:
    """A devnet, and the processes that a test adds to it."""

    devnet: Any
    folder: Path
    processes: ExitStack
    client: RpcClient

    def view(self, contract: str, function: str, *args: object) -> Any:
        raw = self.client.view(ADDRESSES[contract], encode_call(contract, function, *args))
        return decode_output(contract, function, raw)[0]

    def send(self, key: Any, contract: str, function: str, *args: object, value: int = 0) -> Mapping[str, Any]:
        return self.client.send_transaction(key, ADDRESSES[contract], encode_call(contract, function, *args), value)

    def fund(self, wei: int = 5 * BTC) -> Any:
        """A fresh key with some coins."""
        key = Account.create()
        rich = Account.from_key(self.devnet.accounts[9].private_key)
        self.client.send_transaction(rich, bytes.fromhex(key.address[2:]), value=wei)
        return key

    def start(self, role: str, key: Any, *options: str, graphs: Iterable[str] = ("minilm",)) -> subprocess.Popen[Any]:
        """A role that runs until the test module ends, or until the caller kills it."""
        return self.processes.enter_context(self._process(role, key, graphs, options))

    @contextmanager
    def _process(
        self, role: str, key: Any, graphs: Iterable[str], options: tuple[str, ...]
    ) -> Iterator[subprocess.Popen[Any]]:
        folder = self.folder / key.address[2:10]
        folder.mkdir(exist_ok=True)
        command = [
            HYPERDUST, role, "--rpc", self.devnet.rpc, "--work-grpc", self.devnet.ready["work_grpc"], "--key",
            key.key.hex(), *(word for graph in graphs for word in ("--graph", graph)), "--data-dir", str(folder),
            "--log-format", "json", *options,
        ]  # fmt: skip
        with (folder / "log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                yield process
            finally:
                process.kill()

    def log(self, key: Any) -> list[dict[str, Any]]:
        """What a role said."""
        lines = (self.folder / key.address[2:10] / "log").read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def serves(self, key: Any, role: str = "serves", graph: str = "minilm") -> bool:
        return bool(self.view("Bonds", role, bytes.fromhex(self.devnet.ready["graphs"][graph][2:]), key.address))

    def request(
        self, asker: Any, wanted: Any, graph: str = "minilm", provider: str | None = None, blocks: int = 60
    ) -> str:
        """Send a request; the transaction's hash."""
        until = self.client.quantity("eth_blockNumber") + blocks
        named = bytes.fromhex(provider[2:]) if provider else bytes(20)
        identity = find_graph(self.client, graph)
        call = encode_call("JobMarket", "request", identity, wanted.data, list(wanted.symbols), until, named)
        return self.client.submit_transaction(asker, ADDRESSES["JobMarket"], call, FEE, gas=2_000_000)

    def ask(self, text: str, provider: Any, asker: Any, blocks: int = 60) -> int:
        """Request and wait until it is in a block; the job's id."""
        sent = self.request(asker, input_bytes("minilm", text, None), "minilm", provider.address, blocks)
        return job_of(self.client.wait_receipt(sent))

    def status(self, job: int) -> str:
        return str(self.client.call("hyperdust_getJob", job)["status"])

    def balance(self, key: Any) -> int:
        return self.client.quantity("eth_getBalance", key.address, "latest")

    def events(self, contract: str, name: str) -> list[dict[str, Any]]:
        """All logs of a kind: their fields, `block`, `transaction` and `time`."""
        topics = ["0x" + event_topic(contract, name).hex()]
        address = "0x" + ADDRESSES[contract].hex()
        logs = self.client.call("eth_getLogs", {"fromBlock": "0x1", "address": address, "topics": topics})
        return [self._read(contract, name, log) for log in logs]

    def _read(self, contract: str, name: str, log: Mapping[str, Any]) -> dict[str, Any]:
        block = self.client.call("eth_getBlockByNumber", log["blockNumber"], False)
        where = {"block": int(log["blockNumber"], 16), "transaction": log["transactionHash"]}
        return decode(contract, name, log) | where | {"time": int(block["timestamp"], 16)}


def decode(contract: str, name: str, log: Mapping[str, Any]) -> dict[str, Any]:
    topics = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
    return dict(decode_event(contract, name, topics, bytes.fromhex(log["data"][2:])))


def job_of(receipt: Mapping[str, Any]) -> int:
    requested = "0x" + event_topic("JobMarket", "Requested").hex()
    return int(next(log["topics"][1] for log in receipt["logs"] if log["topics"][0] == requested), 16)


@contextmanager
def roles_of(devnet: Any, folder: Path) -> Iterator[Roles]:
    with ExitStack() as processes, RpcClient(devnet.rpc) as client:
        yield Roles(devnet, folder, processes, client)


def show_times(roles: Roles) -> str:
    """From each mismatch to its verdict, in blocks and seconds."""
    verdicts = {event["job"]: event for event in roles.events("JobMarket", "Convicted")}
    spans = [
        (verdicts[event["job"]]["block"] - event["block"], verdicts[event["job"]]["time"] - event["time"])
        for event in roles.events("JobMarket", "Mismatch")
        if event["job"] in verdicts
    ]
    if not spans:
        return "no mismatch"
    blocks, seconds = zip(*spans, strict=True)
    n = len(spans)
    return (
        f"mismatch to verdict, {n} times: {min(blocks)} to {max(blocks)} blocks, mean {sum(blocks) / n:.1f}; "
        f"{min(seconds)} to {max(seconds)} s, mean {sum(seconds) / n:.1f}"
    )


@dataclass
class Ledger:
    """Every account's balance as blocks and events say it has to be, for all that hold no code."""

    due: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Address -> wei."""
    seen: set[str] = field(default_factory=set)
    """Everybody who appeared."""
    burned: int = 0
    """Base fees."""
    fees: dict[int, tuple[str, int]] = field(default_factory=dict)
    """Job -> requester, fee."""
    providers: dict[int, str] = field(default_factory=dict)
    companions: dict[int, str] = field(default_factory=dict)

    def read(self, roles: Roles, until: int) -> None:
        """Genesis, then every block."""
        for address, account in json.loads(GENESIS.read_text())["alloc"].items():
            self.due[address.lower()] += int(account["balance"])
        for number in range(1, until + 1):
            block = roles.client.call("eth_getBlockByNumber", hex(number), True)
            receipts = roles.client.call("eth_getBlockReceipts", hex(number))
            self.seen.add(block["miner"].lower())
            for sent, receipt in zip(block["transactions"], receipts, strict=True):
                self._apply(sent, receipt, int(block["baseFeePerGas"], 16), block["miner"].lower())

    def _apply(self, sent: Mapping[str, Any], receipt: Mapping[str, Any], base_fee: int, miner: str) -> None:
        gas, price = int(receipt["gasUsed"], 16), int(receipt["effectiveGasPrice"], 16)
        sender, to = sent["from"].lower(), (sent["to"] or receipt["contractAddress"]).lower()
        self.seen |= {sender, to}
        self.due[sender] -= gas * price
        self.due[miner] += gas * (price - base_fee)
        self.burned += gas * base_fee
        if int(receipt["status"], 16):
            self.due[sender] -= int(sent["value"], 16)
            self.due[to] += int(sent["value"], 16)
        for log in receipt["logs"]:
            self._apply_event(log)

    def _apply_event(self, log: Mapping[str, Any]) -> None:
        named = _EVENTS.get((log["address"].lower(), log["topics"][0])) if log["topics"] else None
        if named is None:
            return
        event = decode("JobMarket", named, log)
        job = event["job"]
        if named == "Requested":
            self.fees[job] = (event["requester"].lower(), event["fee"])
        elif named == "Submitted":
            self.providers[job] = event["provider"].lower()
        elif named == "CompanionRevealed" and event["agrees"]:
            self.companions[job] = event["companion"].lower()
        elif named == "Refunded":
            self._move(job, event["requester"].lower(), event["fee"])
        elif named == "Convicted":
            self._move(job, *self.fees[job])
        elif named == "FeeSplit":
            self._move(job, self.providers[job], event["provider"])
            self.due[MARKET] -= event["burned"]
            if event["companion"]:
                self._move(job, self.companions[job], event["companion"])

    def _move(self, _job: int, to: str, wei: int) -> None:
        self.due[MARKET] -= wei
        self.due[to] += wei


MARKET: Final = "0x" + ADDRESSES["JobMarket"].hex()
_EVENTS: Final = {
    (MARKET, "0x" + event_topic("JobMarket", name).hex()): name
    for name in ("Requested", "Submitted", "CompanionRevealed", "Refunded", "Convicted", "FeeSplit")
}


def supply(roles: Roles, ledger: Ledger, block: int) -> int:
    """Wei of everybody: who sent, received or sealed, genesis' accounts, and every contract of genesis."""
    table = json.loads(GENESIS.read_text())
    known = ledger.seen | {address.lower() for part in ("alloc", "system_contracts") for address in table[part]}
    known |= {"0x" + (0x5000 + place).to_bytes(20, "big").hex() for place in range(256)}
    known |= {"0x" + bytes(20).hex()} | {address.lower() for address in ledger.due}
    return sum(int(roles.client.call("eth_getBalance", address, hex(block)), 16) for address in sorted(known))


def checked_in(log: str) -> list[tuple[int, bool]]:
    """(job, differs) of each check in a companion's log for people."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", log)
    return [
        (int(re.search(r"\bjob=(\d+)", line)[1]), "differs=True" in line)  # type: ignore[index]
        for line in plain.splitlines()
        if " job checked " in line
    ]
