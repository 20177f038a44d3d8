"""Keys and coins of a person: keystore files (version 3), the devnet's well-known keys, sending, balances."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from eth_account import Account
from eth_account.signers.local import LocalAccount

from chain.errors import HyperdustError
from chain.params import DEVNET_CHAIN_IDS
from hyperdust.contracts_abi import ADDRESSES, decode_output, encode_call
from hyperdust.durable import PRIVATE, create_durably
from hyperdust.paths import keystore_dir
from hyperdust.rpc_client import RpcClient

DEVNET_MNEMONIC: Final = "test test test test test test test test test test test junk"
"""The one that anvil and hardhat print too: worthless everywhere else."""

WEI_PER_BTC: Final = 10**18
_MIN_PASSWORD: Final = 8


class WalletError(HyperdustError):
    """A key or an amount cannot be used; says what to do instead."""


def user_key(index: int) -> LocalAccount:
    """Devnet account that no role uses."""
    return _from_mnemonic(f"m/44'/60'/0'/0/{index}")


def role_key(index: int) -> LocalAccount:
    """Devnet account of a role."""
    return _from_mnemonic(f"m/44'/60'/1'/0/{index}")


def signer_key(index: int) -> LocalAccount:
    """Devnet key of a signer of the vault; its x-only public key stands in the genesis table."""
    return _from_mnemonic(f"m/44'/60'/2'/0/{index}")


def council_key(index: int) -> LocalAccount:
    """Devnet key of the council, of whom no process runs."""
    return _from_mnemonic(f"m/44'/60'/3'/0/{index}")


def _from_mnemonic(path: str) -> LocalAccount:
    Account.enable_unaudited_hdwallet_features()
    account: LocalAccount = Account.from_mnemonic(DEVNET_MNEMONIC, account_path=path)
    return account


def load_account(
    chain_id: int, keystore: Path | None, key: str | None, ask_password: Callable[[], str]
) -> LocalAccount:
    """The account that signs: a keystore's, or on a devnet a plain key's, there account 0 by default.

    Raises:
        WalletError: none is given, a plain key off a devnet, wrong password, not a keystore.
    """
    if keystore is not None and key is not None:
        raise WalletError("both --keystore and --key are given; give one")
    if keystore is not None:
        return open_keystore(keystore, ask_password())
    if chain_id not in DEVNET_CHAIN_IDS:
        if key is not None:
            raise WalletError(f"--key is for devnets; chain {chain_id} is none. Give --keystore FILE")
        raise WalletError("no key to sign with; give --keystore FILE (`hyperdust wallet new` makes one)")
    return user_key(0) if key is None else parse_key(key)


def parse_key(key: str) -> LocalAccount:
    """Account of a private key in hex.

    Raises:
        WalletError: it is none.
    """
    try:
        account: LocalAccount = Account.from_key(bytes.fromhex(key.removeprefix("0x")))
    except (ValueError, TypeError) as error:
        raise WalletError("--key is no private key: 64 hex digits are expected") from error
    return account


def new_keystore(password: str, path: Path | None = None) -> tuple[str, Path]:
    """Make a key and write it encrypted, readable by its owner alone. Never overwrites.

    Raises:
        WalletError: weak password, or the file is there already.
    """
    if len(password) < _MIN_PASSWORD:
        raise WalletError(f"the password has {len(password)} characters; at least {_MIN_PASSWORD} are needed")
    account: LocalAccount = Account.create()
    if path is None:
        made = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
        path = keystore_dir() / f"UTC--{made}--{account.address[2:].lower()}.json"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    encrypted = json.dumps(account.encrypt(password))
    try:
        create_durably(path, encrypted, PRIVATE)
    except FileExistsError as error:
        raise WalletError(
            f"{path} is there already, and a key is never overwritten; choose another --keystore"
        ) from error
    return account.address, path


def open_keystore(path: Path, password: str) -> LocalAccount:
    """Decrypt a keystore file.

    Raises:
        WalletError: wrong password, or not a keystore.
    """
    try:
        account: LocalAccount = Account.from_key(Account.decrypt(path.read_text(encoding="utf-8"), password))
    except FileNotFoundError as error:
        raise WalletError(f"there is no keystore {path}; `hyperdust wallet list` shows those that are") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = "wrong password" if "MAC mismatch" in str(error) else f"not a keystore file ({error})"
        raise WalletError(f"{path}: {reason}") from error
    return account


def list_keystores(folder: Path | None = None) -> Iterator[tuple[str, Path]]:
    """Address and file of each keystore in a folder."""
    folder = folder or keystore_dir()
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            yield "0x" + bytes.fromhex(content["address"].removeprefix("0x")).hex(), path
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # other files may lie there


def parse_btc(text: str) -> int:
    """Wei of an amount in BTC, exactly.

    Raises:
        WalletError: not a number, negative, or finer than a wei.
    """
    try:
        wei = Decimal(text) * WEI_PER_BTC
        exact = int(wei)
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise WalletError(f"{text!r} is no amount of BTC; write for example 0.5") from error
    if exact != wei or exact < 0:
        raise WalletError(f"{text!r} is no amount of BTC: negative, or more than 18 decimals")
    return exact


def show_btc(wei: int) -> str:
    """An amount as people read it, without trailing zeros."""
    whole, fraction = divmod(wei, WEI_PER_BTC)
    return f"{whole}.{fraction:018d}".rstrip("0").rstrip(".") + " BTC"


def parse_address(text: str) -> bytes:
    """Address of 40 hex digits; a mixed-case one has to carry its checksum (EIP-55).

    Raises:
        WalletError: it is none.
    """
    from eth_utils.address import to_checksum_address  # noqa: PLC0415  # most commands need none of it

    digits = text.removeprefix("0x")
    try:
        address = bytes.fromhex(digits)
        wrong = digits not in {digits.lower(), digits.upper()} and to_checksum_address(address) != text
    except ValueError:
        address, wrong = b"", True
    if wrong or len(address) != 20 or not text.startswith("0x"):
        raise WalletError(f"{text!r} is no address: 0x and 40 hex digits are expected, with a right checksum")
    return address


def send(client: RpcClient, account: LocalAccount, to: bytes, value: int) -> Mapping[str, Any]:
    """Send BTC and wait: the receipt.

    Raises:
        RpcError: the node refused.
        ReceiptTimeout: no block took it.
    """
    return client.send_transaction(account, to, value=value)


def balances(client: RpcClient, addresses: Sequence[str]) -> list[dict[str, Any]]:
    """BTC (wei) and DUST (its smallest units) of each address."""
    rows = []
    for address in addresses:
        dust = client.view(ADDRESSES["Dust"], encode_call("Dust", "balanceOf", parse_address(address)))
        rows.append(
            {
                "address": address,
                "btc_wei": client.quantity("eth_getBalance", address, "latest"),
                "dust": decode_output("Dust", "balanceOf", dust)[0],
            }
        )
    return rows
