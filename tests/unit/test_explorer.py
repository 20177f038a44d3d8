"""The explorer's server without sockets: what it passes on, what it serves, what it pays."""

import json
from functools import partial

import httpx
import pytest
import trio

from chain.params import DEVNET_CHAIN_IDS
from hyperdust import devnet, devnet_folder, devnet_ports
from hyperdust.explorer import proxy as proxying
from hyperdust.explorer.app import HEADERS, ExplorerConfig, build_application
from hyperdust.explorer.errors import BadAddress, BadRequest, FaucetFailed, MethodRefused, TooSoon
from hyperdust.explorer.faucet import ADDRESS_PAUSE_S, WINDOW_PAYMENTS, Faucet, Limits, parse_address
from hyperdust.explorer.files import load_pages
from hyperdust.explorer.proxy import ALLOWED, BATCH, BODY_BYTES, Proxy, check_request
from hyperdust.wallet import role_key

CONFIG = ExplorerConfig("http://node.invalid", "http://public.invalid", "127.0.0.1", 1, None)
ADDRESS = "0x" + "11" * 20
TABLE = json.loads(devnet_folder.TEMPLATE.read_text(encoding="utf-8"))


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Node:
    """Answers as a node would, and remembers what it was asked."""

    def __init__(self, answer=b'{"jsonrpc":"2.0","id":1,"result":"0x7"}', status=200):
        self.asked, self.answer, self.status = [], answer, status

    def __call__(self, request):
        if self.answer is None:
            raise httpx.ConnectError("refused")
        self.asked.append(json.loads(request.content))
        return httpx.Response(self.status, content=self.answer)


def visit(*requests, node=None, pay=None, clock=None):
    """The answers to (method, path, arguments of httpx)."""

    async def run():
        proxy = Proxy(CONFIG.rpc, httpx.MockTransport(node or Node()))
        faucet = None if pay is None else Faucet(pay, Limits(clock or Clock()))
        application = build_application(CONFIG, proxy, faucet)
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport, base_url="http://explorer.invalid") as client:
            return [await client.request(method, path, **more) for method, path, more in requests]

    return trio.run(run)


def get(path, **headers):
    return visit(("GET", path, {"headers": headers}))[0]


def ask(content, node=None, **more):
    return visit(("POST", "/rpc", {"json": content} | more), node=node)[0]


def call(method, *params):
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}


def name_of(answer):
    return answer.json()["error"]["name"]


def test_reading_methods_go_to_the_node_and_its_answer_comes_back():
    node = Node()
    answer = ask(call("eth_blockNumber"), node)
    assert (answer.status_code, answer.json()["result"]) == (200, "0x7")
    assert node.asked == [call("eth_blockNumber")]


@pytest.mark.parametrize(
    "method",
    [
        "eth_sendRawTransaction",
        "debug_traceTransaction",
        "txpool_content",
        "eth_newFilter",
        "evm_mine",
        "admin_peers",
        "",
    ],
)
def test_other_methods_are_refused_by_name_alone_and_in_a_batch(method):
    node = Node()
    for content in (call(method), [call("eth_blockNumber"), call(method)]):
        answer = ask(content, node)
        assert (answer.status_code, name_of(answer)) == (403, "MethodRefused")
        assert method in answer.json()["error"]["message"]
    assert node.asked == []


def test_nothing_that_is_allowed_writes():
    words = ("send", "sign", "set", "mine", "debug", "admin", "personal", "Filter", "subscribe", "Raw")
    assert not [method for method in ALLOWED if any(word in method for word in words)]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"7", b"[]", b"[1]", b'{"method": 3}', b"\xff", b"[" * 100_000, b'{"a":' * 9_000]
)
def test_what_is_no_json_rpc_is_refused(body):
    with pytest.raises(BadRequest):
        check_request(body)


def test_brackets_in_strings_are_no_nesting():
    check_request(json.dumps(call("eth_call", "[" * 100 + '\\"' + "{" * 100)).encode())


def test_a_name_is_read_once_and_written_anew():
    doubled = b'{"id": 1, "method": "eth_blockNumber", "method": "eth_chainId"}'
    assert json.loads(check_request(doubled)) == {"id": 1, "method": "eth_chainId"}
    assert check_request(doubled).count(b"method") == 1
    with pytest.raises(MethodRefused):
        check_request(b'{"method": "eth_blockNumber", "method": "eth_sendRawTransaction"}')


def test_batches_and_bodies_are_bounded():
    assert ask([call("eth_chainId")] * BATCH).status_code == 200
    assert name_of(ask([call("eth_chainId")] * (BATCH + 1))) == "BadRequest"


