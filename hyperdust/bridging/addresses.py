"""Bitcoin addresses as people write them: read, refused by name, shown as a link and as a QR code."""

import re
from typing import Final

from btclib import b32, b58
from btclib.exceptions import BTClibValueError

from bridge.params import BitcoinParams
from bridge.peg_errors import PayoutScriptRefused
from bridge.rules import SATS_PER_BTC
from bridge.scripts import PayoutKind, check_payout_script
from hyperdust.bridging.errors import AddressRefused, AmountRefused, KeyRefused

# Bitcoin network -> what btclib calls the networks that write addresses in its way (base58, then bech32).
_WRITTEN_AS: Final = {
    "main": ("mainnet", "mainnet"),
    "test": ("testnet", "testnet"),
    "testnet4": ("testnet", "testnet"),
    "signet": ("testnet", "testnet"),
    "regtest": ("testnet", "regtest"),
}
_AMOUNT: Final = re.compile(r"[0-9]{1,8}(\.[0-9]{1,30})?")
_BASE58: Final = frozenset({PayoutKind.P2PKH, PayoutKind.P2SH})
_KINDS: Final = "P2PKH, P2SH, P2WPKH, P2WSH or P2TR"


def script_of(address: str, network: BitcoinParams) -> bytes:
    """The script that an address stands for.

    Raises:
        AddressRefused: no address, of another network, or of a kind that withdrawals are not paid to.
    """
    base58, bech32 = _WRITTEN_AS[network.name]
    try:
        version, program, found = b32.witness_from_address(address)
        expected = bech32
        script = bytes([0x50 + version if version else 0, len(program)]) + program
    except BTClibValueError as error:
        try:
            kind, payload, found = b58.h160_from_address(address)
        except BTClibValueError:
            raise AddressRefused(f"{address!r} is no Bitcoin address: {error}; copy it anew") from error
        expected = base58
        script = b"\x76\xa9\x14" + payload + b"\x88\xac" if kind == "p2pkh" else b"\xa9\x14" + payload + b"\x87"
    if found != expected:
        raise AddressRefused(
            f"{address} is an address of Bitcoin's {_plain(found)}, and this chain lies on {_plain(network.name)}; "
            f"give one that your {_plain(network.name)} wallet made"
        )
    try:
        check_payout_script(script)
    except PayoutScriptRefused as error:
        raise AddressRefused(f"{address} is {error.got}; withdrawals are paid to {_KINDS} alone") from error
    return script


def _plain(network: str) -> str:
    return {"main": "main network", "mainnet": "main network", "test": "testnet"}.get(network, network)


def address_of_script(script: bytes, network: BitcoinParams) -> str:
    """A script of one of the five kinds as people write it."""
    from btclib.script.script_pub_key import address  # noqa: PLC0415  # loads curve code

    base58, bech32 = _WRITTEN_AS[network.name]
    return address(script, base58 if check_payout_script(script) in _BASE58 else bech32)


def parse_sats(text: str) -> int:
    """Whole satoshi of an amount in BTC.

    Raises:
        AmountRefused: no amount, none at all, or finer than a satoshi.
    """
    if _AMOUNT.fullmatch(text) is None:
        raise AmountRefused(f"{text!r} is no amount of BTC; write for example 0.005")
    whole, _, decimals = text.partition(".")
    sats = int(whole) * SATS_PER_BTC + int(decimals.ljust(8, "0")[:8])
    if decimals[8:].strip("0") or not sats:
        raise AmountRefused(f"{text} BTC is no whole number of satoshi above 0: write at most 8 decimals")
    return sats


def show_sats(sats: int) -> str:
    """An amount as people read it."""
    return f"{sats // SATS_PER_BTC}.{sats % SATS_PER_BTC:08d} BTC"


def payment_link(address: str, sats: int, label: str = "") -> str:
    """BIP-21: what wallets open. Bech32 in capitals makes the smaller QR code, and is the same address."""
    amount = f"{sats // SATS_PER_BTC}.{sats % SATS_PER_BTC:08d}".rstrip("0").rstrip(".")
    return f"bitcoin:{address}?amount={amount}" + (f"&label={label}" if label else "")


def draw_code(text: str) -> str:
    """A QR code of half blocks, light on dark, with its quiet zone: readable on terminals of either colour."""
    import segno  # noqa: PLC0415  # loads only where it is shown

    rows = [list(row) for row in segno.make(text, micro=False, error="m").matrix_iter(border=4)]
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    # White is drawn, black is the colour below: both are set, so that a terminal's own colours do not matter.
    shades = {(0, 0): "█", (0, 1): "▀", (1, 0): "▄", (1, 1): " "}
    return "\n".join(
        "\x1b[97;40m" + "".join(shades[up, down] for up, down in zip(*pair, strict=True)) + "\x1b[0m"
        for pair in zip(rows[::2], rows[1::2], strict=True)
    )


def parse_user_key(text: str) -> bytes:
    """An x-only public key in hex.

    Raises:
        KeyRefused: it is none.
    """
    from bridge.taproot import is_key  # noqa: PLC0415  # loads curve code

    try:
        key = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        key = b""
    if len(key) != 32 or not is_key(key):
        raise KeyRefused(f"--user-key {text!r} is no public key: 64 hex digits, the x of a point of secp256k1")
    return key
