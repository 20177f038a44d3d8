import json
import stat

import pytest

from hyperdust import wallet
from hyperdust.cli.app import run

SECOND = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


@pytest.fixture
def password(monkeypatch):
    monkeypatch.setenv("HYPERDUST_PASSWORD", "correct horse")


def test_a_new_key_is_encrypted_private_and_listed(tmp_path, password, capsys):
    path = tmp_path / "keys" / "a.json"
    assert run(["wallet", "new", "--keystore", str(path), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert wallet.open_keystore(path, "correct horse").address == made["address"]
    assert run(["wallet", "list", "--folder", str(path.parent), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row == {"address": made["address"].lower(), "keystore": str(path)}


def test_a_key_is_never_overwritten(tmp_path, password, capsys):
    path = tmp_path / "a.json"
    path.write_text("precious")
    assert run(["wallet", "new", "--keystore", str(path)]) == 1
    assert path.read_text() == "precious"
    assert "never overwritten" in capsys.readouterr().err


def test_a_weak_or_wrong_password_is_refused(tmp_path, password):
    with pytest.raises(wallet.WalletError, match="at least 8"):
        wallet.new_keystore("short", tmp_path / "a.json")
    wallet.new_keystore("correct horse", tmp_path / "a.json")
    with pytest.raises(wallet.WalletError, match="wrong password"):
        wallet.open_keystore(tmp_path / "a.json", "battery staple")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"crypto": 1}'])
def test_what_is_no_keystore_is_named(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(wallet.WalletError, match=r"a\.json"):
        wallet.open_keystore(tmp_path / "a.json", "correct horse")


def test_a_plain_key_signs_on_a_devnet_only():
    assert wallet.load_account(48_000_007, None, None, str).address == wallet.user_key(0).address
    key = "0x" + bytes(wallet.user_key(1).key).hex()
    assert wallet.load_account(48_000_007, None, key, str).address == SECOND
    with pytest.raises(wallet.WalletError, match="--keystore"):
        wallet.load_account(1, None, key, str)
    with pytest.raises(wallet.WalletError, match="wallet new"):
        wallet.load_account(1, None, None, str)
    with pytest.raises(wallet.WalletError, match="64 hex digits"):
        wallet.load_account(48_000_007, None, "0x12", str)


def test_roles_and_users_have_different_keys():
    users = {wallet.user_key(index).address for index in range(10)}
    roles = {wallet.role_key(index).address for index in range(10)}
    assert len(users | roles) == 20


@pytest.mark.parametrize(
    ("text", "wei"), [("1", 10**18), ("0.5", 5 * 10**17), ("0.000000000000000001", 1), ("1e-8", 10**10), ("0", 0)]
)
def test_amounts_are_exact(text, wei):
    assert wallet.parse_btc(text) == wei
    assert wallet.parse_btc(wallet.show_btc(wei).removesuffix(" BTC")) == wei


@pytest.mark.parametrize("text", ["", "x", "-1", "1e-19", "nan", "inf", "1,5"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(wallet.WalletError, match="no amount"):
        wallet.parse_btc(text)


@pytest.mark.parametrize("text", ["", "0x12", SECOND[2:], SECOND.replace("C5", "c5"), SECOND + "00"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(wallet.WalletError, match="no address"):
        wallet.parse_address(text)


def test_an_address_in_one_case_needs_no_checksum():
    assert wallet.parse_address(SECOND) == wallet.parse_address(SECOND.lower())


def test_without_password_and_terminal_the_error_says_how_to_give_one(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("HYPERDUST_PASSWORD", raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    assert run(["wallet", "new", "--keystore", str(tmp_path / "a.json")]) == 1
    assert "HYPERDUST_PASSWORD" in capsys.readouterr().err
