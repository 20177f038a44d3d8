"""hyperdust custody: what is shown, proposed, signed and handed in, and what is refused before anything is sent."""

import json
from dataclasses import replace

import pytest

from bridge.custody import Announcement, announce_custody, apply_announcement
from bridge.deposits import Outpoint
from bridge.peg import burn, make_genesis
from bridge.peg_codec import encode_state
from bridge.peg_state import Freeze, Reason, VaultCoin
from bridge.rescue import build_rescue
from bridge.rules import WEI_PER_SAT
from bridge.scripts import Custody, SignerSet
from consensus.evidence import decode_evidence_item
from consensus.peg_terms import rules_of
from hyperdust.bridging.papers import load_rescue, public_key
from hyperdust.bridging.terms import load_params
from hyperdust.cli.app import run
from hyperdust.signer.musig import aggregate_key
from hyperdust.wallet import council_key, new_keystore, signer_key

CHAIN = 48_000_007
HEIGHT, VAULT_HEIGHT = 1_500, 200
KEYS = tuple(public_key(signer_key(at)) for at in range(8))
SIGNERS = SignerSet(2, tuple(sorted(KEYS[:3])))
COUNCIL = SignerSet(2, tuple(sorted(public_key(council_key(at)) for at in range(3))))
NEW = KEYS[5].hex()
RULES = replace(rules_of(load_params(CHAIN)), chain_id=CHAIN)


def make_state(**fields):
    state = burn(make_genesis(Custody(0, SIGNERS, COUNCIL), 10**18), 20_000 * WEI_PER_SAT)
    return replace(state, base=VaultCoin(b"\x01" * 32, 1_000_000, VAULT_HEIGHT, 0), **fields)


class Node:
    """In the place of the client: answers from a table, and keeps what is handed in."""

    def __init__(self, monkeypatch, state, **answers):
        self.state, self.handed_in = state, []
        self.answers = {
            "eth_chainId": hex(CHAIN),
            "hyperdust_pegStatus": {
                "bitcoin": {"height": HEIGHT},
                "origin": {"height": HEIGHT - 6},
                "frozen": False,
                "frozen_reason": None,
            },
        } | answers
        monkeypatch.setattr("hyperdust.rpc_client.RpcClient.call", lambda _, method, *words: self.call(method, *words))

    def call(self, method, *words):
        if method in self.answers:
            return self.answers[method]
        if method == "hyperdust_submitEvidence":
            self.handed_in.append(bytes.fromhex(words[0][2:]))
            return "0x" + "ab" * 32
        assert method == "hyperdust_getPegState"
        return {"state": "0x" + encode_state(self.state).hex(), "height": 4, "hash": "0x"}


@pytest.fixture
def node(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))  # no devnet of this machine is found
    return Node(monkeypatch, make_state())


@pytest.fixture
def ask(capsys):
    def ask(*words):
        code = run(["custody", *words, "--json"])
        shown = capsys.readouterr()
        assert code == 0, shown.err
        return json.loads(shown.out)

    return ask


@pytest.fixture
def refused(capsys):
    def refused(*words):
        assert run(["custody", *words]) == 1
        shown = capsys.readouterr()
        assert shown.out == ""
        return shown.err

    return refused


def key_of(account):
    return "--key", "0x" + bytes(account.key).hex()


def sign_by(ask, path, *accounts):
    for account in accounts:
        found = ask("sign", path, *key_of(account))
    return found


# --- shown


def test_who_holds_the_vault_and_which_clocks_run(node, ask, capsys):
    shown = ask("show")
    assert (shown["present"]["epoch"], shown["announced"], shown["named_by_council"]) == (0, None, [])
    assert shown["present"]["signers"]["keys"] == ["0x" + key.hex() for key in SIGNERS.keys]
    assert shown["emergency"] == {"height": VAULT_HEIGHT + 1_000, "blocks": 0}
    assert shown["refresh"] == {"height": VAULT_HEIGHT + 500, "blocks": 0}
    following = SignerSet(2, tuple(sorted(KEYS[1:4])), aggregate_key(tuple(sorted(KEYS[1:4]))))
    node.state = announce_custody(node.state, Custody(1, following, COUNCIL), HEIGHT, RULES)
    node.state = announce_custody(node.state, Custody(2, SIGNERS, COUNCIL), HEIGHT, RULES)
    node.state = announce_custody(node.state, Custody(3, following, COUNCIL), HEIGHT, RULES, by_council=True)
    shown = ask("show")
    assert (shown["announced"]["epoch"], shown["replaced"], shown["takeover_due"]) == (2, [1], False)
    assert shown["announced"]["may_hold"] == {"height": HEIGHT + 30, "blocks": 30}
    assert shown["announced"]["handed_over"]["blocks"] == 42
    assert [one["epoch"] for one in shown["named_by_council"]] == [3]
    node.state = replace(node.state, frozen=Freeze(Reason.REORGANISED, bytes(32), bytes(32), 1))
    assert run(["custody", "show"]) == 0
    text = capsys.readouterr().out
    for line in ("epoch 0, 2 of 3 signers", "handed over in 42", "replaced   epochs 1", "named epoch 3", "frozen"):
        assert line in text
    node.state = make_genesis(Custody(0, SIGNERS, COUNCIL), 0)
    assert ask("show")["vault"] is None


