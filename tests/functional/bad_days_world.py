"""A network whose parts a test stops and starts itself: bitcoind, node, miner, three signers, and no supervisor."""

import io
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Final

import coincurve
import httpx

from bridge.params import REGTEST
from bridge.scripts import Binding, address_of, deposit_output
from bridge.taproot import TaprootOutput
from bridge.transactions import Input, Output, Transaction
from chain.errors import NodeFault
from hyperdust.bitcoind import REGTEST as NETWORK
from hyperdust.bitcoind import Bitcoind, Login, parse_hash, regtest_command, write_regtest_config
from hyperdust.bridging.terms import read_terms
from hyperdust.cli.app import run
from hyperdust.contracts_abi import ADDRESSES, encode_call
from hyperdust.devnet_folder import TEMPLATE, make_genesis
from hyperdust.rpc_client import RpcClient, Unreachable
from hyperdust.wallet import role_key, signer_key, user_key
from tests.functional.ports import free_port_block

LIMIT_S: Final = 40
POLL_S: Final = 0.1
DEPTH: Final = 6
MATURE: Final = 120
SIGNERS: Final = 3
RATE: Final = 2_000
"""Sat per 1,000 vB that signers begin with: bitcoind estimates nothing on regtest."""
BUMP_BLOCKS: Final = 3
PROGRAM: Final = (sys.executable, "-m", "hyperdust.cli")
_TMPFS: Final = Path("/dev/shm")


def wait_for(what, done, limit_s=LIMIT_S):
    """The first answer that is true."""
    end = time.monotonic() + limit_s
    while not (found := done()):
        assert time.monotonic() < end, f"waited {limit_s} s for {what}"
        time.sleep(POLL_S)
    return found


