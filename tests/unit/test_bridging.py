import io
import json
import stat
from dataclasses import replace

import pytest
from btclib import b32, b58
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.deposits import CHARGE_FLAG, Outpoint
from bridge.params import MAIN, REGTEST, SIGNET
from bridge.peg import make_genesis
from bridge.peg_codec import encode_state
from bridge.peg_state import Freeze, Reason, Sweep, SweepStatus, VaultCoin, VaultRecord
from bridge.rules import MAIN_RULES, SATS_PER_BTC, WEI_PER_SAT
from bridge.scripts import Binding, address_of, deposit_output
from bridge.shortage import gift_address
from bridge.taproot import check_signature, compute_sighashes, vsize_of
from bridge.transactions import MAX_SATS, Input, Output, Transaction
from hyperdust.bitcoind import Unreachable
from hyperdust.bridging import addresses, deposit, errors, keeping, withdraw
from hyperdust.bridging.access import BitcoinOptions, config_link, devnet_options, leave_link, open_bitcoin
from hyperdust.bridging.auditing import show_audit
from hyperdust.bridging.following import Sources, stand_deposit, stand_withdrawal
from hyperdust.bridging.gift import Gift
from hyperdust.bridging.reclaim import Coin, build_reclaim, send_reclaim
from hyperdust.bridging.standing import audit
from hyperdust.bridging.terms import Terms, load_params
from hyperdust.cli.app import run
from hyperdust.contracts_abi import encode_call
from hyperdust.rpc_client import RpcError
from tests.unit.bridge.keys import make_custody

PACE_S = 5
TO = bytes.fromhex("70997970C51812dc3A010C7d01b50e0d17dc79C8")
CHAIN = 48_000_007
CUSTODY = make_custody()
PAID_TO = b32.address_from_witness(0, bytes(20), "regtest")


def make_terms(state=None, *, height=500, frozen=None):
    return Terms(CHAIN, REGTEST, MAIN_RULES, state or make_genesis(CUSTODY, 0), height, height - 6, frozen)


def make_kept(folder, sats=500_000, user_key=None, max_fee=5_000):
    return deposit.prepare(make_terms(), sats, TO, max_fee, user_key, folder)[0]


class Node:
    """Answers calls from a table; functions get the parameters."""

    url = "http://node.test"

    def __init__(self, **answers):
        self.answers, self.asked = answers, []

    def call(self, method, *params):
        self.asked.append((method, *params))
        found = self.answers[method]
        return found(*params) if callable(found) else found


UNSWEPT = Node(hyperdust_getDeposit=None)


# --- addresses and amounts


def test_the_address_is_the_one_of_the_peg_s_scripts(tmp_path):
    kept, path = deposit.prepare(make_terms(), 500_000, TO, 7_000, None, tmp_path)
    binding = Binding(kept.binding.user_key, TO, 7_000, 0)
    output = deposit_output(CUSTODY, binding, MAIN_RULES)
    assert kept.binding == binding
    assert kept.bitcoin_address == address_of(output, REGTEST)
    assert (kept.script, kept.reclaim) == (output.script, output.fallback)
    assert path.name == f"deposit-{kept.bitcoin_address}.json"


@pytest.mark.parametrize("network", [MAIN, REGTEST, SIGNET], ids=lambda one: one.name)
def test_the_five_kinds_are_paid(network):
    base58, bech32 = addresses._WRITTEN_AS[network.name]
    twenty, many = bytes(range(20)), bytes(range(32))
    wanted = {
        b58.address_from_h160("p2pkh", twenty, base58): b"\x76\xa9\x14" + twenty + b"\x88\xac",
        b58.address_from_h160("p2sh", twenty, base58): b"\xa9\x14" + twenty + b"\x87",
        b32.address_from_witness(0, twenty, bech32): b"\x00\x14" + twenty,
        b32.address_from_witness(0, many, bech32): b"\x00\x20" + many,
        b32.address_from_witness(1, many, bech32): b"\x51\x20" + many,
    }
    for address, script in wanted.items():
        assert addresses.script_of(address, network) == script
        assert addresses.address_of_script(script, network) == address


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "main network, and this chain lies on regtest"),
        ("1BoatSLRHtKNngkdXEeobR76b53LETtpyT", "main network"),
        ("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt081", "no Bitcoin address"),
        ("0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "no Bitcoin address"),
        ("", "no Bitcoin address"),
        (b32.address_from_witness(2, bytes(32), "regtest"), "witness version 2"),
        (b32.address_from_witness(1, b"\x4e\x73", "regtest"), "P2A"),
    ],
)
def test_other_addresses_are_refused_by_name(address, cause):
    with pytest.raises(errors.AddressRefused, match=cause):
        addresses.script_of(address, REGTEST)


