"""What the client of bitcoind makes of answers, good, bad and missing; the real node is a functional test."""

import json

import httpx
import pytest

from bridge.work import show_hash
from hyperdust import bitcoind
from hyperdust.bitcoind import (
    AnswerMalformed,
    Bitcoind,
    KnotsRefused,
    Login,
    NoTransactionIndex,
    PrunedTooFar,
    RpcFault,
    StillStarting,
    Unauthorised,
    Unreachable,
    WrongNetwork,
    btc_to_sats,
    parse_hash,
    sats_to_btc,
    write_regtest_config,
)

HASH = "00" * 31 + "6f"
LOGIN = Login("user", "secret")
INFO = {
    "chain": "main",
    "blocks": 850_000,
    "headers": 850_001,
    "bestblockhash": HASH,
    "chainwork": "ff",
    "pruned": False,
    "initialblockdownload": False,
}
CORE, KNOTS = {"subversion": "/Satoshi:29.0.0/"}, {"subversion": "/Satoshi:29.5.0/Knots:20260508/"}


class Node:
    """Answers in turn; an exception is raised, a Response goes as it is, anything else is a result."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def __call__(self, request):
        self.asked.append((request.headers.get("authorization"), json.loads(request.content)))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        return httpx.Response(200, json={"result": answer, "error": None, "id": 0})

    def client(self, login=LOGIN):
        return Bitcoind("http://node:1", login, backoff_s=(0, 0), transport=httpx.MockTransport(self))


def fault(code, message, status=500):
    return httpx.Response(status, json={"result": None, "error": {"code": code, "message": message}, "id": 0})


def test_a_typed_answer():
    node = Node(INFO)
    info = node.client().chain_info()
    assert (info.network, info.height, info.headers, info.work, info.lowest_block) == ("main", 850_000, 850_001, 255, 0)
    assert info.best_hash == b"\x6f" + bytes(31)
    assert node.asked[0][1]["method"] == "getblockchaininfo"
    assert node.asked[0][0].startswith("Basic ")


def test_hashes_are_reversed_at_the_edge():
    assert (parse_hash(HASH), show_hash(b"\x6f" + bytes(31))) == (b"\x6f" + bytes(31), HASH)
    node = Node(HASH, "aa" * 80)
    client = node.client()
    assert client.raw_header(client.block_hash(5)) == b"\xaa" * 80
    assert node.asked[1][1]["params"] == [HASH, False]


@pytest.mark.parametrize(
    ("btc", "sats"), [("0.00000001", 1), ("0.1", 10_000_000), ("20999999.97690000", 2099999997690000)]
)
def test_amounts_are_exact(btc, sats):
    assert btc_to_sats(btc) == sats
    assert btc_to_sats(sats_to_btc(sats)) == sats
    raw = httpx.Response(200, content=b'{"result": {"feerate": %s, "blocks": 2}, "error": null}' % btc.encode())
    assert Node(raw).client().fee_rate(2) == sats


def test_no_fee_rate_yet():
    assert Node({"errors": ["Insufficient data"], "blocks": 2}).client().fee_rate(2) is None


def test_the_network_and_who_follows_it():
    assert Node(INFO, CORE).client().check_network("main").height == 850_000
    assert Node(INFO | {"chain": "regtest"}, KNOTS).client().check_network("regtest").network == "regtest"
    with pytest.raises(WrongNetwork):
        Node(INFO | {"chain": "test"}, CORE).client().check_network("main")
    for network in ("main", "test", "testnet4", "signet"):
        with pytest.raises(KnotsRefused, match="Knots:20260508"):
            Node(INFO | {"chain": network}, KNOTS).client().check_network(network)


def test_a_pruned_node():
    pruned = INFO | {"pruned": True, "pruneheight": 700_000}
    Node(pruned).client().check_reaches(700_000)
    with pytest.raises(PrunedTooFar, match="700000"):
        Node(pruned).client().check_reaches(699_999)
    with pytest.raises(PrunedTooFar):
        Node(fault(-1, "Block not available (pruned data)")).client().raw_block(bytes(32))
    with pytest.raises(RpcFault):
        Node(fault(-5, "Block not found")).client().raw_block(bytes(32))


def test_a_transaction_index_is_asked_for():
    Node({"txindex": {"synced": True, "best_block_height": 7}}).client().check_transaction_index()
    with pytest.raises(NoTransactionIndex, match="no prune="):
        Node({}).client().check_transaction_index()
    with pytest.raises(StillStarting, match="come to block 7"):
        Node({"txindex": {"synced": False, "best_block_height": 7}}).client().check_transaction_index()
    with pytest.raises(AnswerMalformed):
        Node([]).client().check_transaction_index()


def test_a_refusal_keeps_bitcoinds_words():
    with pytest.raises(RpcFault, match="bad-txns-inputs-missingorspent") as caught:
        Node(fault(-25, "bad-txns-inputs-missingorspent")).client().send_raw_transaction(b"\x00")
    assert (caught.value.method, caught.value.code) == ("sendrawtransaction", -25)
    with pytest.raises(StillStarting, match="Loading block index"):
        Node(fault(-28, "Loading block index…")).client().chain_info()


@pytest.mark.parametrize(
    "error", [httpx.ReadTimeout("slow"), httpx.ReadError("reset"), httpx.RemoteProtocolError("cut")]
)
def test_reads_are_repeated_and_changes_are_not(error):
    node = Node(error, error, HASH)
    assert node.client().best_block_hash() == parse_hash(HASH)
    node = Node(error, HASH)
    assert node.client().send_raw_transaction(b"\x00") == parse_hash(HASH), "the same bytes twice do no harm"
    for change in (
        lambda client: client.send_to_address("a", 1),
        lambda client: client.generate_to_address(1, "a"),
        lambda client: client.invalidate_block(bytes(32)),
    ):
        node = Node(error, HASH)
        with pytest.raises(Unreachable):
            change(node.client())
        assert len(node.asked) == 1


@pytest.mark.parametrize("never_arrived", [httpx.ConnectError("refused"), httpx.Response(503, text="busy")])
def test_what_never_arrived_is_sent_again(never_arrived):
    assert Node(never_arrived, HASH).client().send_to_address("a", 1) == parse_hash(HASH)


def test_in_the_end_it_is_unreachable():
    node = Node(*[httpx.ConnectError("refused")] * 3)
    with pytest.raises(Unreachable, match=r"http://node:1 \(refused\)"):
        node.client().chain_info()
    assert len(node.asked) == 3
    with pytest.raises(Unreachable):
        Bitcoind("http://node:port", LOGIN)


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_login(status):
    with pytest.raises(Unauthorised, match=str(status)):
        Node(httpx.Response(status)).client().chain_info()


def test_the_cookie_is_read_at_each_call(tmp_path):
    cookie = tmp_path / ".cookie"
    node = Node(HASH, HASH)
    client = node.client(Login(cookie=cookie))
    with pytest.raises(Unauthorised, match="no cookie file"):
        client.best_block_hash()
    for secret in ("one", "two"):
        cookie.write_text(f"__cookie__:{secret}")
        client.best_block_hash()
    assert node.asked[0][0] != node.asked[1][0]


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>a proxy</html>"),
        httpx.Response(404, text=""),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"jsonrpc": "2.0"}),
        httpx.Response(500, json={"result": None, "error": {"code": "x"}}),
        httpx.Response(200, json={"result": None, "error": "no"}),
        {"chain": "main"},
        INFO | {"chainwork": "zz"},
        INFO | {"pruned": True},
        INFO | {"bestblockhash": 5},
        "main",
        None,
    ],
)
def test_garbage(answer):
    with pytest.raises(AnswerMalformed):
        Node(answer).client().chain_info()


@pytest.mark.parametrize("answer", ["00", "zz" * 32, None, 7, "00" * 33])
def test_garbage_for_a_hash(answer):
    with pytest.raises(AnswerMalformed):
        Node(answer).client().best_block_hash()


def test_garbage_for_lists():
    with pytest.raises(AnswerMalformed):
        Node([{"allowed?": 1}]).client().refusal_of(b"\x00")
    with pytest.raises(AnswerMalformed):
        Node({"unspents": [{"txid": HASH}]}).client().scan_outputs(["addr(a)"])
    with pytest.raises(AnswerMalformed):
        Node(INFO, httpx.Response(200, json=[])).client().raw_headers(849_999, 10)


def test_headers_in_two_round_trips():
    def batch(*results):
        return httpx.Response(
            200, json=[{"result": result, "error": None, "id": at} for at, result in enumerate(results)]
        )

    node = Node(INFO, batch(HASH, HASH), batch("aa" * 80, "bb" * 80))
    assert node.client().raw_headers(849_999, 10) == b"\xaa" * 80 + b"\xbb" * 80
    assert [call["params"] for call in node.asked[1][1]] == [[849_999], [850_000]]
    assert Node(INFO).client().raw_headers(850_001, 10) == b"", "nothing above the tip"


def test_a_wallet_is_made_or_loaded_once():
    for known, listed, method in (([], [], "createwallet"), ([], [{"name": "w"}], "loadwallet"), (["w"], None, None)):
        answers = [known] if listed is None else [known, {"wallets": listed}, {"name": "w"}]
        node = Node(*answers)
        assert node.client().wallet("w").url == "http://node:1/wallet/w"
        assert [call["method"] for _, call in node.asked][2:] == ([method] if method else [])


def test_the_regtest_config(tmp_path):
    config = write_regtest_config(tmp_path / "new", 18443, 18444, LOGIN)
    lines = config.read_text().splitlines()
    assert config.stat().st_mode & 0o077 == 0, "it holds a password"
    for line in ("regtest=1", "server=1", "txindex=1", "corepolicy=1", "fallbackfee=0.0001", "rpcport=18443"):
        assert line in lines
    assert lines.index("[regtest]") < lines.index("rpcport=18443")


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b'{"result": 1e999999999}', b'{"result": NaN}', b'{"result": Infinity}', b"9" * 5_000],
)
def test_what_would_take_for_ever_to_read_is_refused_at_once(content):
    with pytest.raises(AnswerMalformed):
        Node(httpx.Response(200, content=content)).client().call("anything")


def test_a_long_message_is_cut():
    with pytest.raises(RpcFault) as caught:
        Node(fault(-1, "x" * 100_000)).client().call("anything")
    assert len(caught.value.message) == 300


def test_an_answer_is_bounded_in_size_and_in_time(monkeypatch):
    """Who sends byte by byte lets no timeout pass."""

    def drip():
        while True:
            clock[0] += 29
            yield b" "

    clock = [0.0]
    monkeypatch.setattr(bitcoind.time, "monotonic", lambda: clock[0])
    for _ in range(3):
        with pytest.raises(Unreachable, match="not whole after 300 s"):
            Node(*[httpx.Response(200, content=drip()) for _ in range(3)]).client().call("anything")
    monkeypatch.setattr(bitcoind, "_MAX_ANSWER_BYTES", 1_000)
    with pytest.raises(AnswerMalformed, match="more than 1000 bytes"):
        Node(httpx.Response(200, content=b" " * 1_001)).client().call("anything")


@pytest.mark.parametrize("amount", ["abc", "NaN", None, "1e40"])
def test_what_is_no_amount_is_named(amount):
    with pytest.raises(ValueError, match="is no"):
        btc_to_sats(amount)
    if amount is not None:
        with pytest.raises(AnswerMalformed):
            Node({"blocks": 6, "feerate": amount}).client().fee_rate(6)