class World:
    """Everything by name in `processes`; what each said is in `folder`/NAME.log."""

    def __init__(self, folder, program):
        self.folder, self.program = folder, program
        self.tmpfs = Path(tempfile.mkdtemp(prefix="hyperdust-", dir=_TMPFS if os.access(_TMPFS, os.W_OK) else None))
        self.port = free_port_block()
        self.rpc = f"http://127.0.0.1:{self.port}"
        self.login = Login("hyperdust", secrets.token_hex(16))
        self.bitcoin_url = f"http://127.0.0.1:{self.port + 10}"
        self.bitcoin = Bitcoind(self.bitcoin_url, self.login, backoff_s=(0.1,) * 20)
        self.client = RpcClient(self.rpc)
        self.processes = {}
        self.wallet = None
        self.owed = []
        """Withdrawals that a test leaves to a later one: number, address, sats."""
        table = make_genesis(json.loads(TEMPLATE.read_text()), 0, 1, int(time.time()))
        self.genesis = folder / "genesis.json"
        self.genesis.write_text(json.dumps(table))
        write_regtest_config(self.tmpfs / "a", self.port + 10, self.port + 11, self.login)

    # --- processes

    def spawn(self, name, *words, **environment):
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(word) for word in words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"HYPERDUST_BITCOIN_PASSWORD": self.login.password, **environment},
                start_new_session=True,
            )

    def end(self, name, number=signal.SIGTERM):
        """Stop a process; its exit code."""
        process = self.processes.pop(name)
        process.send_signal(number)
        return process.wait(20)

    def log(self, name):
        """Without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", (self.folder / f"{name}.log").read_text(errors="replace"))

    def start_bitcoind(self, *options):
        self.spawn("bitcoind", *regtest_command(self.program, self.tmpfs / "a"), *options)
        with Bitcoind(self.bitcoin_url, self.login, backoff_s=()) as probe:
            wait_for("bitcoind", lambda: follows(probe))
        if self.wallet is not None:
            self.wallet.close()
        self.wallet = self.bitcoin.wallet("hyperdust")
        self.address = self.wallet.new_address()

    def start_node(self, *options):
        self.spawn(
            "node", *PROGRAM, "node", "--data-dir", self.folder / "node", "--genesis", self.genesis, "--block-time", 1,
            "--rpc-port", self.port, "--ws-port", self.port + 1, "--work-grpc-port", self.port + 2,
            "--metrics-port", self.port + 3, "--bitcoin-rpc", self.bitcoin_url, "--bitcoin-user", self.login.user,
            *options,
        )  # fmt: skip
        process = self.processes["node"]
        wait_for("the node", lambda: self.answers() is not None or process.poll() is not None)
        assert process.poll() is None, self.log("node")[-2_000:]

    def start_miner(self):
        self.spawn(
            "miner", *PROGRAM, "miner", "--graph", "minilm", "--data-dir", self.folder / "miner", "--rpc", self.rpc,
            "--work-grpc", f"127.0.0.1:{self.port + 2}", HYPERDUST_KEY="0x" + bytes(role_key(0).key).hex(),
        )  # fmt: skip

    def start_signers(self, *indices, **options):
        for index in indices:
            others = [f"127.0.0.1:{self.port + 20 + other}" for other in range(SIGNERS) if other != index]
            given = {
                "data-dir": self.folder / f"signer{index}",
                "genesis": self.genesis,
                "rpc": self.rpc,
                "bitcoin-rpc": self.bitcoin_url,
                "bitcoin-user": self.login.user,
                "listen": f"127.0.0.1:{self.port + 20 + index}",
                "peers": ",".join(others),
                "round-blocks": 2,
                "bump-blocks": BUMP_BLOCKS,
                "deposit-depth": 2,
                "fallback-rate": RATE,
                "poll": 0.3,
                **options,
            }
            words = [word for name, value in given.items() for word in (f"--{name}", value)]
            key = "0x" + bytes(signer_key(index).key).hex()
            self.spawn(f"signer{index}", *PROGRAM, "signer", *words, HYPERDUST_KEY=key)

    @contextmanager
    def signers_still(self):
        """Nobody signs while a test prepares what the next round shall find."""
        found = [process for name, process in self.processes.items() if name.startswith("signer")]
        for process in found:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in found:
                process.send_signal(signal.SIGCONT)

    def close(self):
        for name in [name for name in self.processes if name != "bitcoind"]:
            self.processes[name].send_signal(signal.SIGTERM)
        for name in list(self.processes):
            with suppress(subprocess.TimeoutExpired):
                self.end(name)
                continue
            self.end(name, signal.SIGKILL)
        for client in (self.client, self.bitcoin, self.wallet):
            if client is not None:
                client.close()
        for path in sorted(self.folder.glob("*.log")):
            print(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}")
        shutil.rmtree(self.tmpfs)

    # --- the chain

    def answers(self):
        try:
            return self.head
        except Unreachable:
            return None

    @property
    def head(self):
        return self.client.quantity("eth_blockNumber")

    @property
    def peg(self):
        return self.client.call("hyperdust_pegStatus")

    def balance_sats(self, address):
        wei = self.client.quantity("eth_getBalance", address, "latest")
        assert wei % 10**10 == 0
        return wei // 10**10

    def goes_on(self, blocks=2):
        start = self.head
        wait_for(f"{blocks} more blocks", lambda: self.head >= start + blocks)

    def metric(self, name):
        answer = httpx.get(f"http://127.0.0.1:{self.port + 3}/metrics", trust_env=False).text
        return float(re.search(rf"^{re.escape(name)} (\S+)$", answer, re.MULTILINE)[1])

    def burn(self, wei):
        """Into the surplus: anchors are paid from it."""
        self.client.send_transaction(user_key(1), ADDRESSES["Bridge"], value=wei, gas=100_000)

    def withdraw(self, script, sats, max_fee):
        """Queue a withdrawal; its number."""
        number = self.client.call("hyperdust_pegStatus")["next_withdrawal"]
        while self.client.call("hyperdust_getWithdrawal", number) is not None:
            number += 1
        data = encode_call("Bridge", "withdraw", script, max_fee)
        self.client.send_transaction(
            user_key(1), ADDRESSES["Bridge"], data, value=(sats + max_fee) * 10**10, gas=300_000
        )
        return number

    def wait_final(self, number):
        """Wait until votes have made a block final, so that signers build on it."""
        wait_for("finality", lambda: self.client.call("hyperdust_finality")["final"]["block"] >= number)

    def deposit(self, outpoint):
        return self.client.call("hyperdust_getDeposit", outpoint)

    def bridge(self, *words, code=0):
        """A person's command; what it prints, as JSON, or what it says where it refuses."""
        login = ("--bitcoin-user", self.login.user, "--bitcoin-password", self.login.password)
        return run_bridge(self, *words, "--bitcoin-rpc", self.bitcoin_url, *login, code=code)

    # --- Bitcoin

    def mine(self, blocks=1):
        return self.bitcoin.generate_to_address(blocks, self.address)

    def mine_empty(self, blocks=1):
        """What waits in the mempool stays there."""
        return [parse_hash(self.bitcoin.call("generateblock", self.address, [])["hash"]) for _ in range(blocks)]

    def see_tip(self):
        """Wait until the node has seen Bitcoin's tip."""
        tip = self.bitcoin.best_block_hash()[::-1].hex()
        wait_for("the node to see Bitcoin's tip", lambda: self.peg["bitcoin"]["tip"] == tip)

    def pool(self):
        return [parse_hash(txid) for txid in self.bitcoin.call("getrawmempool")]

    def round_in_pool(self, *known, limit_s=LIMIT_S):
        """The vault transaction in the mempool that is none of `known`."""

        def look():
            for txid in self.pool():
                if txid not in known:
                    made = Transaction.decode(self.bitcoin.raw_transaction(txid))
                    if 0x80000000 <= made.inputs[0].sequence < 0xF0000000:  # says a charge
                        return made
            return None

        return wait_for("a vault transaction", look, limit_s)

    def until(self, what, done, limit_s=3 * LIMIT_S, every_s=0.7):
        """Mine until it is so."""
        end = time.monotonic() + limit_s
        while not (found := done()):
            assert time.monotonic() < end, f"waited {limit_s} s for {what}: {self.peg}"
            self.mine()
            time.sleep(every_s)
        return found

    def script(self):
        address = self.wallet.new_address()
        return address, bytes.fromhex(self.wallet.call("getaddressinfo", address)["scriptPubKey"])

    def received_sats(self, address):
        return int(self.wallet.call("getreceivedbyaddress", address) * 10**8)

    def output(self, binding: Binding) -> TaprootOutput:
        terms = read_terms(self.client)
        return deposit_output(terms.custody, binding, terms.rules)

    def announce(self, binding):
        deposit = {
            "userKey": "0x" + binding.user_key.hex(),
            "address": "0x" + binding.address.hex(),
            "maxFee": binding.max_fee,
        }
        found = self.client.call("hyperdust_announceDeposit", deposit)["bitcoinAddress"]
        assert found == address_of(self.output(binding), REGTEST)
        return found

    def send(self, *outputs: Output, client=None, wallet=None):
        """One transaction from the wallet with exactly these outputs in front; its id as people write it."""
        client, wallet = client or self.bitcoin, wallet or self.wallet
        total = sum(made.sats for made in outputs)
        coin = next(one for one in wallet.call("listunspent") if int(one["amount"] * 10**8) > total + 100_000)
        change = int(coin["amount"] * 10**8) - total - 5_000
        script = bytes.fromhex(wallet.call("getaddressinfo", self.address)["scriptPubKey"])
        place = Input(parse_hash(coin["txid"]), coin["vout"], b"", 0xFFFFFFFD)
        made = Transaction(2, (place,), (*outputs, Output(change, script)), 0)
        signed = wallet.call("signrawtransactionwithwallet", made.encode().hex())["hex"]
        return client.call("sendrawtransaction", signed)

    def pay(self, address, sats):
        """From the wallet; the outpoint."""
        txid = self.wallet.send_to_address(address, sats)
        made = Transaction.decode(self.bitcoin.raw_transaction(txid))
        return f"{txid[::-1].hex()}:{next(at for at, one in enumerate(made.outputs) if one.sats == sats)}"


