"""The only client of a Bitcoin node: typed JSON-RPC, named errors, and a regtest node of our own for devnets and tests.

A node is asked, never believed: headers and proofs that it gives go through `bridge` before anything rests on them.
Hashes are bytes in the order of `bridge`; bitcoind's text is their reverse. Over 400 lines because it is the one door:
errors first, then the client by subject, then the node that we start ourselves.
"""

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self

import httpx

from bridge.work import show_hash
from chain.errors import NodeFault
from chain.json_text import nests_deeper

_TIMEOUT_S: Final = 30.0
_BACKOFF_S: Final = (0.1, 0.3, 1.0)
_START_S: Final = 30.0
_STOP_S: Final = 20.0
_POLL_S: Final = 0.05
_SATS: Final = 100_000_000
_MAX_ANSWER_BYTES: Final = 1 << 30
"""128 of the largest blocks, in hexadecimal."""
_PATIENCE: Final = 10
"""Timeouts that a whole answer may take: who sends byte by byte never lets one of them pass."""
_MAX_NESTING: Final = 64
_MAX_EXPONENT: Final = 30
"""Of a number: all that there is of satoshi and of work have fewer digits before the point, or come as text."""
_MESSAGE: Final = 300
_STARTING: Final = -28
_BLOCK_MISSING: Final = -1
_SCRIPT: Final = Path(__file__).parent.parent / "scripts" / "install-bitcoind"
REGTEST: Final = "regtest"


class Unreachable(NodeFault):
    """Nobody answers at that URL, or not as bitcoind does."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"no bitcoind answers at {url} ({reason}); is it running, with server=1?")
        self.url = url
        self.reason = reason


class Unauthorised(NodeFault):
    """The node does not accept our user, password or cookie."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"bitcoind at {url} refuses us ({reason}); check user and password, or the cookie file")


class StillStarting(NodeFault):
    """The node is loading and answers nothing else yet."""

    def __init__(self, message: str) -> None:
        super().__init__(f"bitcoind is still starting: {message}")


class RpcFault(NodeFault):
    """The node refused a call; code and message are its own."""

    def __init__(self, method: str, code: int, message: str) -> None:
        super().__init__(f"bitcoind refuses {method}: {message} (error {code})")
        self.method = method
        self.code = code
        self.message = message


class AnswerMalformed(NodeFault):
    """The node answered something that the call cannot give."""

    def __init__(self, method: str, answer: object) -> None:
        super().__init__(f"bitcoind answered {method} with {str(answer)[:100]!r}; is that a Bitcoin node?")


class WrongNetwork(NodeFault):
    """The node follows another Bitcoin network."""

    def __init__(self, got: str, expected: str) -> None:
        super().__init__(f"bitcoind follows {got!r}, this chain needs {expected!r}; name another node")
        self.got = got
        self.expected = expected


class KnotsRefused(NodeFault):
    """Bitcoin Knots left Bitcoin's chain in August 2026; on regtest alone it is the same."""

    def __init__(self, subversion: str) -> None:
        super().__init__(f"{subversion} follows the Knots fork, not Bitcoin; use Bitcoin Core")
        self.subversion = subversion


class PrunedTooFar(NodeFault):
    """The node has thrown away a block that we need."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"bitcoind has pruned what we need ({detail}); raise its prune= or use an unpruned node")


class NoTransactionIndex(NodeFault):
    """The node cannot say what transaction has an id."""

    def __init__(self) -> None:
        super().__init__(
            "bitcoind keeps no transaction index; start it with txindex=1, which takes all blocks: no prune="
        )


class NoBitcoind(NodeFault):
    """There is no bitcoind on this machine, and none could be got."""


class StartFailed(NodeFault):
    """Our regtest node ended before it answered; carries its last words."""


@dataclass(frozen=True, slots=True)
class Login:
    """User and password, or the cookie file that bitcoind writes anew at each start."""

    user: str = ""
    password: str = ""
    cookie: Path | None = None

    def read(self) -> tuple[str, str]:
        """User and password of now; `OSError` where there is no cookie."""
        if self.cookie is None:
            return self.user, self.password
        user, _, password = self.cookie.read_text(encoding="utf-8").strip().partition(":")
        return user, password


@dataclass(frozen=True, slots=True)
class ChainInfo:
    """`getblockchaininfo`, as far as we read it."""

    network: str
    height: int
    best_hash: bytes
    headers: int
    """Height of the best header known to the node; above `height` while it catches up."""
    work: int
    lowest_block: int
    """Blocks below this height are pruned."""
    is_syncing: bool


@dataclass(frozen=True, slots=True)
class Unspent:
    """One coin that `scantxoutset` found."""

    txid: bytes
    index: int
    sats: int
    script: bytes
    height: int


def parse_hash(text: str) -> bytes:
    """A hash as bitcoind writes it, in our order."""
    return bytes.fromhex(text)[::-1]


def btc_to_sats(amount: object) -> int:
    """Whole satoshi of bitcoind's decimal BTC; `ValueError` where it is none."""
    return int(_parse_decimal(str(amount)) * _SATS)


