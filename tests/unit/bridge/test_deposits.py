"""Evidence of sweeps: what it proves, and each way in which it does not."""

from dataclasses import replace

import pytest

from bridge.deposits import (
    CHARGE_FLAG,
    Claim,
    Evidence,
    Outpoint,
    Spent,
    check_claim,
    check_deposits,
    check_evidence,
    read_charge,
)
from bridge.errors import AmbiguousTransaction, WrongMerkleRoot
from bridge.inclusion import Branch
from bridge.peg_errors import (
    CoinbaseDeposit,
    CoinbaseSweep,
    DepositTooSmall,
    EvidenceMalformed,
    EvidenceTooLarge,
    NoVaultTransaction,
    SweepNotOnBranch,
    SweepTooShallow,
    UnknownEpoch,
    WrongDepositScript,
)
from bridge.rules import MAIN_RULES, SATS_PER_BTC
from bridge.scripts import deposit_output, vault_output
from bridge.transactions import Input, Output, Transaction
from tests.unit.bridge.fake_bitcoin import FakeBitcoin
from tests.unit.bridge.keys import make_binding, make_custody

CUSTODY, BINDING, CHARGE = make_custody(), make_binding(max_fee=3_000), 2_000
SCRIPT = deposit_output(CUSTODY, BINDING, MAIN_RULES).script
VAULT = vault_output(CUSTODY, MAIN_RULES).script


def sweep(bitcoin, sats=50_000, script=SCRIPT, charge=CHARGE):
    """A deposit and its sweep, mined; evidence of it."""
    made = bitcoin.pay(Output(sats, script))
    bitcoin.mine([made])
    place = Input(made.txid, 0, b"", CHARGE_FLAG | charge)
    swept = Transaction(2, (place,), (Output(sats - 1_000, VAULT),), 0)
    bitcoin.mine([swept])
    return prove(bitcoin, swept, (made,))


def prove(bitcoin, swept, funding, binding=BINDING):
    block_hash, branch, _ = bitcoin.prove(swept.txid)
    claims = (Claim(Outpoint(swept.inputs[0].txid, swept.inputs[0].index), binding),)
    return Evidence(block_hash, branch, swept, is_first=True, funding=funding, claims=claims)


@pytest.fixture
def bitcoin():
    return FakeBitcoin()


def test_a_deposit_is_worth_its_amount_less_its_share(bitcoin):
    evidence = sweep(bitcoin)
    assert Evidence.decode(evidence.encode(), MAIN_RULES) == evidence
    (credit,) = check_deposits(evidence, bitcoin, bitcoin.hash_at(bitcoin.height), (CUSTODY,), MAIN_RULES)
    assert (credit.sats, credit.fee_sats, credit.address, credit.depth) == (48_000, 2_000, BINDING.address, 6)
    (capped,) = check_deposits(
        sweep(bitcoin, charge=9_000), bitcoin, bitcoin.hash_at(bitcoin.height), (CUSTODY,), MAIN_RULES
    )
    assert capped.fee_sats == BINDING.max_fee


@pytest.mark.parametrize(("btc", "depth"), [(1, 6), (10, 6), (11, 12), (100, 12), (101, 100)])
def test_large_deposits_wait_longer(btc, depth):
    assert MAIN_RULES.depth_of(btc * SATS_PER_BTC) == depth


def test_a_sweep_has_to_lie_that_deep(bitcoin):
    evidence = sweep(bitcoin, 11 * SATS_PER_BTC)
    for _ in range(5):
        bitcoin.mine([])
    with pytest.raises(SweepTooShallow, match="got 11, expected at least 12"):
        check_deposits(evidence, bitcoin, bitcoin.hash_at(bitcoin.height), (CUSTODY,), MAIN_RULES)
    bitcoin.mine([])
    assert check_deposits(evidence, bitcoin, bitcoin.hash_at(bitcoin.height), (CUSTODY,), MAIN_RULES)


def test_nothing_above_the_origin_counts(bitcoin):
    evidence = sweep(bitcoin)
    with pytest.raises(SweepNotOnBranch):
        check_evidence(evidence, bitcoin, bitcoin.hash_at(bitcoin.height - 1), MAIN_RULES)
    check_evidence(evidence, bitcoin, bitcoin.hash_at(bitcoin.height), MAIN_RULES)