def test_a_body_is_read_no_further_than_its_bound():
    sent, read = [], []

    async def run():
        async def receive():
            read.append(40_000)
            return {"type": "http.request", "body": b" " * 40_000, "more_body": True}

        async def send(message):
            sent.append(message)

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/rpc", "query_string": b"", "headers": headers}
        proxy = Proxy(CONFIG.rpc, httpx.MockTransport(Node()))
        await build_application(CONFIG, proxy)(scope, receive, send)

    trio.run(run)
    assert sent[0]["status"] == 413
    assert BODY_BYTES < sum(read) <= BODY_BYTES + 40_000


def test_a_page_of_another_site_cannot_post_without_asking_first():
    for path in ("/rpc", "/faucet"):
        headers = {"content-type": "text/plain", "origin": "http://elsewhere.invalid"}
        (answer,) = visit(("POST", path, {"content": b"{}", "headers": headers}), pay=lambda _: "0x")
        assert answer.status_code == 400
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("node", [Node(None), Node(b"", 500)])
def test_a_silent_node_is_named_without_its_address(node):
    answer = ask(call("eth_chainId"), node)
    assert (answer.status_code, name_of(answer)) == (502, "NodeUnreachable")
    assert "node.invalid" not in answer.text


def test_a_busy_node_and_too_long_an_answer_are_named(monkeypatch):
    assert name_of(ask(call("eth_chainId"), Node(b"", 429))) == "Busy"
    monkeypatch.setattr(proxying, "_ANSWER_BYTES", 10)
    assert name_of(ask(call("eth_chainId"), Node(b"x" * 11))) == "TooLarge"


def test_every_file_is_served_with_its_type_and_the_headers():
    pages = load_pages()
    assert {"/", "/index.html", "/style.css", "/js/main.js", "/js/pages/home.js", "/favicon.svg"} <= set(pages)
    for path, page in pages.items():
        answer = get(path)
        assert answer.status_code == 200
        assert answer.content == page.content
        assert answer.headers["content-type"] == page.media_type
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS


def test_a_file_that_did_not_change_is_not_sent_again():
    first = get("/style.css")
    again = get("/style.css", **{"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


OUTSIDE = [
    "/../app.py", "/static/../app.py", "/%2e%2e/app.py", "/..%2fapp.py", "/js/..%2f..%2fapp.py",
    "/js/%2e%2e/%2e%2e/app.py", "//etc/passwd", "/%2fetc%2fpasswd", "/js", "/js/",
    "/js\\main.js", "/.git/config", "/index.html%00.js", "/app.py",
]  # fmt: skip


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_path_leads_out_of_the_folder(path):
    answer = get(path)
    assert answer.status_code == 404
    assert answer.headers["content-security-policy"] == HEADERS["content-security-policy"]


def test_errors_carry_the_headers_too():
    for answer in (get("/nowhere"), ask(call("evm_mine")), ask([]), visit(("PUT", "/", {}))[0]):
        assert answer.status_code >= 400
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS


def test_pages_load_nothing_from_elsewhere_and_hold_no_inline_code():
    for path, page in load_pages().items():
        text = page.content.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text, path
        assert "https:" not in text.replace('"https:"', ""), path
        assert "innerHTML" not in text, path
        assert "eval(" not in text, path
        if path.endswith(".html"):
            assert " style=" not in text
            assert " onclick=" not in text
            assert "<script>" not in text


def test_addresses_that_wallets_make_lead_to_pages():
    answer = get("/tx/0x" + "ab" * 32)
    assert (answer.status_code, answer.headers["location"]) == (302, "/#/tx/0x" + "ab" * 32)
    assert get("/tx/" + "0" * 67).status_code == 404
    assert get("/tx/a%0d%0aset-cookie:x").status_code == 404


def give(*texts, pay=lambda _address: "0x" + "ab" * 32, clock=None):
    return visit(*(("POST", "/faucet", {"json": {"address": text}}) for text in texts), pay=pay, clock=clock)


def test_the_faucet_pays_and_says_the_transaction():
    paid = []

    def pay(address):
        paid.append(address)
        return "0x12"

    (answer,) = give(f" {ADDRESS} ", pay=pay)
    assert answer.json() == {"transaction": "0x12"}
    assert paid == [b"\x11" * 20]


@pytest.mark.parametrize(
    "text", ["", "0x", "0x12", "11" * 20, "0x" + "zz" * 20, "0x" + "11" * 21, "vitalik.eth", "x" * 900]
)
def test_what_is_no_address_is_named(text):
    (answer,) = give(text)
    assert (answer.status_code, name_of(answer)) == (400, "BadAddress")


def test_a_wrong_checksum_is_no_address():
    right = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    assert parse_address(right) == parse_address(right.lower())
    with pytest.raises(BadAddress, match="checksum"):
        parse_address(right.replace("F39", "f39").replace("aad", "aAd"))


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"address": 7}', b'"0x"', b"[" * 1000])
def test_a_body_without_an_address_is_refused(body):
    headers = {"content-type": "application/json"}
    (answer,) = visit(("POST", "/faucet", {"content": body, "headers": headers}), pay=lambda _: "0x")
    assert (answer.status_code, name_of(answer)) == (400, "BadRequest")


def test_without_a_key_there_is_no_faucet():
    (answer,) = visit(("POST", "/faucet", {"json": {"address": ADDRESS}}))
    assert (answer.status_code, name_of(answer)) == (404, "NoFaucet")


def test_an_address_is_paid_once_in_ten_minutes():
    clock = Clock()
    limits = Limits(clock)
    limits.reserve(b"a")
    limits.reserve(b"b")
    clock.now += ADDRESS_PAUSE_S - 1
    with pytest.raises(TooSoon) as refusal:
        limits.reserve(b"a")
    assert refusal.value.wait_s == 1
    clock.now += 1
    limits.reserve(b"a")


def test_all_payments_together_are_limited():
    clock = Clock()
    limits = Limits(clock)
    for index in range(WINDOW_PAYMENTS):
        clock.now += 1
        limits.reserve(bytes([index]))
    with pytest.raises(TooSoon, match="enough for now"):
        limits.reserve(b"another")
    clock.now += ADDRESS_PAUSE_S - WINDOW_PAYMENTS + 1
    limits.reserve(b"another")
    with pytest.raises(TooSoon):
        limits.reserve(b"and one more")


def test_the_same_address_in_other_letters_is_the_same_address():
    mixed = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    first, second = give(mixed, mixed.lower())
    assert first.status_code == 200
    assert (second.status_code, name_of(second), second.headers["retry-after"]) == (429, "TooSoon", "600")


def test_a_payment_that_failed_does_not_count():
    answers = iter([FaucetFailed("the node refused the payment: insufficient funds"), "0x12"])

    def pay(_address):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    first, second = give(ADDRESS, ADDRESS, pay=pay)
    assert (first.status_code, name_of(first)) == (502, "FaucetFailed")
    assert second.json() == {"transaction": "0x12"}


def test_the_faucet_pays_on_devnets_alone(monkeypatch):
    from hyperdust import rpc_client
    from hyperdust.explorer.faucet import Payer

    chain_ids = iter([1, DEVNET_CHAIN_IDS.start - 1, DEVNET_CHAIN_IDS.stop, DEVNET_CHAIN_IDS.start])
    sent = []

    def submit(_client, account, to, *, value):
        sent.append((account.address, to, value))
        return "0x12"

    monkeypatch.setattr(rpc_client.RpcClient, "quantity", lambda _client, _method: next(chain_ids))
    monkeypatch.setattr(rpc_client.RpcClient, "submit_transaction", submit)
    pay = partial(Payer("http://node.invalid", bytes(role_key(19).key).hex()).pay, b"\x11" * 20)
    from hyperdust.explorer.errors import NotADevnet

    for _ in range(3):
        with pytest.raises(NotADevnet):
            pay()
    assert pay() == "0x12"
    assert sent == [(role_key(19).address, b"\x11" * 20, 10**17)]


def devnet_config(tmp_path, *, explorer):
    return devnet.DevnetConfig(tmp_path, 9000, None, None, None, 1, demo=False, fresh=False, explorer=explorer)


def test_the_devnet_starts_it_last_beside_the_other_ports(tmp_path):
    ports = devnet.Ports(9000)
    assert ports.named["explorer"] == 9004
    *_, role = devnet._roles(devnet_config(tmp_path, explorer=True), TABLE, ports)
    assert (role.kind, role.environment) == ("explorer", {"HYPERDUST_FAUCET_KEY": "0x" + bytes(role_key(19).key).hex()})
    assert "--faucet-key" not in role.command  # others may read command lines


def test_a_devnet_may_leave_it_out(tmp_path):
    ports = devnet.Ports(9000, with_explorer=False)
    assert "explorer" not in ports.named
    roles = devnet._roles(devnet_config(tmp_path, explorer=False), TABLE, ports)
    assert "explorer" not in {role.kind for role in roles}


def test_a_taken_port_of_it_is_named(monkeypatch):
    def bind(_self, address):
        if address[1] == 9004:
            raise OSError

    monkeypatch.setattr(devnet_ports.socket.socket, "bind", bind)
    monkeypatch.setattr(devnet_ports, "_owner", lambda _port: "")
    with pytest.raises(devnet_ports.PortTaken, match=r"port 9004 \(explorer\) is taken"):
        devnet_ports.check_ports(devnet.Ports(9000).named)
    devnet_ports.check_ports(devnet.Ports(9000, with_explorer=False).named)


def test_the_faucets_account_is_funded_by_genesis():
    funded = {address.lower(): int(account["balance"]) for address, account in TABLE["alloc"].items()}
    assert funded[role_key(19).address.lower()] == 10 * 10**18