def test_the_public_key_of_a_keystore_needs_no_node(monkeypatch, tmp_path, ask, refused):
    _, path = new_keystore("long enough", tmp_path / "signer.json")
    monkeypatch.setenv("HYPERDUST_PASSWORD", "long enough")
    assert len(ask("key", "--keystore", str(path))["key"]) == 66
    assert "no node answers" in refused("key", "--rpc", "http://127.0.0.1:1", "--key", "0x" + "11" * 32)
    assert "give --keystore FILE" in refused("key", "--rpc", "http://127.0.0.1:1")


# --- proposed


@pytest.mark.parametrize(
    ("words", "keys", "threshold"),
    [
        (("--replace", f"{KEYS[0].hex()[:8]}={NEW}"), (KEYS[1], KEYS[2], KEYS[5]), 2),
        (("--add", "0x" + NEW, "--threshold", "3"), (*KEYS[:3], KEYS[5]), 3),
        (("--remove", KEYS[2].hex(), "--threshold", "1"), KEYS[:2], 1),
        (("--threshold", "3"), KEYS[:3], 3),
    ],
)
def test_what_is_proposed(node, ask, words, keys, threshold):
    made = ask("propose", "change.json", *words)
    expected = tuple(sorted(keys))
    assert made["signers"]["keys"] == ["0x" + key.hex() for key in expected]
    assert made["signers"]["threshold"] == threshold
    shared = None if expected == SIGNERS.keys else "0x" + aggregate_key(expected).hex()
    assert made["signers"]["group_key"] == shared
    assert (made["epoch"], made["valid_until"], made["by"]) == (1, HEIGHT + 1_008, "signers")
    assert ask("propose", "bare.json", *words, "--no-group-key")["signers"]["group_key"] is None
    given = ask("propose", "given.json", *words, "--group-key", KEYS[7].hex())["signers"]["group_key"]
    assert given == "0x" + KEYS[7].hex()


def test_a_council_key_changes_and_what_was_announced_is_taken_back(node, ask):
    gone, new = COUNCIL.keys[1], KEYS[6]
    made = ask("propose", "council.json", "--council-replace", f"{gone.hex()}={new.hex()}")
    assert "0x" + new.hex() in made["council"]["keys"]
    assert made["signers"]["keys"] == ["0x" + key.hex() for key in SIGNERS.keys]
    raised = ask("propose", "raised.json", "--council-threshold", "3")
    assert raised["council"]["threshold"] == 3
    following = replace(SIGNERS, threshold=3)
    node.state = announce_custody(node.state, Custody(1, following, COUNCIL), HEIGHT, RULES)
    back = ask("propose", "back.json", "--take-back")
    assert (back["epoch"], back["signers"]["threshold"]) == (2, 2)


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ((), "nothing is to change"),
        (("--replace", NEW), "OLD=NEW"),
        (("--replace", f"{KEYS[0].hex()[:7]}={NEW}"), "names none"),
        (("--replace", f"{KEYS[4].hex()}={NEW}"), "names none"),
        (("--replace", f"{KEYS[0].hex()}={KEYS[1].hex()}"), "stands in the set already"),
        (("--add", "ff" * 32), "no public key"),
        (("--add", "xyz"), "no public key"),
        (("--remove", KEYS[0].hex(), "--add", NEW, "--threshold", "9"), "SignerSetInvalid"),
        (("--take-back",), "RotationRefused"),
        (("--council-threshold", "1", "--council-replace", f"{KEYS[0].hex()}={NEW}"), "names none"),
        (("--by-council",), "--signers"),
        (("--signers", NEW), "--by-council"),
        (("--add", NEW, "--group-key", NEW, "--no-group-key"), "do not go together"),
    ],
)
def test_what_cannot_be_proposed(node, refused, tmp_path, words, cause):
    assert cause in refused("propose", "change.json", *words)
    assert not (tmp_path / "change.json").exists()


