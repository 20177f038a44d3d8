"""A bitcoind that is the wrong one: pruned, of another network, or answering garbage; for node, signer and commands."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

import pytest

from bridge.params import REGTEST
from bridge.scripts import Binding
from hyperdust.bridging.keeping import add_outpoint, make_kept, make_secret, parse_outpoint, save
from hyperdust.bridging.terms import read_terms
from tests.functional.bad_days_world import PROGRAM, World, run_bridge, wait_for

pytest_plugins = ["tests.functional.bitcoin_fixture"]
pytestmark = pytest.mark.functional

PRUNED = ("-txindex=0", "-prune=1", "-fastprune")
BLOCKS = 900


class Between:
    """Stands between a program and bitcoind: passes on, or answers what a test says."""

    def __init__(self, world, port):
        self.url, self.answer = f"http://127.0.0.1:{port}", None
        self.has_index, self.asked_well = False, 0
        between = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                given = between.answer
                raw = between._pass_on(world, self.headers, body) if given is None else given(json.loads(body))
                self.send_response(200)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _pass_on(self, world, headers, body):
        if self.has_index and json.loads(body)["method"] == "getindexinfo":
            return b'{"result": {"txindex": {"synced": true}}, "error": null}'
        self.asked_well += 1
        wanted = {"Authorization": headers["Authorization"], "Content-Type": "application/json"}
        try:
            with urlopen(Request(world.bitcoin_url, body, wanted)) as answer:
                return answer.read()
        except OSError as error:  # bitcoind's own refusals are HTTP 500
            return error.read()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def world(bitcoind_program, tmp_path_factory):
    """A pruned bitcoind and a node that follows it; nobody mines, nobody signs."""
    made = World(tmp_path_factory.mktemp("sources"), bitcoind_program)
    try:
        made.start_bitcoind(*PRUNED)
        made.mine(BLOCKS)
        assert made.bitcoin.call("pruneblockchain", BLOCKS - 300) > 0
        made.start_node()
        keep(made, f"{'11' * 32}:0")
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def between(world):
    made = Between(world, world.port + 30)
    yield made
    made.close()


def keep(world, outpoint):
    """A deposit file that names a payment."""
    (secret, key), terms, folder = make_secret(), read_terms(world.client), world.folder / "mine"
    binding = Binding(key, b"\x11" * 20, 5_000, 0)
    kept = make_kept(terms.chain_id, REGTEST.name, terms.custody, terms.rules, binding, secret, 500_000)
    save(kept, folder)
    add_outpoint(kept, parse_outpoint(outpoint), folder)


def ended(world, name):
    """Exit code and last words of a process that ends by itself."""
    process = world.processes[name]
    code = wait_for(f"{name} to end", lambda: process.poll() is not None and (process.returncode or "0"))
    del world.processes[name]
    said = world.log(name)
    assert "Traceback" not in said
    return code, said


def test_a_pruned_bitcoind_is_enough_for_headers_and_the_node_says_for_what_it_is_not(world):
    assert world.bitcoin.chain_info().lowest_block > 1
    wait_for("the headers", lambda: world.peg["bitcoin"]["state"] == "following")
    world.mine(2)
    world.see_tip()
    assert world.peg["bitcoin"]["height"] == BLOCKS + 2
    assert "bitcoind is pruned: enough for headers; signers and --sync-from bitcoin need one" in world.log("node")


def test_a_rebuild_from_a_pruned_bitcoind_is_refused_with_the_remedy(world):
    world.spawn(
        "rebuild", *PROGRAM, "node", "--data-dir", world.folder / "rebuild", "--genesis", world.genesis,
        "--rpc-port", world.port + 31, "--ws-port", world.port + 32, "--work-grpc-port", world.port + 33,
        "--metrics-port", world.port + 34, "--bitcoin-rpc", world.bitcoin_url, "--bitcoin-user", world.login.user,
        "--sync-from", "bitcoin",
    )  # fmt: skip
    code, said = ended(world, "rebuild")
    assert code == 1
    assert "bitcoind has pruned what we need" in said
    assert "use an unpruned node" in said


def test_a_signer_on_a_pruned_bitcoind_refuses_to_start_with_the_remedy(world):
    world.start_signers(0)
    code, said = ended(world, "signer0")
    assert code == 1
    assert "bitcoind keeps no transaction index; start it with txindex=1" in said


GARBAGE = {
    "html": lambda _: b"<html>404</html>",
    "null": lambda _: b"null",
    "no result": lambda _: b"{}",
    "deep": lambda _: b"[" * 100_000,
    "endless number": lambda _: b'{"result": 1e999999999, "error": null}',
    "result of another call": lambda _: b'{"result": {"chain": 7}, "error": null}',
    "error without words": lambda _: b'{"result": null, "error": {"code": "x"}}',
}


def of_main(asked):
    """What a bitcoind of the main network says."""
    names = dict.fromkeys(("bestblockhash", "chainwork"), "00" * 32)
    info = {"chain": "main", "blocks": 1, "headers": 1, "pruned": False, "initialblockdownload": False, **names}
    result = {"subversion": "/Satoshi:29.0.0/"} if asked["method"] == "getnetworkinfo" else info
    return json.dumps({"result": result, "error": None}).encode()


def test_another_network_is_refused_by_signer_and_commands(world, between):
    between.answer = of_main
    world.start_signers(1, **{"bitcoin-rpc": between.url})
    code, said = ended(world, "signer1")
    assert code == 1
    assert "bitcoind follows 'main', this chain needs 'regtest'; name another node" in said
    for words in commands(world):
        assert "bitcoind follows 'main'" in ask(world, between, *words)


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_named_by_every_command(world, between, kind):
    between.answer = GARBAGE[kind]
    for words in commands(world):
        said = ask(world, between, *words)
        assert "is that a Bitcoin node?" in said, said


def commands(world):
    place = f"{'11' * 32}:0"
    return (
        ("status", place),
        ("audit",),
        ("deposit", "--btc", "0.01", "--to", "0x" + "11" * 20, "--no-pay"),
        ("reclaim", place, "--to", world.address),
    )


def ask(world, between, *words):
    login = ("--bitcoin-user", world.login.user, "--bitcoin-password", world.login.password)
    return run_bridge(world, *words, "--bitcoin-rpc", between.url, *login, code=1)


def test_a_signer_whose_bitcoind_turns_to_garbage_says_so_and_goes_on(world, between):
    between.answer, between.has_index = None, True
    world.start_signers(2, **{"bitcoin-rpc": between.url})
    wait_for("the signer", lambda: "protection=" in world.log("signer2"))
    for answer in GARBAGE.values():
        between.answer = None
        said = len(world.log("signer2"))
        wait_for("it to go on", lambda: between.asked_well > 0)
        between.answer = answer
        wait_for("the trouble", lambda said=said: "is that a Bitcoin node?" in world.log("signer2")[said:])
        between.asked_well = 0
    assert world.processes["signer2"].poll() is None
    assert "Traceback" not in world.log("signer2")
    assert world.end("signer2") == 0