def sats_to_btc(sats: int) -> str:
    """Bitcoind's decimal BTC, exact."""
    return f"{sats // _SATS}.{sats % _SATS:08d}"


class Bitcoind:
    """JSON-RPC to one node. Safe to share between threads: httpx pools connections and nothing else is kept.

    Reads are repeated while nobody answers; what changes the node is repeated only if it cannot have arrived.
    """

    def __init__(
        self,
        url: str,
        login: Login,
        *,
        timeout_s: float = _TIMEOUT_S,
        backoff_s: Sequence[float] = _BACKOFF_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url
        self._login = login
        self._backoff_s = tuple(backoff_s)
        self._timeout_s = timeout_s
        self._transport = transport
        try:
            self._http = httpx.Client(timeout=timeout_s, trust_env=False, transport=transport)
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

    # --- the node

    def check_network(self, network: str) -> ChainInfo:
        """Ask who it is before anything else.

        Raises:
            WrongNetwork: it follows another one than `network` (main, test, testnet4, signet, regtest).
            KnotsRefused: off regtest, it is Bitcoin Knots.
        """
        info = self.chain_info()
        if info.network != network:
            raise WrongNetwork(info.network, network)
        subversion = str(self._fields("getnetworkinfo", "subversion")["subversion"])
        if network != REGTEST and "knots" in subversion.lower():
            raise KnotsRefused(subversion)
        return info

    def check_transaction_index(self) -> None:
        """Check that any transaction of the chain can be asked for by its id.

        Raises:
            NoTransactionIndex: it cannot, as on every pruned node.
            StillStarting: the index is being built.
        """
        index = self._fields("getindexinfo", params=("txindex",)).get("txindex")
        if not isinstance(index, dict):
            raise NoTransactionIndex
        if not index.get("synced"):
            raise StillStarting(f"its transaction index has come to block {index.get('best_block_height')}")

    def check_reaches(self, height: int) -> None:
        """Check that blocks from `height` on can be fetched.

        Raises:
            PrunedTooFar: they cannot.
        """
        if height < (lowest := self.chain_info().lowest_block):
            raise PrunedTooFar(f"block {height}; it has blocks from {lowest} on")

    def chain_info(self) -> ChainInfo:
        """Where the node stands."""
        names = ("chain", "blocks", "bestblockhash", "headers", "chainwork", "pruned", "initialblockdownload")
        got = self._fields("getblockchaininfo", *names)
        try:
            return ChainInfo(
                str(got["chain"]),
                int(got["blocks"]),
                parse_hash(got["bestblockhash"]),
                int(got["headers"]),
                int(got["chainwork"], 16),
                int(got["pruneheight"]) if got["pruned"] else 0,
                bool(got["initialblockdownload"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise AnswerMalformed("getblockchaininfo", got) from error

    def stop(self) -> None:
        """Ask the node to stop in order."""
        self._change("stop")

    # --- blocks and transactions

    def best_block_hash(self) -> bytes:
        """Of the node's best chain."""
        return self._hash("getbestblockhash")

    def block_hash(self, height: int) -> bytes:
        """Of its best chain at a height; `RpcFault` -8 above the tip."""
        return self._hash("getblockhash", height)

    def raw_header(self, block_hash: bytes) -> bytes:
        """80 bytes."""
        return self._bytes("getblockheader", show_hash(block_hash), False)

    def raw_headers(self, height: int, count: int) -> bytes:
        """Up to `count` headers of its best chain in a row, from `height` on; fewer at the tip, in two round trips.

        A reorganisation in between gives headers that do not connect: `bridge` refuses them, ask again.
        """
        last = min(height + count - 1, self.chain_info().height)
        hashes = self._batch("getblockhash", [(at,) for at in range(height, last + 1)])
        headers = self._batch("getblockheader", [(block_hash, False) for block_hash in hashes])
        return b"".join(_to_bytes("getblockheader", header) for header in headers)

    def raw_block(self, block_hash: bytes) -> bytes:
        """A whole block.

        Raises:
            PrunedTooFar: the node no longer has it.
        """
        return self._of_block("getblock", show_hash(block_hash), 0)

    def raw_blocks(self, block_hashes: Sequence[bytes]) -> tuple[bytes, ...]:
        """Whole blocks in one round trip; for small ones, whose answers together are small.

        Raises:
            PrunedTooFar: the node no longer has one of them.
        """
        try:
            answers = self._batch("getblock", [(show_hash(one), 0) for one in block_hashes])
        except RpcFault as error:
            if (pruned := _pruned(error)) is not None:
                raise pruned from error
            raise
        return tuple(_to_bytes("getblock", answer) for answer in answers)

    def txout_proof(self, txids: Sequence[bytes], block_hash: bytes | None = None) -> bytes:
        """Header and partial Merkle tree that prove transactions of one block; for `bridge.inclusion` to check.

        Raises:
            PrunedTooFar: the node no longer has the block.
        """
        where = () if block_hash is None else (show_hash(block_hash),)
        return self._of_block("gettxoutproof", [show_hash(txid) for txid in txids], *where)

    def raw_transaction(self, txid: bytes, block_hash: bytes | None = None) -> bytes:
        """A transaction of the mempool, of a named block, or of any where the node has txindex=1."""
        where = () if block_hash is None else (show_hash(block_hash),)
        return self._of_block("getrawtransaction", show_hash(txid), False, *where)

    def send_raw_transaction(self, raw: bytes) -> bytes:
        """Broadcast; its id. Sending the same bytes again is harmless, so this is repeated like a read."""
        return self._hash("sendrawtransaction", raw.hex())

    def refusal_of(self, raw: bytes) -> str | None:
        """Why the mempool would refuse a transaction, or None."""
        answer = self.call("testmempoolaccept", [raw.hex()])
        try:
            return None if answer[0]["allowed"] else str(answer[0].get("reject-reason", "refused"))
        except (KeyError, IndexError, TypeError) as error:
            raise AnswerMalformed("testmempoolaccept", answer) from error

    def fee_rate(self, blocks: int) -> int | None:
        """Satoshi per 1,000 vB to be mined within so many blocks; None where the node cannot tell yet."""
        rate = self._fields("estimatesmartfee", "blocks", params=(blocks,)).get("feerate")
        try:
            return None if rate is None else btc_to_sats(rate)
        except ValueError as error:
            raise AnswerMalformed("estimatesmartfee", rate) from error

    def scan_outputs(self, descriptors: Sequence[str]) -> tuple[Unspent, ...]:
        """Unspent coins of output descriptors, from the whole UTXO set: slow on the main network."""
        found = self._fields("scantxoutset", "unspents", params=("start", list(descriptors)))["unspents"]
        try:
            return tuple(
                Unspent(
                    parse_hash(coin["txid"]),
                    int(coin["vout"]),
                    btc_to_sats(coin["amount"]),
                    bytes.fromhex(coin["scriptPubKey"]),
                    int(coin["height"]),
                )
                for coin in found
            )
        except (KeyError, TypeError, ValueError) as error:
            raise AnswerMalformed("scantxoutset", found) from error

    # --- regtest

    def generate_to_address(self, blocks: int, address: str) -> tuple[bytes, ...]:
        """Mine at once; their hashes."""
        return tuple(parse_hash(text) for text in self._change("generatetoaddress", blocks, address))

    def invalidate_block(self, block_hash: bytes) -> None:
        """Treat a block and all on top as invalid."""
        self._change("invalidateblock", show_hash(block_hash))

    def reconsider_block(self, block_hash: bytes) -> None:
        """Take `invalidate_block` back."""
        self._change("reconsiderblock", show_hash(block_hash))

    # --- the node's own wallet, for development networks

    def wallet(self, name: str) -> "Bitcoind":
        """The client of a wallet of this node, which is created or loaded where it is not yet."""
        if name not in self.call("listwallets"):
            known = [entry["name"] for entry in self._fields("listwalletdir", "wallets")["wallets"]]
            self._change("loadwallet" if name in known else "createwallet", name)
        url = str(self._url.copy_with(path=f"/wallet/{name}"))
        return Bitcoind(
            url, self._login, timeout_s=self._timeout_s, backoff_s=self._backoff_s, transport=self._transport
        )

    def new_address(self, kind: str = "bech32m") -> str:
        """A fresh address of this wallet."""
        return str(self._change("getnewaddress", "", kind))

    def send_to_address(self, address: str, sats: int) -> bytes:
        """Pay from this wallet; the transaction's id. Never repeated: a second call pays a second time."""
        return parse_hash(str(self._change("sendtoaddress", address, sats_to_btc(sats))))

    # --- calls

    def call(self, method: str, *params: object) -> Any:
        """Ask for something that changes nothing; amounts are Decimal.

        Raises:
            RpcFault, StillStarting: the node answered with an error.
            Unreachable, Unauthorised, AnswerMalformed: it did not answer as bitcoind does.
        """
        return self._result(method, self._post(_request(method, params), repeat=True))

    def _change(self, method: str, *params: object) -> Any:
        return self._result(method, self._post(_request(method, params), repeat=False))

    def _batch(self, method: str, calls: Sequence[tuple[object, ...]]) -> list[Any]:
        if not calls:
            return []
        requests = [{**_request(method, params), "id": at} for at, params in enumerate(calls)]
        answers = self._post(requests, repeat=True)
        if not isinstance(answers, list) or len(answers) != len(calls):
            raise AnswerMalformed(method, answers)
        return [self._result(method, answer) for answer in answers]

    def _result(self, method: str, answer: object) -> Any:
        if not isinstance(answer, dict) or "result" not in answer:
            raise AnswerMalformed(method, answer)
        if (error := answer.get("error")) is None:
            return answer["result"]
        try:
            code, message = int(error["code"]), str(error["message"])[:_MESSAGE]
        except (KeyError, TypeError, ValueError) as fault:
            raise AnswerMalformed(method, answer) from fault
        raise StillStarting(message) if code == _STARTING else RpcFault(method, code, message)

    def _post(self, body: object, *, repeat: bool) -> object:
        for wait_s in (*self._backoff_s, None):
            try:
                return self._post_once(body)
            except httpx.HTTPError as error:
                never_arrived = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | _Busy)
                if wait_s is None or not (repeat or never_arrived):
                    raise Unreachable(self.url, str(error) or type(error).__name__) from error
                time.sleep(wait_s)
        raise AssertionError  # the last round returns or raises

    def _post_once(self, body: object) -> object:
        try:
            login = self._login.read()
        except (OSError, UnicodeDecodeError) as error:
            raise Unauthorised(self.url, f"no cookie file: {error}") from error
        with self._http.stream("POST", self._url, json=body, auth=login) as answer:
            if answer.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
                raise Unauthorised(self.url, f"HTTP {answer.status_code}")
            if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
                raise _Busy("its work queue is full")
            content = self._read(answer)
        said = f"HTTP {answer.status_code}: {content[:_MESSAGE].decode(errors='replace')}"
        if nests_deeper(content, _MAX_NESTING):
            raise AnswerMalformed("a call", said)
        try:
            return json.loads(content, parse_float=_parse_decimal, parse_constant=_parse_decimal)
        except ValueError as error:
            raise AnswerMalformed("a call", said) from error

    def _read(self, answer: httpx.Response) -> bytes:
        """All of an answer, of bounded size and within bounded time."""
        deadline = time.monotonic() + _PATIENCE * self._timeout_s
        content = bytearray()
        for part in answer.iter_bytes():
            content += part
            if len(content) > _MAX_ANSWER_BYTES:
                raise AnswerMalformed("a call", f"more than {_MAX_ANSWER_BYTES} bytes")
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout(f"its answer is not whole after {_PATIENCE * self._timeout_s:.0f} s")
        return bytes(content)

    # --- shapes of answers

    def _fields(self, method: str, *names: str, params: tuple[object, ...] = ()) -> dict[str, Any]:
        answer = self.call(method, *params)
        if not isinstance(answer, dict) or any(name not in answer for name in names):
            raise AnswerMalformed(method, answer)
        return answer

    def _bytes(self, method: str, *params: object) -> bytes:
        return _to_bytes(method, self.call(method, *params))

    def _hash(self, method: str, *params: object) -> bytes:
        if len(value := self._bytes(method, *params)) != 32:
            raise AnswerMalformed(method, value.hex())
        return value[::-1]

    def _of_block(self, method: str, *params: object) -> bytes:
        try:
            return self._bytes(method, *params)
        except RpcFault as error:
            if (pruned := _pruned(error)) is not None:
                raise pruned from error
            raise


class _Busy(httpx.HTTPError):
    """HTTP 503: the node took nothing in."""


def _pruned(error: RpcFault) -> PrunedTooFar | None:
    """What a fault means, where it means that a block is gone."""
    is_gone = error.code == _BLOCK_MISSING and "prune" in error.message.lower()
    return PrunedTooFar(error.message) if is_gone else None


def _request(method: str, params: tuple[object, ...]) -> dict[str, object]:
    return {"jsonrpc": "1.0", "id": 0, "method": method, "params": params}


def _parse_decimal(text: str) -> Decimal:
    """A finite number of a size that can be worked with; `ValueError` else."""
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"{text[:_MESSAGE]} is no number") from error
    if not value.is_finite() or value.adjusted() > _MAX_EXPONENT:
        raise ValueError(f"{text[:_MESSAGE]} is no amount")
    return value


def _to_bytes(method: str, answer: object) -> bytes:
    try:
        return bytes.fromhex(str(answer))
    except ValueError as error:
        raise AnswerMalformed(method, answer) from error


# --- a regtest node of our own


@dataclass(slots=True)
class RegtestNode:
    """A running bitcoind; `stop` it."""

    process: subprocess.Popen[bytes]
    client: Bitcoind
    datadir: Path
    login: Login

    @property
    def url(self) -> str:
        """Of its RPC."""
        return self.client.url

    def stop(self, timeout_s: float = _STOP_S) -> int:
        """Ask, then insist, then kill; the exit code."""
        if self.process.poll() is None:
            try:
                self.client.stop()
            except NodeFault:
                self.process.terminate()
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.client.close()
        return code


def locate_bitcoind() -> Path:
    """The bitcoind of HYPERDUST_BITCOIND, of the PATH, or of our cache, which is filled first where it is empty.

    Raises:
        NoBitcoind: says why, and the next command.
    """
    named = os.environ.get("HYPERDUST_BITCOIND") or shutil.which("bitcoind")
    if named:
        return Path(named)
    if not _SCRIPT.exists():
        raise NoBitcoind("there is no bitcoind: install Bitcoin Core, or name one in HYPERDUST_BITCOIND")
    done = subprocess.run([str(_SCRIPT)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoBitcoind(done.stderr.strip())
    return Path(done.stdout.strip())


def write_regtest_config(datadir: Path, rpc_port: int, p2p_port: int, login: Login) -> Path:
    """bitcoin.conf of a node that only this machine and `login` reach."""
    datadir.mkdir(parents=True, exist_ok=True)
    config = datadir / "bitcoin.conf"
    config.touch(mode=0o600)
    lines = ("regtest=1", "server=1", "txindex=1", "corepolicy=1", "fallbackfee=0.0001", "dbcache=64")
    alone = ("dns=0", "dnsseed=0", "natpmp=0", "discover=0", "listenonion=0")  # asks neither names nor routers
    wallet = ("addresstype=bech32m", "changetype=bech32m")
    network = (
        "[regtest]",
        f"rpcport={rpc_port}",
        "rpcbind=127.0.0.1",
        "rpcallowip=127.0.0.1",
        f"bind=127.0.0.1:{p2p_port}",
    )
    access = (f"rpcuser={login.user}", f"rpcpassword={login.password}")
    config.write_text("\n".join((*lines, *alone, *wallet, *network, *access, "")), encoding="utf-8")
    return config


def regtest_command(program: Path, datadir: Path) -> tuple[str, ...]:
    """What a supervisor runs after `write_regtest_config`."""
    return (str(program), f"-datadir={datadir}", f"-conf={datadir / 'bitcoin.conf'}", "-printtoconsole=0")


def start_regtest(
    datadir: Path, rpc_port: int, p2p_port: int, *, program: Path | None = None, timeout_s: float = _START_S
) -> RegtestNode:
    """Start a regtest node on loopback and wait until it answers; on tmpfs it is many times faster.

    Raises:
        NoBitcoind: there is none to start.
        StartFailed: it ended, or did not answer in time.
    """
    program = program or locate_bitcoind()
    login = Login("hyperdust", secrets.token_hex(16))
    write_regtest_config(datadir, rpc_port, p2p_port, login)
    output = datadir / "output.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            regtest_command(program, datadir),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches the supervisor alone
        )
    node = RegtestNode(process, Bitcoind(f"http://127.0.0.1:{rpc_port}", login), datadir, login)
    probe = Bitcoind(node.url, login, timeout_s=timeout_s, backoff_s=())
    deadline = time.monotonic() + timeout_s
    with probe:
        while True:
            try:
                probe.check_network(REGTEST)
            except (Unreachable, StillStarting, Unauthorised) as error:
                if process.poll() is None and time.monotonic() < deadline:
                    time.sleep(_POLL_S)
                    continue
                node.stop(1)
                words = output.read_text(encoding="utf-8", errors="replace").strip()
                raise StartFailed(f"{program} did not start: {words or error}") from error
            return node