def test_a_file_that_is_there_is_never_replaced(node, ask, refused, tmp_path):
    ask("propose", "change.json", "--add", NEW)
    before = (tmp_path / "change.json").read_text()
    assert "there already" in refused("propose", "change.json", "--remove", KEYS[0].hex())
    assert (tmp_path / "change.json").read_text() == before


# --- signed and handed in


def test_two_sign_and_the_chain_would_take_it(node, ask, refused, capsys):
    ask("propose", "change.json", "--replace", f"{KEYS[0].hex()}={NEW}")
    assert "0 of 2" in refused("submit", "change.json")
    assert run(["custody", "sign", "change.json", *key_of(signer_key(1))]) == 0
    shown = capsys.readouterr()
    assert f"out  {KEYS[0].hex()}" in shown.err
    assert f"in   {NEW}" in shown.err
    assert "1 of 2 signatures" in shown.out
    sign_by(ask, "change.json", signer_key(1))
    assert "1 of 2" in refused("submit", "change.json"), "the same one again is no second"
    sign_by(ask, "change.json", signer_key(0))
    answer = ask("submit", "change.json")
    (item,) = node.handed_in
    announcement = decode_evidence_item(item, RULES)
    assert isinstance(announcement, Announcement)
    assert answer["epoch"] == announcement.epoch == 1
    after = apply_announcement(node.state, announcement, HEIGHT - 6, RULES)
    assert after.announced[0].signers.keys == tuple(sorted((KEYS[1], KEYS[2], KEYS[5])))
    node.state = after
    assert "epoch" in refused("submit", "change.json")
    assert "epoch" in refused("sign", "change.json", *key_of(signer_key(2)))


def test_three_signatures_are_as_good_as_two(node, ask):
    ask("propose", "change.json", "--add", NEW)
    assert len(sign_by(ask, "change.json", *map(signer_key, range(3)))["signatures"]) == 3
    ask("submit", "change.json")
    assert len(decode_evidence_item(node.handed_in[0], RULES).signatures) == 2


def test_who_may_not_sign(node, ask, refused, tmp_path):
    ask("propose", "change.json", "--add", NEW)
    assert "none of those who decide" in refused("sign", "change.json", *key_of(signer_key(5)))
    assert "none of those who decide" in refused("sign", "change.json", *key_of(council_key(0)))
    assert "--keystore" in refused("sign", "change.json")
    assert not json.loads((tmp_path / "change.json").read_text())["signatures"]


def change_file(path, **fields):
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(raw | fields))


def test_a_file_that_was_changed_on_its_way(node, ask, refused, tmp_path):
    path = tmp_path / "change.json"
    ask("propose", "change.json", "--add", NEW)
    sign_by(ask, "change.json", signer_key(0))
    good = path.read_text()
    change_file(path, valid_until=HEIGHT + 2_000)
    assert "changed after that" in refused("sign", "change.json", *key_of(signer_key(1)))
    path.write_text(good)
    signatures = json.loads(good)["signatures"]
    change_file(path, signatures=signatures | {"0x" + KEYS[1].hex(): next(iter(signatures.values()))})
    assert "does not fit" in refused("submit", "change.json")
    path.write_text(good)
    change_file(path, chain_id=CHAIN + 1)
    assert f"for chain {CHAIN + 1}" in refused("submit", "change.json")
    path.write_text(good)
    change_file(path, valid_until=HEIGHT - 10)
    assert "AnnouncementExpired" in refused("submit", "change.json")