def run_bridge(world, *words, code=0):
    said, refused = io.StringIO(), io.StringIO()
    given = ["bridge", *map(str, words), "--json"]
    given += [] if words[0] == "reclaim" else ["--rpc", world.rpc]
    given += [] if words[0] == "audit" else ["--folder", str(world.folder / "mine")]
    with redirect_stdout(said), redirect_stderr(refused):
        got = run(given)
    assert "Traceback" not in refused.getvalue(), refused.getvalue()
    assert got == code, (got, said.getvalue(), refused.getvalue())
    return refused.getvalue() if code else json.loads(said.getvalue())


def make_binding(number, max_fee=20_000):
    """Of a user's own key and an L2 address that nobody else has."""
    key = coincurve.PrivateKey(bytes([1 + number]) * 32).public_key.format()[1:]
    return Binding(key, bytes([0xA0 + number]) * 20, max_fee, 0)


def follows(probe):
    """Whether a bitcoind answers, on regtest."""
    try:
        return probe.check_network(NETWORK)
    except NodeFault:
        return None


def open_world(folder, program):
    """All of it running, with a vault and a surplus."""
    world = World(folder, program)
    try:
        world.start_bitcoind()
        world.mine(MATURE)
        world.start_node()
        world.start_miner()
        world.start_signers(*range(SIGNERS))
        wait_for("an origin", lambda: world.peg["origin"], 90)
        world.burn(10**17)
        world.send(Output(100_000_000, world.output(make_binding(0)).script))
        world.announce(make_binding(0))
        world.until("a vault", lambda: world.peg["vault"])
    except BaseException:
        world.close()
        raise
    return world