def test_a_stale_or_unknown_block_counts_for_nothing(bitcoin):
    evidence = sweep(bitcoin)
    bitcoin.drop(2)
    for _ in range(4):
        bitcoin.mine([])
    with pytest.raises(SweepNotOnBranch, match="branch has"):
        check_evidence(evidence, bitcoin, bitcoin.hash_at(bitcoin.height), MAIN_RULES)
    with pytest.raises(SweepNotOnBranch, match="known one"):
        check_evidence(replace(evidence, block_hash=bytes(32)), bitcoin, bitcoin.hash_at(bitcoin.height), MAIN_RULES)


def test_a_proof_of_something_else_is_refused(bitcoin):
    evidence, origin = sweep(bitcoin), bitcoin.hash_at(bitcoin.height)
    other = replace(evidence.transaction, lock_time=7)
    with pytest.raises(WrongMerkleRoot):
        check_evidence(replace(evidence, transaction=other), bitcoin, origin, MAIN_RULES)
    small = Transaction(2, (Input(evidence.funding[0].txid, 0, b"\x51" * 4, 0),), (Output(1, b""),), 0)
    assert len(small.encode_stripped()) == 64
    with pytest.raises(AmbiguousTransaction):
        check_evidence(
            replace(evidence, transaction=small, branch=Branch(0, 1, ()), claims=()), bitcoin, origin, MAIN_RULES
        )
    coinbase = bitcoin.best[-1].transactions[0]
    block_hash, branch, _ = bitcoin.prove(coinbase.txid)
    with pytest.raises(CoinbaseSweep):
        check_evidence(
            Evidence(block_hash, branch, coinbase, is_first=False, funding=(), claims=()), bitcoin, origin, MAIN_RULES
        )


def test_what_is_no_deposit_is_refused_by_name():
    custodies, outpoint = (CUSTODY,), Outpoint(bytes(32), 0)
    good = Spent(Output(50_000, SCRIPT), from_coinbase=False)
    claim = Claim(outpoint, BINDING)
    assert check_claim(claim, good, CHARGE, custodies, MAIN_RULES).sats == 48_000
    with pytest.raises(CoinbaseDeposit):
        check_claim(claim, replace(good, from_coinbase=True), CHARGE, custodies, MAIN_RULES)
    with pytest.raises(UnknownEpoch):
        check_claim(Claim(outpoint, replace(BINDING, epoch=1)), good, CHARGE, custodies, MAIN_RULES)
    for wrong in (replace(BINDING, max_fee=2_999), replace(BINDING, address=bytes(20)), make_binding(2, 3_000)):
        with pytest.raises(WrongDepositScript):
            check_claim(Claim(outpoint, wrong), good, CHARGE, custodies, MAIN_RULES)
    with pytest.raises(WrongDepositScript):
        check_claim(claim, Spent(Output(50_000, VAULT), from_coinbase=False), CHARGE, custodies, MAIN_RULES)
    with pytest.raises(DepositTooSmall, match="at least 10000"):
        check_claim(claim, Spent(Output(9_999, SCRIPT), from_coinbase=False), CHARGE, custodies, MAIN_RULES)
    greedy = make_binding(max_fee=10**8)
    script = deposit_output(CUSTODY, greedy, MAIN_RULES).script
    with pytest.raises(DepositTooSmall, match="its share"):
        check_claim(
            Claim(outpoint, greedy), Spent(Output(50_000, script), from_coinbase=False), 50_000, custodies, MAIN_RULES
        )


def test_the_charge_stands_in_every_sequence():
    places = [Input(bytes([at]) * 32, 0, b"", CHARGE_FLAG | 77) for at in range(3)]
    made = Transaction(2, tuple(places), (Output(1, VAULT),), 0)
    assert read_charge(made) == 77
    for sequence in (0xFFFFFFFF, 0xFFFFFFFE, 1008, 77):
        with pytest.raises(NoVaultTransaction):
            read_charge(replace(made, inputs=tuple(replace(place, sequence=sequence) for place in places)))
    with pytest.raises(NoVaultTransaction):
        read_charge(replace(made, inputs=(places[0], replace(places[1], sequence=CHARGE_FLAG | 78), places[2])))
    assert read_charge(replace(made, inputs=(replace(places[0], sequence=0xFFFFFFFD),))) == 0x7FFFFFFD