NOBODY = {"threshold": 1, "keys": []}
EMPTY = {
    "version": 1,
    "kind": "announcement",
    "chain_id": CHAIN,
    "by": "signers",
    "epoch": 1,
    "valid_until": 1,
    "signers": NOBODY,
    "council": NOBODY,
    "signatures": {},
}
DAMAGED = {
    "nothing": "",
    "a list": "[]",
    "no kind": "{}",
    "nested": "[" * 5_000,
    "large": " " * 70_000,
    "another kind": json.dumps(EMPTY | {"kind": "other"}),
    "no fields": '{"version": 1, "kind": "announcement"}',
    "by somebody": json.dumps(EMPTY | {"by": "us"}),
    "a negative chain": json.dumps(EMPTY | {"chain_id": -1}),
    "a huge epoch": json.dumps(EMPTY | {"epoch": 1e30}),
    "a huge threshold": json.dumps(EMPTY | {"signers": {"threshold": 999, "keys": []}}),
    "a short key": json.dumps(EMPTY | {"signers": {"threshold": 1, "keys": ["00"]}}),
    "no set": json.dumps(EMPTY | {"council": 5}),
    "no signatures": json.dumps(EMPTY | {"signatures": []}),
    "no hex": json.dumps(EMPTY | {"signatures": {"x": "y"}}),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_named(node, refused, tmp_path, content):
    (tmp_path / "change.json").write_text(content)
    for command in ("sign", "submit"):
        assert "change.json" in refused(command, "change.json", *(key_of(signer_key(0)) if command == "sign" else ()))
    assert "change.json" in refused("emergency", "change.json", *key_of(council_key(0)))
    assert "missing.json" in refused("submit", "missing.json")


# --- the council


def named(state):
    three = SignerSet(2, tuple(sorted(KEYS[5:8])))
    return announce_custody(state, Custody(len(state.custodies), three, COUNCIL), HEIGHT, RULES, by_council=True)


def test_the_council_names_and_spends(node, ask, refused):
    keys = ",".join(key.hex() for key in KEYS[5:8])
    ask("propose", "named.json", "--by-council", "--signers", keys, "--threshold", "2")
    assert "none of those" in refused("sign", "named.json", *key_of(signer_key(0)))
    sign_by(ask, "named.json", council_key(0), council_key(2))
    ask("submit", "named.json")
    announcement = decode_evidence_item(node.handed_in[0], RULES)
    node.state = apply_announcement(node.state, announcement, HEIGHT - 6, RULES)
    assert "bitcoind estimates" in refused("emergency", "spend.json", "--build")
    assert "one at a time" in refused("emergency", "spend.json", "--build", "--send")
    built = ask("emergency", "spend.json", "--build", "--fee-rate", "2")
    rescue = build_rescue(node.state, 2_000, RULES)
    assert built["txid"] == rescue.transaction.txid[::-1].hex()
    assert rescue.transaction.inputs[0].sequence == RULES.emergency_blocks
    assert Outpoint(rescue.transaction.inputs[0].txid, 0) == Outpoint(b"\x01" * 32, 0)
    assert "none of those" in refused("emergency", "spend.json", *key_of(signer_key(0)))
    ask("emergency", "spend.json", *key_of(council_key(1)))
    assert "1 of 2" in refused("emergency", "spend.json", "--send")
    ask("emergency", "spend.json", *key_of(council_key(2)))
    assert "a bitcoind is needed" in refused("emergency", "spend.json", "--send")


def test_a_spend_of_what_is_no_longer_so_is_refused(node, ask, refused, tmp_path):
    assert "named by the council" in refused("emergency", "spend.json", "--build", "--fee-rate", "2")
    node.state = make_named()
    ask("emergency", "spend.json", "--build", "--fee-rate", "2")
    assert load_rescue(tmp_path / "spend.json").txid == build_rescue(make_named(), 2_000, RULES).transaction.txid
    node.state = replace(node.state, base=replace(node.state.base, txid=b"\x02" * 32))
    assert "named by the council" in refused("emergency", "spend.json", *key_of(council_key(0)))
    node.state = named(node.state)
    assert "build it anew" in refused("emergency", "spend.json", *key_of(council_key(0)))


def make_named():
    return named(make_state())


def test_a_fee_that_the_surplus_does_not_pay(node, refused):
    node.state = named(replace(make_state(), supply_wei=make_state().supply_wei + 20_000 * WEI_PER_SAT))
    node.state = replace(node.state, base=replace(node.state.base, sats=node.state.base.sats - node.state.surplus_sats))
    assert "SurplusTooSmall" in refused("emergency", "spend.json", "--build", "--fee-rate", "2")


# --- without Bitcoin


@pytest.mark.parametrize(
    "words",
    [("show",), ("propose", "new.json", "--add", NEW), ("submit", "change.json"), ("emergency", "x.json", "--build")],
    ids=lambda one: one[0],
)
@pytest.mark.parametrize("missing", ["hyperdust_pegStatus", "hyperdust_getPegState"])
def test_without_bitcoin_every_command_exits_3(node, ask, capsys, words, missing):
    ask("propose", "change.json", "--add", NEW)
    node.answers[missing] = None
    assert run(["custody", *words]) == 3
    assert "--no-bitcoin" in capsys.readouterr().err
