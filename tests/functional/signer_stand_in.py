"""A node's JSON-RPC for signers, without a chain below it: the peg by the pure rules, an L2 block whenever told.

It stands in for the node where a test is about signers alone and decides itself what is final.
"""

import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from bridge.header_chain import HeaderChain
from bridge.params import REGTEST
from bridge.peg import apply_credits, burn, compute_peg_out_root, make_genesis, queue_withdrawal
from bridge.peg_codec import encode_state
from bridge.peg_repair import follow_origin
from bridge.rules import WEI_PER_SAT
from bridge.scripts import Custody, SignerSet
from chain.hashing import keccak256
from consensus.errors import EvidenceRefused
from consensus.evidence import apply_evidence
from hyperdust.signer.config import load_network
from hyperdust.signer.key import SigningKey
from hyperdust.signer.musig import aggregate_key
from hyperdust.wallet import signer_key

CHAIN_ID = 0x4859_0001


def make_custody(count=3, threshold=2, epoch=0):
    keys = tuple(sorted(SigningKey(signer_key(index)).public for index in range(count)))
    council = sorted(SigningKey(signer_key(index)).public for index in range(3, 6))
    return Custody(epoch, SignerSet(threshold, keys, aggregate_key(keys)), SignerSet(2, tuple(council)))


class StandIn:
    """The chain of a test: `advance` makes a block; `final` and `finalized` are the head unless a test holds them."""

    def __init__(self, bitcoin, port, custody, chain_id):
        self.bitcoin, self.client, self.port, self.chain_id = bitcoin, bitcoin.client, port, chain_id
        self.rules = load_network("regtest").rules
        self.headers = HeaderChain(REGTEST)
        self.states = [make_genesis(custody, 0)]
        self.pool = []
        self.announced = []
        self.credits = []
        self.held_final = self.held_finalized = None
        self.lock = threading.RLock()
        self.salt = 0
        self.server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def state(self):
        return self.states[-1]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def advance(self, change=None):
        """A block: origin, evidence, credits; then what the test changes."""
        with self.lock:
            self._follow()
            origin = self.headers.hash_at(self.headers.height - self.rules.origin_depth)
            state = follow_origin(self.state, self.headers, origin, self.rules)
            for raw in list(self.pool):
                with suppress(EvidenceRefused):
                    state = apply_evidence(state, [raw], self.headers, origin, self.rules)
                    self.pool.remove(raw)
            height = self.headers.height_of(origin)
            before = state.supply_wei
            state = apply_credits(state, height, self.rules)
            self.credits.append((state.supply_wei - before) // WEI_PER_SAT)
            self.states.append(change(state) if change else state)
            assert self.state.surplus_sats >= 0
            return self.state

    def withdraw(self, script, sats, max_fee=20_000):
        return self.advance(lambda state: queue_withdrawal(state, script, sats, max_fee, self.rules))

    def burn(self, sats):
        return self.advance(lambda state: burn(state, sats * WEI_PER_SAT))

    def place(self, number):
        return keccak256(b"block" + number.to_bytes(8, "big") + encode_state(self.states[number])), number

    def _follow(self):
        info, tip = self.client.chain_info(), self.headers
        height = min(tip.height, info.height)
        while self.client.block_hash(height) != tip.hash_at(height):
            height -= 1
        self.headers.extend(self.client.raw_headers(height + 1, 2000), int(time.time()))

    def answer(self, method, params):
        with self.lock:
            head = len(self.states) - 1
            final = head if self.held_final is None else self.held_final
            finalized = final if self.held_finalized is None else self.held_finalized
            named = {"latest": head, "finalized": finalized}
            if method == "eth_chainId":
                return hex(self.chain_id)
            if method == "hyperdust_pegStatus":
                frozen = self.state.frozen
                return {
                    "bitcoin": {"height": self.client.chain_info().height},
                    "origin": {"height": self.headers.height - self.rules.origin_depth},
                    "frozen": frozen is not None,
                    "frozen_reason": frozen and frozen.reason.name,
                }
            if method == "hyperdust_getPegState":
                number = named.get(params[0]) if params[0] in named else int(params[0], 16)
                block_hash, _ = self.place(number)
                state = "0x" + encode_state(self.states[number]).hex()
                return {"state": state, "height": number, "hash": "0x" + block_hash.hex()}
            if method == "eth_getBlockByNumber":
                number = named.get(params[0]) if params[0] in named else int(params[0], 16)
                if number > head:
                    return None
                return {"number": hex(number), "hash": "0x" + self.place(number)[0].hex()}
            if method == "hyperdust_getAnchorFacts":
                return self._facts(int(params[0], 16), params[1])
            if method == "hyperdust_finality":
                return {"final": {"block": final, "hash": "0x" + self.place(final)[0].hex()}}
            return self._evidence(method, params)

    def _facts(self, number, previous):
        state = self.states[number]
        return {
            "blockHash": "0x" + self.place(number)[0].hex(),
            "stateRoot": "0x" + bytes([1] * 32).hex(),
            "pegOutRoot": "0x" + compute_peg_out_root(state).hex(),
            "workRoot": "0x" + bytes([2] * 32).hex(),
            "vaultSats": state.vault_sats,
            "previous": previous,
        }

    def _evidence(self, method, params):
        if method == "hyperdust_getAnnouncedDeposits":
            return [
                {
                    "userKey": "0x" + one.user_key.hex(),
                    "address": "0x" + one.address.hex(),
                    "maxFee": one.max_fee,
                    "epoch": one.epoch,
                }
                for one in self.announced
            ]
        if method == "hyperdust_submitEvidence":
            raw = bytes.fromhex(params[0][2:])
            if raw not in self.pool:
                self.pool.append(raw)
            return "0x" + keccak256(raw).hex()
        raise KeyError(method)

    def _handler(self):
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = {"jsonrpc": "2.0", "id": asked["id"]}
                try:
                    answer["result"] = stand_in.answer(asked["method"], asked["params"])
                except KeyError as error:
                    answer["error"] = {"code": -32601, "message": f"no method {error}"}
                raw = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_):
                pass

        return Handler