def test_two_deposits_of_one_transaction_travel_once(bitcoin):
    made = bitcoin.pay(Output(50_000, SCRIPT), Output(60_000, SCRIPT))
    bitcoin.mine([made])
    places = tuple(Input(made.txid, at, b"", CHARGE_FLAG | CHARGE) for at in (0, 1))
    swept = Transaction(2, places, (Output(100_000, VAULT),), 0)
    bitcoin.mine([swept])
    block_hash, branch, _ = bitcoin.prove(swept.txid)
    claims = tuple(Claim(Outpoint(made.txid, at), BINDING) for at in (0, 1))
    evidence = Evidence(block_hash, branch, swept, is_first=True, funding=(made,), claims=claims)
    worth = check_deposits(Evidence.decode(evidence.encode(), MAIN_RULES), bitcoin, block_hash, (CUSTODY,), MAIN_RULES)
    assert [credit.sats for credit in worth] == [48_000, 58_000]
    for wrong in (
        replace(evidence, funding=(made, made)),
        replace(evidence, funding=()),
        replace(evidence, claims=claims[::-1]),
        replace(evidence, claims=(claims[0], claims[0])),
    ):
        with pytest.raises(EvidenceMalformed):
            Evidence.decode(wrong.encode(), MAIN_RULES)
        with pytest.raises(EvidenceMalformed):
            check_evidence(wrong, bitcoin, block_hash, MAIN_RULES)


def test_evidence_has_one_encoding(bitcoin):
    raw = sweep(bitcoin).encode()
    for wrong in (raw[:-1], raw + b"\x00", b"\x02" + raw[1:], raw[:1] + b"\x02" + raw[2:], b""):
        with pytest.raises(EvidenceMalformed):
            Evidence.decode(wrong, MAIN_RULES)
    with pytest.raises(EvidenceTooLarge):
        Evidence.decode(raw, replace(MAIN_RULES, max_evidence_bytes=len(raw) - 1))
    with_witness = sweep(bitcoin)
    (place,) = with_witness.transaction.inputs
    signed = replace(with_witness.transaction, inputs=(replace(place, witness=(b"\x01",)),))
    full = signed.encode()
    head = with_witness.encode()
    stripped = with_witness.transaction.encode_stripped()
    swapped = head.replace(len(stripped).to_bytes(4, "little") + stripped, len(full).to_bytes(4, "little") + full)
    with pytest.raises(EvidenceMalformed, match="witnesses"):
        Evidence.decode(swapped, MAIN_RULES)


def test_a_large_funding_transaction_is_refused(bitcoin):
    evidence, origin = sweep(bitcoin), bitcoin.hash_at(bitcoin.height)
    size = len(evidence.funding[0].encode_stripped())
    with pytest.raises(EvidenceTooLarge, match="funding"):
        check_evidence(evidence, bitcoin, origin, replace(MAIN_RULES, max_funding_bytes=size - 1))


def test_an_output_that_is_not_there(bitcoin):
    evidence = sweep(bitcoin)
    swept = replace(evidence.transaction, inputs=(replace(evidence.transaction.inputs[0], index=1),))
    block = bitcoin.mine([])
    coinbase = block.transactions[0]
    from tests.unit.bridge.fake_bitcoin import root_of

    assert root_of((coinbase.txid,)) == coinbase.txid
    forged = replace(evidence, transaction=swept, branch=Branch(0, 1, ()), claims=())

    class Forged:
        def __getattr__(self, name):
            return getattr(bitcoin, name)

        def raw_header(self, _):
            return block.raw[:36] + swept.txid + block.raw[68:]

    with pytest.raises(EvidenceMalformed, match="no output 1"):
        check_evidence(forged, Forged(), bitcoin.hash_at(bitcoin.height), MAIN_RULES)