@given(st.integers(1, MAX_SATS))
def test_amounts_are_exact(sats):
    text = f"{sats // SATS_PER_BTC}.{sats % SATS_PER_BTC:08d}"
    assert addresses.parse_sats(text) == sats
    assert addresses.show_sats(sats) == f"{text} BTC"
    amount = addresses.payment_link("bcrt1q", sats).partition("amount=")[2]
    assert addresses.parse_sats(amount) == sats
    assert "." not in amount or not amount.endswith(("0", "."))


@given(st.integers(1, WEI_PER_SAT - 1), st.integers(0, 100))
def test_what_is_finer_than_a_satoshi_is_refused(wei, btc):
    with pytest.raises(errors.AmountRefused, match="8 decimals"):
        addresses.parse_sats(f"{btc}.{wei:018d}")


@pytest.mark.parametrize("text", ["0", "-1", "x", "nan", "inf", "1e30000000", ""])
def test_no_amounts(text):
    with pytest.raises(errors.AmountRefused):
        addresses.parse_sats(text)


@given(st.integers(0, MAX_SATS))
def test_the_fee_that_nobody_named_never_eats_the_deposit(sats):
    assert 2_000 <= deposit.choose_fee(sats) <= max(2_000, sats // 10)


def test_the_code_says_the_link():
    drawn = addresses.draw_code("bitcoin:bcrt1qw508?amount=0.1")
    lines = drawn.replace("\x1b[97;40m", "").replace("\x1b[0m", "").splitlines()
    assert {len(line) for line in lines} == {29 + 8}  # version 3, its border
    assert set("".join(lines)) == set("█▀▄ ")


# --- deposits


@pytest.mark.parametrize(
    ("sats", "max_fee", "cause"),
    [
        (9_999, 100, "least"),
        (0, 0, "least"),
        (MAX_SATS + 1, 1, "cannot be"),
        (10_000, 10_000, "leaves nothing"),
        (10_000, 99, "nobody would sweep"),
    ],
)
def test_deposits_out_of_bounds(tmp_path, sats, max_fee, cause):
    with pytest.raises(errors.AmountRefused, match=cause):
        deposit.prepare(make_terms(), sats, TO, max_fee, None, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_frozen_peg_takes_nothing(tmp_path):
    state = replace(make_genesis(CUSTODY, 0), frozen=Freeze(Reason.UNKNOWN_SPEND, bytes(32), bytes(32), 9))
    for terms in (make_terms(state), make_terms(frozen="reorganised")):
        with pytest.raises(errors.NotStanding, match="frozen"):
            deposit.prepare(terms, 500_000, TO, None, None, tmp_path)
        with pytest.raises(errors.NotStanding, match="frozen"):
            withdraw.plan_withdrawal(terms, 500_000, PAID_TO, None)


def test_the_file_is_private_and_says_all(tmp_path):
    folder = tmp_path / "bridge"
    kept, path = deposit.prepare(make_terms(), 500_000, TO, None, None, folder)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert keeping.load(path) == kept
    paid = keeping.add_outpoint(kept, Outpoint(bytes(32), 3), folder)
    assert keeping.find(folder, outpoint=Outpoint(bytes(32), 3)) == paid == keeping.load(path)
    assert keeping.find(folder, address=kept.bitcoin_address) == paid
    assert [one.name for one in folder.iterdir()] == [path.name], "no half-written file is left"
    with pytest.raises(errors.NotOurs, match="--folder"):
        keeping.find(folder, outpoint=Outpoint(bytes(32), 4))


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"version": 2}'])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "deposit-x.json"
    path.write_text(content)
    with pytest.raises(keeping.DepositFileDamaged, match="deposit-x.json"):
        list(keeping.list_kept(tmp_path))


def test_the_announcement_is_checked_against_our_own_address(tmp_path):
    kept = make_kept(tmp_path)
    node = Node(hyperdust_announceDeposit={"bitcoinAddress": kept.bitcoin_address})
    deposit.announce(node, kept)
    ((_, said),) = node.asked
    assert said == {
        "userKey": "0x" + kept.binding.user_key.hex(),
        "address": "0x" + TO.hex(),
        "maxFee": 5_000,
        "epoch": 0,
    }
    with pytest.raises(errors.AddressDiffers, match="do not pay"):
        deposit.announce(Node(hyperdust_announceDeposit={"bitcoinAddress": PAID_TO}), kept)


def test_a_key_of_the_user_s_own_leaves_no_secret(tmp_path):
    secret, key = keeping.make_secret()
    kept, path = deposit.prepare(make_terms(), 500_000, TO, None, addresses.parse_user_key(key.hex()), tmp_path)
    assert (kept.secret, json.loads(path.read_text())["secret_key"]) == (None, None)
    coin = Coin(Outpoint(bytes(32), 0), Output(500_000, kept.script), 2_000)
    with pytest.raises(errors.NotReclaimable, match="--secret-file"):
        build_reclaim(kept, coin, PAID_TO, 2_000)
    with pytest.raises(errors.NotOurs, match="not the one"):
        build_reclaim(kept, coin, PAID_TO, 2_000, secret=5)
    assert build_reclaim(kept, coin, PAID_TO, 2_000, secret=secret).waits == 0
    for bad in ("00" * 32, "xy", key.hex()[:-2], "ff" * 32):
        with pytest.raises(errors.KeyRefused):
            addresses.parse_user_key(bad)


# --- reclaim


@settings(max_examples=30)
@given(sats=st.integers(10_000, MAX_SATS), rate=st.integers(1_000, 20_000), confirmations=st.integers(0, 3_000))
def test_the_reclaim_is_signed_by_the_user_alone(tmp_path_factory, sats, rate, confirmations):
    kept = make_kept(tmp_path_factory.mktemp("reclaim"), sats=sats)
    coin = Coin(Outpoint(bytes(range(32)), 2), Output(sats, kept.script), confirmations)
    made = build_reclaim(kept, coin, PAID_TO, rate)
    (place,), (paid,) = made.transaction.inputs, made.transaction.outputs
    assert (place.txid, place.index, place.sequence) == (coin.outpoint.txid, 2, MAIN_RULES.reclaim_blocks)
    assert made.transaction.version == 2, "BIP-68 holds from version 2 on"
    assert paid == Output(made.sats, addresses.script_of(PAID_TO, REGTEST))
    assert made.sats + made.fee == sats
    assert made.fee == -(-rate * vsize_of(made.transaction) // 1_000)
    (message,) = compute_sighashes(made.transaction, (coin.output,), (kept.reclaim,))
    check_signature(kept.binding.user_key, message, place.witness[0])
    assert place.witness[1:] == (kept.reclaim.script, kept.reclaim.control)
    assert made.waits == max(0, MAIN_RULES.reclaim_blocks - confirmations)
    assert Transaction.decode(made.raw) == made.transaction


def test_what_cannot_be_reclaimed(tmp_path):
    kept = make_kept(tmp_path)
    coin = Coin(Outpoint(bytes(32), 0), Output(500_000, kept.script), 1_007)
    with pytest.raises(errors.NotOurs, match="does not pay"):
        build_reclaim(kept, replace(coin, output=Output(500_000, b"\x51\x20" + bytes(32))), PAID_TO, 2_000)
    with pytest.raises(errors.AmountRefused, match="--fee-rate"):
        build_reclaim(kept, replace(coin, output=Output(10_000, kept.script)), PAID_TO, 100_000)
    with pytest.raises(errors.AddressRefused, match="main network"):
        build_reclaim(kept, coin, "1BoatSLRHtKNngkdXEeobR76b53LETtpyT", 2_000)
    with pytest.raises(errors.NotReclaimable, match="1 blocks from now"):
        send_reclaim(None, build_reclaim(kept, coin, PAID_TO, 2_000))


# --- withdrawals


@given(sats=st.integers(0, MAX_SATS), fee=st.integers(0, 100_000))
def test_a_withdrawal_is_planned_or_refused_with_the_least(sats, fee):
    if sats - fee < MAIN_RULES.min_payout_sats:
        with pytest.raises(errors.AmountRefused, match="least"):
            withdraw.plan_withdrawal(make_terms(), sats, PAID_TO, fee)
        return
    if fee < 9 + 22:
        with pytest.raises(errors.AmountRefused, match="for ever"):
            withdraw.plan_withdrawal(make_terms(), sats, PAID_TO, fee)
        return
    plan = withdraw.plan_withdrawal(make_terms(), sats, PAID_TO, fee)
    assert (plan.paid_sats + plan.max_fee, plan.script) == (sats, b"\x00\x14" + bytes(20))
    assert encode_call("Bridge", "withdraw", plan.script, plan.max_fee)


def test_an_account_that_holds_less_sends_nothing():
    class Poor(Node):
        def quantity(self, method, *_):
            assert method == "eth_getBalance"
            return 7 * WEI_PER_SAT

    class Account:
        address = "0x" + "11" * 20

    plan = withdraw.plan_withdrawal(make_terms(), 50_000, PAID_TO, None)
    with pytest.raises(errors.AmountRefused, match="holds 0.00000007 BTC"):
        withdraw.send_withdrawal(Poor(), Account(), plan)


# --- where things stand


def make_swept(status, *, sats=500_000, height=490):
    sweep = Sweep(Outpoint(bytes(32), 1), sats, b"", False, status, TO, sats - 400)
    record = VaultRecord(VaultCoin(b"\x01" * 32, sats - 400, height, 0), bytes(32), 400, (), (sweep,))
    return replace(make_genesis(CUSTODY, 0), records=(record,)), record, sweep


SWEPT = {
    "outpoint": "00" * 32 + ":1",
    "status": "swept",
    "amount_sats": 500_000,
    "credit_sats": 499_600,
    "fee_sats": 400,
    "address": "0x" + TO.hex(),
    "sweep": "01" * 32,
    "confirmations": 3,
    "needed": 7,
    "reason": "its sweep needs 7 confirmations",
    "expected_s": 2_400,
    "block": None,
}


def test_a_swept_deposit_is_the_node_s_to_tell():
    node = Node(hyperdust_getDeposit=SWEPT)
    found = stand_deposit(Sources(node, Mempool()), make_terms(), Outpoint(bytes(32), 1), None)
    assert node.asked == [("hyperdust_getDeposit", "00" * 32 + ":1")]
    assert (found.state, found.confirmations, found.needed, found.is_done) == ("swept", 3, 7, False)
    assert (found.sats, found.fee_sats, found.to) == (500_000, 400, "0x" + TO.hex())
    assert found.expected_s == 4 * PACE_S
    assert "3/7 confirmations" in found.summary()
    assert "7/7 confirmations" in replace(found, confirmations=9).summary()
    node.answers["hyperdust_getDeposit"] = {"status": "credited", "block": 7, "reason": None, "expected_s": 0}
    assert stand_deposit(Sources(node, None), make_terms(), Outpoint(bytes(32), 1), None).is_done


def test_a_method_that_the_node_does_not_serve_is_no_answer():
    def unknown(*_):
        raise RpcError(-32601, "the method hyperdust_getDeposit does not exist")

    found = stand_deposit(Sources(Node(hyperdust_getDeposit=unknown), None), make_terms(), Outpoint(bytes(32), 1), None)
    assert (found.state, "--bitcoin-rpc" in found.reason) == ("unpaid", True)


class Mempool:
    """A bitcoind with one coin, or with one transaction that spends it."""

    def __init__(self, coin=None, spender=None):
        self.coin, self.spender = coin, spender

    def call(self, method, *_):
        if method == "gettxout":
            return self.coin
        assert method == "gettxspendingprevout"
        return [{} if self.spender is None else {"spendingtxid": self.spender.txid[::-1].hex()}]

    def raw_transaction(self, txid):
        assert txid == self.spender.txid
        return self.spender.encode()

    def chain_info(self):
        return type("Info", (), {"height": 1})

    def block_hash(self, height):
        return bytes([height]) * 32

    def raw_block(self, _):
        return b""

    def raw_header(self, block_hash):
        return bytes(68) + (PACE_S * block_hash[0]).to_bytes(4, "little") + bytes(8)


@pytest.mark.parametrize(
    ("sats", "confirmations", "state", "cause"),
    [
        ("0.005", 0, "confirming", "6 confirmations"),
        ("0.005", 5, "confirming", "6 confirmations"),
        ("0.005", 6, "waiting", "next vault transaction"),
        ("0.005", 1_008, "waiting", "bridge reclaim"),
        ("0.00009999", 7, "waiting", "never swept"),
    ],
)
def test_a_deposit_before_its_sweep(tmp_path, sats, confirmations, state, cause):
    kept = make_kept(tmp_path)
    coin = make_coin(kept, sats, confirmations)
    found = stand_deposit(Sources(UNSWEPT, Mempool(coin)), make_terms(), Outpoint(bytes(32), 0), kept)
    assert (found.state, found.confirmations, found.needed) == (state, confirmations, 6)
    assert cause in found.reason
    assert found.fee_sats == 5_000


def make_coin(kept, sats="0.005", confirmations=6, *, coinbase=False):
    script = {"hex": kept.script.hex()}
    return {"value": sats, "confirmations": confirmations, "scriptPubKey": script, "coinbase": coinbase}


def test_a_coin_that_was_mined_is_said_to_stay(tmp_path):
    kept = make_kept(tmp_path)
    coin = make_coin(kept, coinbase=True)
    found = stand_deposit(Sources(UNSWEPT, Mempool(coin)), make_terms(), Outpoint(bytes(32), 0), kept)
    assert "such a coin is never swept" in found.reason
    assert found.expected_s is None


VAULT = VaultCoin(b"\x01" * 32, 499_600, 490, 0)


class Rounds(Mempool):
    """The coin is unspent; the vault's transaction swept others for a charge, and nothing spends its output."""

    def __init__(self, coin, charge, since=400):
        super().__init__(coin)
        self.made = Transaction(2, (Input(bytes(32), 0, b"", CHARGE_FLAG + charge),), (Output(9, b"\x51"),), 0)
        self.since = since

    def call(self, method, *params):
        return {"height": self.since} if method == "getblockheader" else super().call(method, *params)

    def raw_transaction(self, txid):
        assert txid == VAULT.txid
        return self.made.encode()


@pytest.mark.parametrize(("charge", "is_said"), [(5_000, False), (5_001, True)])
def test_a_deposit_whose_maximum_fee_is_too_low_says_so(tmp_path, charge, is_said):
    kept = make_kept(tmp_path)
    terms = make_terms(replace(make_genesis(CUSTODY, 0), base=VAULT))
    found = stand_deposit(Sources(UNSWEPT, Rounds(make_coin(kept), charge)), terms, Outpoint(bytes(32), 0), kept)
    assert ("this one at most 5000" in found.reason) is is_said


@pytest.mark.parametrize(("height", "is_said"), [(490 + 20, False), (490 + 21, True)])
def test_what_waits_while_no_vault_transaction_comes_says_so(tmp_path, height, is_said):
    kept = make_kept(tmp_path)
    terms = make_terms(replace(make_genesis(CUSTODY, 0), base=VAULT), height=height)
    coin = make_coin(kept, confirmations=50)
    found = stand_deposit(Sources(UNSWEPT, Rounds(coin, 0)), terms, Outpoint(bytes(32), 0), kept)
    assert ("fewer than 2 of 3 signers answer" in found.reason) is is_said
    node = Node(hyperdust_getWithdrawal=WITHDRAWAL, eth_getBlockByNumber={"parentBeaconBlockRoot": "0x" + "07" * 32})
    found = stand_withdrawal(Sources(node, Rounds(coin, 0)), terms, 0)
    assert ("fewer than 2 of 3 signers answer" in found.reason) is is_said
    late = stand_withdrawal(Sources(node, Rounds(coin, 0, since=height - 10)), terms, 0)
    assert "signers answer" not in late.reason, "it has not waited long"


@pytest.mark.parametrize(("sequence", "state", "fee"), [(CHARGE_FLAG + 321, "sweeping", 321), (1_008, "spent", 5_000)])
def test_a_deposit_in_the_mempool_s_hands(tmp_path, sequence, state, fee):
    kept, place = make_kept(tmp_path), Outpoint(b"\x07" * 32, 4)
    spender = Transaction(2, (Input(place.txid, 4, b"", sequence),), (Output(9, b"\x51"),), 0)
    found = stand_deposit(Sources(UNSWEPT, Mempool(spender=spender)), make_terms(), place, kept)
    assert (found.state, found.fee_sats, found.txid) == (state, fee, spender.txid[::-1].hex())


def test_a_deposit_that_nobody_can_see():
    found = stand_deposit(Sources(UNSWEPT, None), make_terms(), Outpoint(bytes(32), 0), None)
    assert (found.state, "--bitcoin-rpc" in found.reason) == ("unpaid", True)
    gone = stand_deposit(Sources(UNSWEPT, Mempool()), make_terms(), Outpoint(bytes(32), 0), None)
    assert (gone.state, "is the txid right" in gone.reason) == ("unpaid", True)


WITHDRAWAL = {
    "id": 0,
    "status": "queued",
    "script": "0x0014" + "00" * 20,
    "sats": 40_000,
    "fee_sats": 3_000,
    "txid": None,
    "confirmations": 0,
    "needed": 7,
    "reason": "the vault holds 0 sats",
    "expected_s": 7_200,
    "changed_at": 9,
}


@pytest.mark.parametrize("status", ["queued", "given up", "paying", "paid", "refunded"])
def test_a_withdrawal(status):
    done = status in {"paid", "refunded"}
    answer = WITHDRAWAL | {"status": status} | ({"reason": None, "expected_s": 0} if done else {})
    found = stand_withdrawal(Sources(Node(hyperdust_getWithdrawal=answer), Mempool()), make_terms(), 0)
    assert (found.state, found.sats, found.fee_sats, found.is_done) == (status, 40_000, 3_000, done)
    assert found.expected_s == (0 if done else 12 * PACE_S)
    assert (found.to, found.as_json()["id"]) == (PAID_TO, 0)
    assert "about" not in found.summary() or not done


def test_a_payout_in_the_mempool_is_seen():
    state = replace(make_genesis(CUSTODY, 0), base=VAULT)
    outputs = (Output(1, b"\x51\x20" + bytes(32)), Output(40_000, b"\x00\x14" + bytes(20)))
    payout = Transaction(2, (Input(b"\x01" * 32, 0, b"", CHARGE_FLAG),), outputs, 0)
    sources = Sources(Node(hyperdust_getWithdrawal=WITHDRAWAL), Mempool(spender=payout))
    found = stand_withdrawal(sources, make_terms(state), 0)
    assert (found.state, found.confirmations, found.needed) == ("paying", 0, 7)
    assert found.txid == payout.txid[::-1].hex()


def test_no_such_withdrawal():
    with pytest.raises(errors.BridgeRefused, match="number 9"):
        stand_withdrawal(Sources(Node(hyperdust_getWithdrawal=None), None), make_terms(), 9)


def make_swept_state():
    sweep = Sweep(Outpoint(bytes(32), 1), 500_000, b"", False, SweepStatus.CLAIMED, TO, 499_600)
    record = VaultRecord(VaultCoin(b"\x01" * 32, 499_600, 490, 0), bytes(32), 400, (), (sweep,))
    return replace(make_genesis(CUSTODY, 0), records=(record,))


def test_the_audit_says_what_is_covered():
    good = audit(make_terms(make_swept_state()), seen_on_bitcoin=True, unswept_sats=5)
    assert good.ok
    shown = good.as_json()
    assert {"vault_sats", "unswept_sats", "supply_sats", "ok"} <= set(shown)
    assert (shown["vault_sats"], shown["uncredited_sats"], shown["supply_sats"]) == (499_600, 499_600, 0)
    assert not audit(make_terms(frozen="x"), seen_on_bitcoin=None, unswept_sats=0).ok
    assert (shown["missing_sats"], shown["gift_address"][:6]) == (0, "bcrt1p")
    assert not audit(make_terms(), seen_on_bitcoin=False, unswept_sats=0).ok
    development = make_terms(make_genesis(CUSTODY, 10**18))
    assert audit(development, seen_on_bitcoin=None, unswept_sats=0).as_json()["supply_sats"] == 0


def make_frozen(reason, missing):
    state = replace(make_swept_state(), frozen=Freeze(reason, bytes(32), bytes(32), 9))
    return replace(make_terms(state), missing_sats=missing)


def test_the_audit_says_what_is_missing_and_where_anybody_may_pay_it():
    short = make_frozen(Reason.REORGANISED, 1_234_567)
    found = audit(short, seen_on_bitcoin=None, unswept_sats=0)
    address = gift_address(short.state, short.rules, REGTEST)
    assert (found.missing_sats, found.gift_address, found.ok) == (1_234_567, address, False)
    assert "missing    0.01234567 BTC" in show_audit(found)
    assert address in show_audit(found)
    calm = audit(make_frozen(Reason.REORGANISED, 0), seen_on_bitcoin=None, unswept_sats=0)
    assert "missing" not in show_audit(calm)
    unknown = audit(make_frozen(Reason.OVERDRAWN, None), seen_on_bitcoin=None, unswept_sats=0)
    assert "the signers' alarms say more" in show_audit(unknown)
    stolen = audit(make_frozen(Reason.UNKNOWN_SPEND, None), seen_on_bitcoin=None, unswept_sats=0)
    assert stolen.gift_address is None
    assert "missing" not in show_audit(stolen)


def test_a_gift_is_what_is_missing_unless_said():
    short = make_frozen(Reason.REORGANISED, 70_000)
    made = Gift.of(short, None)
    assert (made.sats, made.missing_sats) == (70_000, 70_000)
    assert f"bitcoin:{made.address}?amount=0.0007&label=Hyperdust" in made.show()
    assert Gift.of(short, 5_000).sats == 5_000
    ordinary = Gift.of(make_terms(), None)
    assert (ordinary.sats, ordinary.link) == (0, f"bitcoin:{ordinary.address}")
    assert "becomes surplus" in ordinary.show()
    with pytest.raises(errors.NotStanding, match="do not pay"):
        Gift.of(make_frozen(Reason.UNKNOWN_SPEND, None), 5_000)


# --- the commands


def test_what_cannot_be_given_up_says_why():
    class Refusing(Node):
        def send_transaction(self, *_):
            raise RpcError(3, "execution reverted: Bridge: not waiting")

    class Account:
        address = "0x" + "11" * 20

    with pytest.raises(errors.BridgeRefused, match="withdrawal 3 cannot be given up .*: not waiting; .*status 3"):
        withdraw.give_up(Refusing(), Account(), 3)


class Asked:
    """In the place of the client: a whole node, as far as bridge commands ask it."""

    def __init__(self, monkeypatch, **answers):
        params = load_params(48_000_000)
        state = make_genesis(CUSTODY, 0)
        if params.peg is not None:
            from consensus.peg_terms import encode_genesis_peg

            encoded = encode_genesis_peg(params)
        else:
            encoded = encode_state(state)
        status = {"bitcoin": {"height": 500}, "origin": None, "frozen": False, "frozen_reason": None}
        self.answers = {
            "eth_chainId": hex(CHAIN),
            "hyperdust_pegStatus": status,
            "hyperdust_getPegState": {"state": "0x" + encoded.hex(), "height": 4, "hash": "0x"},
        } | answers
        monkeypatch.setattr("hyperdust.rpc_client.RpcClient.call", lambda _, method, *__: self.answers[method])


@pytest.mark.parametrize(
    "arguments",
    [
        ["deposit", "--btc", "1", "--to", "0x" + TO.hex()],
        ["withdraw", "--btc", "1", "--to", PAID_TO],
        ["status", "0"],
        ["list"],
        ["audit"],
        ["reclaim", "00" * 32 + ":0", "--to", PAID_TO],
        ["give-up", "0"],
        ["gift"],
    ],
    ids=lambda one: one[0],
)
@pytest.mark.parametrize("missing", ["hyperdust_pegStatus", "hyperdust_getPegState"])
def test_without_bitcoin_every_command_exits_3_and_says_why(monkeypatch, tmp_path, capsys, arguments, missing):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    Asked(monkeypatch, **{missing: None})
    assert run(["bridge", *arguments, "--json"]) == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "--no-bitcoin" in shown.err
    assert not list(tmp_path.rglob("deposit-*"))


def test_another_first_set_of_signers_is_refused(monkeypatch, capsys):
    stranger = make_genesis(make_custody(epoch=0, count=5, threshold=3), 0)
    answer = {"state": "0x" + encode_state(stranger).hex(), "height": 0, "hash": "0x"}
    Asked(monkeypatch, hyperdust_getPegState=answer)
    assert run(["bridge", "audit"]) == 1
    assert "other first signers" in capsys.readouterr().err


def test_deposit_shows_address_link_and_file(monkeypatch, tmp_path, capsys):
    Asked(monkeypatch)
    made = {}
    monkeypatch.setattr("hyperdust.bridging.deposit.announce", lambda _, kept: made.setdefault("kept", kept))
    command = ["bridge", "deposit", "--btc", "0.01", "--to", "0x" + TO.hex(), "--no-pay", "--folder", str(tmp_path)]
    assert run([*command, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    address = made["kept"].bitcoin_address
    assert (answer["address"], answer["id"], answer["outpoint"]) == (address, address, None)
    assert answer["uri"] == f"bitcoin:{address}?amount=0.01&label=Hyperdust"
    assert keeping.load(tmp_path / f"deposit-{address}.json") == made["kept"]
    assert run(command) == 0
    shown = capsys.readouterr().out
    assert "Pay 0.01000000 BTC to bcrt1p" in shown
    assert "Keep that file" in shown
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdout", terminal)
    assert run(command) == 0
    assert "█" in terminal.getvalue()


def test_a_devnet_on_this_machine_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    config = tmp_path / "bitcoin.conf"
    config.write_text("regtest=1\nrpcuser=u\nrpcpassword=p=w\n[regtest]\nrpcport=8555\n")
    assert devnet_options("http://127.0.0.1:8545") is None
    for _ in range(2):
        leave_link(8555, config)
    found = devnet_options("http://127.0.0.1:8545")
    assert (found.rpc, found.user, found.password) == ("http://127.0.0.1:8555", "u", "p=w")
    assert devnet_options("http://10.0.0.1:8545") is None
    assert devnet_options("http://127.0.0.1") is None
    found_by_itself = open_bitcoin(BitcoinOptions(), REGTEST, CHAIN, "http://127.0.0.1:8545")
    assert found_by_itself is None, "nobody answers there, and nobody was named"
    with pytest.raises(Unreachable):
        open_bitcoin(BitcoinOptions("http://127.0.0.1:1", "u"), REGTEST, CHAIN, "http://127.0.0.1:8545")
    with pytest.raises(errors.NotStanding, match="--bitcoin-cookie"):
        open_bitcoin(BitcoinOptions("http://127.0.0.1:1"), REGTEST, CHAIN, "http://127.0.0.1:8545")
    config.unlink()
    assert devnet_options("http://127.0.0.1:8545") is None, "a devnet that is gone"
    assert config_link(8555).is_symlink()
