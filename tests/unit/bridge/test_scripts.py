"""Scripts of the peg, byte for byte, and their spends under btclib's script engine."""

import pytest
from btclib.exceptions import BTClibValueError
from btclib.script.engine import verify_transaction
from btclib.tx.tx import Tx
from btclib.tx.tx_out import TxOut

from bridge.params import MAIN, REGTEST
from bridge.peg_errors import BadSignature, PayoutScriptRefused, SignaturesMissing, SignerSetInvalid
from bridge.rules import MAIN_RULES
from bridge.scripts import (
    Binding,
    PayoutKind,
    SignerSet,
    address_of,
    binding_script,
    check_payout_script,
    deposit_output,
    emergency_script,
    push_number,
    reclaim_script,
    threshold_script,
    vault_output,
)
from bridge.taproot import NUMS, blank_witness, compute_sighashes, make_threshold_witness, vsize_of
from bridge.transactions import Input, Output, Transaction
from tests.unit.bridge.keys import make_binding, make_custody, make_key, make_signers, sign, sign_tweaked

TO = b"\x51\x20" + make_key(77)


def spend(output, sequence=0xFFFFFFFD, sats=100_000):
    spent = (Output(sats, output.script),)
    return Transaction(2, (Input(b"\x07" * 32, 1, b"", sequence),), (Output(sats - 1_000, TO),), 0), spent


def with_witness(transaction, witness):
    (only,) = transaction.inputs
    only = Input(only.txid, only.index, only.script, only.sequence, witness)
    return Transaction(transaction.version, (only,), transaction.outputs, transaction.lock_time)


def verify(transaction, spent):
    verify_transaction([TxOut(coin.sats, coin.script) for coin in spent], Tx.parse(transaction.encode()))


def test_leaves_are_as_the_design_says():
    binding, custody = make_binding(max_fee=0x0102), make_custody(count=5, threshold=3)
    assert binding_script(binding) == b"\x6a\x21HYPD\x01" + b"\x02\x01" + bytes(6) + binding.address
    assert reclaim_script(binding, MAIN_RULES) == b"\x02\xf0\x03\xb2\x75\x20" + binding.user_key + b"\xac"
    assert (len(binding_script(binding)), len(reclaim_script(binding, MAIN_RULES))) == (35, 39)
    leaf = threshold_script(custody.signers)
    assert leaf.startswith(b"\x20" + custody.signers.keys[0] + b"\xac\x20")
    assert leaf.endswith(b"\xba\x53\x9c")
    assert emergency_script(custody.council, MAIN_RULES).startswith(b"\x02\xa0\x32\xb2\x75")
    assert len(deposit_output(custody, binding, MAIN_RULES).signers.control) == 65
    assert len(deposit_output(custody, binding, MAIN_RULES).fallback.control) == 97


def test_signers_sweep_a_deposit_and_nobody_else():
    custody = make_custody(count=5, threshold=3)
    output = deposit_output(custody, make_binding(), MAIN_RULES)
    transaction, spent = spend(output)
    (message,) = compute_sighashes(transaction, spent, (output.signers,))
    keys = custody.signers.keys
    for chosen in (keys[:3], keys[2:], keys[::2], keys):
        signatures = {key: sign(key, message) for key in chosen}
        witness = make_threshold_witness(output.signers, keys, 3, message, signatures)
        signed = with_witness(transaction, witness)
        verify(signed, spent)
        assert vsize_of(signed) == 204
        blank = blank_witness(output.signers, 5, 3)
        assert sorted(map(len, witness)) == sorted(map(len, blank))
    with pytest.raises(SignaturesMissing):
        make_threshold_witness(output.signers, keys, 3, message, {key: sign(key, message) for key in keys[:2]})
    wrong = {key: sign(keys[0], message) for key in keys[:3]}
    with pytest.raises(BadSignature):
        make_threshold_witness(output.signers, keys, 3, message, wrong)
    two = (b"", b"", b"", sign(keys[1], message), sign(keys[0], message))
    too_few = with_witness(transaction, (*two, output.signers.script, output.signers.control))
    with pytest.raises(BTClibValueError):
        verify(too_few, spent)


def test_the_user_reclaims_after_a_week():
    binding = make_binding(user=5)
    output = deposit_output(make_custody(), binding, MAIN_RULES)
    for sequence, passes in ((1008, True), (1007, False)):
        transaction, spent = spend(output, sequence)
        (message,) = compute_sighashes(transaction, spent, (output.fallback,))
        witness = (sign(binding.user_key, message), output.fallback.script, output.fallback.control)
        signed = with_witness(transaction, witness)
        assert vsize_of(signed) == 146
        if passes:
            verify(signed, spent)
        else:
            with pytest.raises(BTClibValueError):
                verify(signed, spent)


