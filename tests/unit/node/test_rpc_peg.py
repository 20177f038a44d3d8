"""What signers and users learn of the peg by JSON-RPC: state, evidence, addresses, deposits, withdrawals, anchors."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.anchors import Anchor, AnchoredFacts
from bridge.deposits import Claim, Outpoint
from bridge.params import REGTEST
from bridge.peg_codec import decode_state
from bridge.work import show_hash
from chain.hashing import keccak256
from consensus.evidence import encode_evidence_item
from consensus.finality import Checkpoint, Finality
from hyperdust.node.anchors import AnchorIndex, compute_facts
from hyperdust.node.announced import AnnouncedDeposits
from hyperdust.node.bitcoin import State
from hyperdust.node.evidence import EvidencePool
from hyperdust.node.peg import Peg, open_peg
from hyperdust.node.rpc.backend import Backend
from hyperdust.node.rpc.dispatcher import Dispatcher
from tests.peg_chain import NEWCOMER, WITNESS_SCRIPT, PegChain
from tests.unit.bridge.keys import make_key

Call = Callable[..., Any]


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[PegChain]:
    chain = PegChain(tmp_path / "chain")
    said = {"params": REGTEST, "frozen": None, "state": State.FOLLOWING, "reason": "", "tip": bytes(32)}
    for name, value in said.items():
        setattr(chain.bitcoin, name, value)  # what the node's own view says beside headers
    yield chain
    chain.close()


@pytest.fixture
def peg(chain: PegChain) -> Peg:
    peg = open_peg(chain.params, chain.store, chain.bitcoin)  # type: ignore[arg-type]  # a view, and what it says
    assert peg is not None
    chain.pool = chain.builder._evidence = peg.evidence  # type: ignore[assignment]
    chain.importer.subscribe(peg.on_imported)
    return peg


@pytest.fixture
def call(chain: PegChain, peg: Peg) -> Call:
    backend = Backend(
        params=chain.params,
        store=chain.store,
        importer=chain.importer,
        mempool=chain.mempool,
        builder=chain.builder,
        version="hyperdust/test",
        debug=True,
        bitcoin=chain.bitcoin,  # type: ignore[arg-type]
        peg=peg,
    )
    dispatcher = Dispatcher(backend)

    def ask(method: str, *params: object) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        answer = json.loads(dispatcher.answer(body) or b"")
        return answer["result"] if "result" in answer else answer["error"]

    return ask


def anchor_head(chain: PegChain, call: Call) -> tuple[Anchor, int]:
    """An anchor of the head as signers make it, from what the node tells them."""
    number = chain.store.latest.head.number
    facts = call("hyperdust_getAnchorFacts", hex(number))
    assert facts["height"] == number
    return Anchor(0, number, bytes.fromhex(facts["commitment"][2:])), number


def test_the_state_of_every_block_is_what_bridge_commits_to(chain: PegChain, call: Call) -> None:
    chain.fund()
    found = call("hyperdust_getPegState", "latest")
    encoded = bytes.fromhex(found["state"][2:])
    assert decode_state(encoded) == chain.peg
    assert keccak256(encoded) == chain.bridge("peg_root")
    assert found["height"] == chain.store.latest.head.number
    assert decode_state(bytes.fromhex(call("hyperdust_getPegState", "0x0")["state"][2:])).vault is None


def test_an_announced_address_is_swept_shown_and_credited(chain: PegChain, call: Call) -> None:
    one = chain.deposit()
    asked = {"userKey": "0x" + make_key(77).hex(), "address": "0x" + NEWCOMER.hex(), "maxFee": 20_000}
    told = call("hyperdust_announceDeposit", asked)
    assert bytes.fromhex(told["script"][2:]) == one.spent.output.script
    assert told["bitcoinAddress"].startswith("bcrt1p")
    assert call("hyperdust_getAnnouncedDeposits") == [told]
    assert call("hyperdust_announceDeposit", asked | {"epoch": 0}) == told
    place = str(one.outpoint)
    assert call("hyperdust_getDeposit", place) is None
    sweep = chain.draft(one)
    chain.bitcoin.mine([sweep])
    raw = encode_evidence_item(chain.evidence(sweep))
    assert call("hyperdust_submitEvidence", "0x" + raw.hex()) == "0x" + keccak256(raw).hex()
    seen = call("hyperdust_getDeposit", place)
    charge = sweep.inputs[0].sequence - (1 << 31)
    assert (seen["status"], seen["confirmations"], seen["needed"]) == ("swept", 1, 7)
    assert (seen["credit_sats"], seen["fee_sats"]) == (500_000 - charge, charge)
    assert seen["expected_s"] == 3_600
    chain.bury()
    chain.extend()
    done = call("hyperdust_getDeposit", place)
    assert (done["status"], done["block"], done["expected_s"]) == ("credited", 1, 0)
    assert done["credit_sats"] == seen["credit_sats"]
    assert call("hyperdust_getPendingEvidence")[0]["txid"] == show_hash(sweep.txid)


def test_an_unclaimed_sweep_says_what_it_waits_for(chain: PegChain, call: Call) -> None:
    chain.fund()
    one = chain.deposit()
    sweep = chain.draft(one)
    chain.bitcoin.mine([sweep])
    chain.show(sweep, claimed=False)
    chain.bury()
    chain.extend()
    found = call("hyperdust_getDeposit", str(one.outpoint))
    assert found["status"] == "unclaimed"
    assert "submit a claim" in found["reason"]
    raw = encode_evidence_item(Claim(one.outpoint, one.binding))
    call("hyperdust_submitEvidence", "0x" + raw.hex())
    chain.extend()
    assert call("hyperdust_getDeposit", str(one.outpoint))["status"] == "credited"


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"userKey": "0x" + "00" * 32}, "user key"),
        ({"userKey": "0x1"}, "hex"),
        ({"address": "0x1234"}, "20 bytes"),
        ({"maxFee": -1}, "maximum fee"),
        ({"maxFee": None}, "numbers"),
        ({"epoch": 9}, "UnknownEpoch"),
        ({"more": 1}, "want"),
    ],
)
def test_what_no_deposit_can_be_is_refused(call: Call, asked: dict[str, object], reason: str) -> None:
    good = {"userKey": "0x" + make_key(1).hex(), "address": "0x" + NEWCOMER.hex(), "maxFee": 20_000}
    assert reason in call("hyperdust_announceDeposit", good | asked)["message"]


def test_evidence_is_refused_by_the_name_of_its_rule(chain: PegChain, call: Call) -> None:
    assert (
        "EvidenceMalformed" in call("hyperdust_submitEvidence", "0x05")["message"]
        or "malformed" in call("hyperdust_submitEvidence", "0x05")["message"]
    )
    sweep = chain.draft(chain.deposit())
    chain.bitcoin.mine([sweep])
    raw = encode_evidence_item(chain.evidence(sweep))
    chain.bitcoin.drop(1)
    chain.bury(2)
    assert "SweepNotOnBranch" in call("hyperdust_submitEvidence", "0x" + raw.hex())["message"]


def test_a_withdrawal_from_burning_to_payment(chain: PegChain, call: Call) -> None:
    chain.fund()
    assert call("hyperdust_getWithdrawal", 0) is None
    chain.withdraw(100_000, 20_000)
    found = call("hyperdust_getWithdrawal", 0)
    assert (found["status"], found["sats"], found["fee_sats"]) == ("queued", 100_000, 20_000)
    assert found["reason"] == "the next block takes it in"
    assert found["script"] == "0x" + WITNESS_SCRIPT.hex()
    chain.extend()
    assert "signers pay it" in call("hyperdust_getWithdrawal", 0)["reason"]
    payout = chain.draft()
    chain.bitcoin.mine([payout])
    chain.show(payout)
    paying = call("hyperdust_getWithdrawal", 0)
    assert (paying["status"], paying["txid"], paying["confirmations"]) == ("paying", show_hash(payout.txid), 1)
    chain.bury()
    chain.extend()
    paid = call("hyperdust_getWithdrawal", 0)
    assert (paid["status"], paid["txid"], paid["reason"]) == ("paid", show_hash(payout.txid), None)
    status = call("hyperdust_pegStatus")
    assert status["vault_sats"] == payout.outputs[0].sats
    assert status["covered"]
    assert status["queued_withdrawals"] == 0


def test_everybody_sees_who_is_announced(chain: PegChain, call: Call) -> None:
    chain.fund()
    assert call("hyperdust_pegStatus")["announced"] is None
    chain.announce(7)
    chain.extend()
    status = call("hyperdust_pegStatus")
    (following,) = chain.peg.announced
    assert status["signers"]["epoch"] == 0
    assert (status["announced"]["epoch"], status["announced"]["starts_at"]) == (1, following.starts_at)
    assert status["announced"]["keys"] == ["0x" + key.hex() for key in following.signers.keys]
    chain.bury(chain.rules.emergency_blocks)
    chain.extend()
    chain.announce(by_council=True)
    chain.extend()
    status = call("hyperdust_pegStatus")
    assert [one["epoch"] for one in status["named_by_council"]] == [2]
    assert status["announced"]["epoch"] == 1


def test_anchors_make_blocks_safe_and_finalized(chain: PegChain, peg: Peg, call: Call) -> None:
    chain.fund()
    chain.send("", value=10**15)  # burned: pays for anchors
    chain.extend(2)
    chain.bury(1)
    chain.extend()
    voted = call("eth_getBlockByNumber", "finalized", False)["number"]
    assert voted == "0x0"
    anchor, number = anchor_head(chain, call)
    first = chain.draft(anchor=anchor)
    chain.bitcoin.mine([first])
    chain.show(first)
    chain.extend()
    assert call("eth_getBlockByNumber", "safe", False)["number"] == hex(number)
    assert call("eth_getBlockByNumber", "finalized", False)["number"] == "0x0", "one confirmation is not six"
    (seen,) = call("hyperdust_getAnchors", "0x0", "latest")
    assert (seen["txid"], seen["block"], seen["confirmations"]) == (show_hash(first.txid), number, 1)
    chain.bury(5)
    assert call("eth_getBlockByNumber", "finalized", False)["number"] == hex(number)
    chain.bury(2)
    chain.extend()
    assert chain.peg.vault.anchor_height == number
    # A second one names the first; a restarted node knows both from what it wrote.
    anchor, later = anchor_head(chain, call)
    second = chain.draft(anchor=anchor)
    chain.bitcoin.mine([second])
    chain.show(second)
    assert call("eth_getBlockByNumber", "safe", False)["number"] == hex(later)
    assert call("eth_getBlockByNumber", "finalized", False)["number"] == hex(number)
    again = AnchorIndex(
        chain.params, chain.store, chain.bitcoin, EvidencePool(chain.params, chain.store, chain.bitcoin)
    )
    assert [one.place.number for one in again.seen(chain.store.latest)] == [number, later]
    assert call("hyperdust_getAnchors", hex(later), "latest")[0]["block"] == later
    assert peg.anchors.finalized(chain.store.latest).number == number


def test_finalized_never_goes_back(chain: PegChain, peg: Peg, call: Call) -> None:
    """Votes are ahead of the first anchor, and a reorganisation takes one away; a restarted node says the same."""

    def named(name: str) -> int:
        return int(call("eth_getBlockByNumber", name, False)["number"], 16)

    chain.fund()
    chain.send("", value=10**15)
    chain.extend(2)
    chain.bury(1)
    chain.extend()
    anchor, number = anchor_head(chain, call)
    chain.extend(3)
    voted = Checkpoint(chain.store.latest.head.number, chain.store.latest.head.hash)
    chain.store.write_finality(Finality(voted, (voted,)))
    assert (named("finalized"), named("safe")) == (voted.number, voted.number)
    first = chain.draft(anchor=anchor)
    chain.bitcoin.mine([first])
    chain.show(first)
    chain.bury(7)
    chain.extend()
    assert [one.place.number for one in peg.anchors.seen(chain.store.latest)] == [number]
    assert number < voted.number
    assert (named("finalized"), named("safe")) == (voted.number, voted.number)
    pool = EvidencePool(chain.params, chain.store, chain.bitcoin)
    again = AnchorIndex(chain.params, chain.store, chain.bitcoin, pool)
    assert again.finalized(chain.store.latest) == voted, "after a restart too"
    # An anchor that passes it counts again, and what it gave is kept when Bitcoin drops it.
    anchor, later = anchor_head(chain, call)
    assert later > voted.number
    second = chain.draft(anchor=anchor)
    chain.bitcoin.mine([second])
    chain.show(second)
    assert (named("finalized"), named("safe")) == (voted.number, later)
    chain.bury(6)
    assert (named("finalized"), named("safe")) == (later, later)
    chain.bitcoin.drop(7)
    chain.bury(8)
    assert [one.confirmations for one in peg.anchors.seen(chain.store.latest) if one.place.number == later] == [0]
    assert (named("finalized"), named("safe")) == (later, later)


def test_what_has_left_the_chain_is_not_finalized(chain: PegChain, peg: Peg) -> None:
    chain.store.write_records({b"Kf": (1).to_bytes(8, "big") + b"\7" * 32})
    again = AnchorIndex(chain.params, chain.store, chain.bitcoin, peg.evidence)
    assert again.finalized(chain.store.latest).hash == chain.store.latest.genesis_hash
    ((_, kept),) = chain.store.load_records(b"Kf")
    assert kept[8:] == chain.store.latest.genesis_hash


def test_an_anchor_of_another_chain_makes_nothing_final(chain: PegChain, call: Call) -> None:
    chain.fund()
    chain.send("", value=10**15)
    chain.extend(2)
    chain.bury(1)
    chain.extend()
    foreign = chain.draft(anchor=Anchor(0, 1, b"\7" * 32))
    chain.bitcoin.mine([foreign])
    chain.show(foreign)
    chain.bury()
    chain.extend()
    assert chain.peg.vault.anchor_height == 1
    assert call("hyperdust_getAnchors", "0x0", "latest") == []
    assert call("eth_getBlockByNumber", "finalized", False)["number"] == "0x0"


def test_facts_cover_the_state(chain: PegChain, call: Call) -> None:
    chain.fund()
    head = chain.store.latest.head
    facts = call("hyperdust_getAnchorFacts", "latest", "0x" + "05" * 32)
    own: AnchoredFacts = compute_facts(chain.store.latest, chain.params, head.hash, b"\5" * 32)
    assert facts["commitment"] == "0x" + own.commitment.hex()
    assert facts["stateRoot"] == "0x" + head.header.state_root.hex()
    assert facts["vaultSats"] == chain.peg.vault_sats


def test_the_nodes_own_alarm_ends_when_the_peg_has_followed(chain: PegChain, peg: Peg) -> None:
    thawed: list[bool] = []
    chain.bitcoin.thaw = lambda: thawed.append(True)  # type: ignore[attr-defined]
    sweep = chain.fund()
    chain.bitcoin.frozen = "deep"  # type: ignore[attr-defined]
    chain.bitcoin.drop(8)
    chain.bury(9)
    chain.extend()
    assert chain.peg.frozen is not None
    assert not thawed
    chain.bitcoin.mine([sweep])
    chain.show(sweep)
    chain.bury()
    chain.extend()
    assert chain.peg.frozen is None
    assert thawed
    assert peg.evidence.items


def test_what_a_node_was_told_outlives_a_restart(chain: PegChain, peg: Peg) -> None:
    one = chain.deposit()
    peg.announced.add(one.binding, chain.peg)
    sweep = chain.draft(one)
    chain.bitcoin.mine([sweep])
    chain.show(sweep)
    assert AnnouncedDeposits(chain.store).bindings == (one.binding,)
    assert EvidencePool(chain.params, chain.store, chain.bitcoin).items == peg.evidence.items
    assert one.outpoint == Outpoint(sweep.inputs[0].txid, 0)


def test_traces_follow_a_block_that_moves_the_peg(chain: PegChain, call: Call) -> None:
    chain.fund()
    transaction = chain.send("withdraw", WITNESS_SCRIPT, 0, value=50_000 * 10**10)
    chain.bury(1)
    chain.extend()
    trace = call("debug_traceTransaction", "0x" + transaction.hex(), {"tracer": "callTracer"})
    assert "error" not in trace
    assert int(trace["gasUsed"], 16) > 50_000