def test_the_vault_is_spent_by_key_by_leaf_and_by_the_council():
    custody = make_custody(group=True)
    output = vault_output(custody, MAIN_RULES)
    transaction, spent = spend(output)
    (message,) = compute_sighashes(transaction, spent, (None,))
    signature = sign_tweaked(custody.signers.group_key, output.merkle_root, message)
    verify(with_witness(transaction, (signature,)), spent)
    assert vsize_of(with_witness(transaction, (signature,))) == 111
    late, spent = spend(output, 12_960)
    (message,) = compute_sighashes(late, spent, (output.fallback,))
    council = custody.council
    signatures = {key: sign(key, message) for key in council.keys}
    witness = make_threshold_witness(output.fallback, council.keys, council.threshold, message, signatures)
    verify(with_witness(late, witness), spent)
    early, spent = spend(output, 12_959)
    with pytest.raises(BTClibValueError):
        verify(with_witness(early, witness), spent)


def test_without_a_common_key_nobody_has_the_key_path():
    assert vault_output(make_custody(), MAIN_RULES).internal_key == NUMS
    assert vault_output(make_custody(group=True), MAIN_RULES).internal_key != NUMS


def test_every_part_of_a_binding_changes_the_address():
    custody, binding = make_custody(), make_binding()
    base = deposit_output(custody, binding, MAIN_RULES)
    others = [
        Binding(make_key(9), binding.address, binding.max_fee, 0),
        Binding(binding.user_key, b"\x09" * 20, binding.max_fee, 0),
        Binding(binding.user_key, binding.address, binding.max_fee + 1, 0),
    ]
    scripts = {deposit_output(custody, other, MAIN_RULES).script for other in others}
    scripts.add(deposit_output(make_custody(1), binding, MAIN_RULES).script)
    scripts.add(base.script)
    assert len(scripts) == 5
    assert address_of(base, MAIN).startswith("bc1p")
    assert address_of(base, REGTEST).startswith("bcrt1p")


@pytest.mark.parametrize(
    ("signers", "rule"),
    [
        (SignerSet(1, ()), "number of keys"),
        (make_signers(1, 21, 2), "number of keys"),
        (SignerSet(0, (make_key(1),)), "threshold"),
        (SignerSet(2, (make_key(1),)), "threshold"),
        (SignerSet(1, tuple(sorted((make_key(1), make_key(2)), reverse=True))), "order"),
        (SignerSet(1, (make_key(1), make_key(1))), "order"),
        (SignerSet(1, (b"\xff" * 32,)), "key"),
        (SignerSet(1, (make_key(1)[:31],)), "key"),
        (SignerSet(1, (make_key(1),), b"\x00" * 32), "key"),
    ],
)
def test_signer_sets_that_hold_nothing_are_refused(signers, rule):
    with pytest.raises(SignerSetInvalid, match=rule):
        signers.check()
    make_signers(1, 20, 11).check()


PAYOUTS = [
    ("76a914" + "11" * 20 + "88ac", PayoutKind.P2PKH, 546),
    ("a914" + "11" * 20 + "87", PayoutKind.P2SH, 540),
    ("0014" + "11" * 20, PayoutKind.P2WPKH, 294),
    ("0020" + "11" * 32, PayoutKind.P2WSH, 330),
    ("5120" + "11" * 32, PayoutKind.P2TR, 330),
]


@pytest.mark.parametrize(("script", "kind", "dust"), PAYOUTS)
def test_five_kinds_are_paid(script, kind, dust):
    assert check_payout_script(bytes.fromhex(script)) is kind
    assert kind.dust_sats == dust


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("", "nothing"),
        ("6a0548656c6c6f", "OP_RETURN"),
        ("6a", "OP_RETURN"),
        ("21" + "02" * 33 + "ac", "P2PK"),
        ("41" + "04" * 65 + "ac", "P2PK"),
        ("5121" + "02" * 33 + "51ae", "bare multisig"),
        ("51024e73", "P2A"),
        ("5220" + "11" * 32, "witness version 2 of 32 bytes"),
        ("5114" + "11" * 20, "witness version 1 of 20 bytes"),
        ("0010" + "11" * 16, "witness version 0 of 16 bytes"),
        ("76a914" + "11" * 20 + "88ad", "no standard script"),
        ("a914" + "11" * 20 + "88", "no standard script"),
        ("51", "no standard script"),
    ],
)
def test_everything_else_is_refused_by_name(script, name):
    with pytest.raises(PayoutScriptRefused) as caught:
        check_payout_script(bytes.fromhex(script))
    assert caught.value.got == name


@pytest.mark.parametrize(
    ("value", "pushed"), [(1, "51"), (16, "60"), (17, "0111"), (127, "017f"), (128, "028000"), (1008, "02f003")]
)
def test_numbers_are_pushed_minimally(value, pushed):
    assert push_number(value).hex() == pushed
