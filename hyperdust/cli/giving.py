"""`hyperdust bridge gift`: coins for the vault itself, to make good what is missing or to pay for anchors."""
# ruff: noqa: PLC0415  # heavy modules load inside commands, so that --help answers at once

from typing import Annotated

import typer

from hyperdust.cli.asking import bitcoin_options, bridging, devnet_purse
from hyperdust.cli.options import (
    DEFAULT_RPC,
    BitcoinCookie,
    BitcoinPassword,
    BitcoinRpc,
    BitcoinUser,
    Json,
    Rpc,
    emit,
)


def gift(
    btc: Annotated[
        str | None, typer.Option("--btc", metavar="X", help="How much, in BTC. Default: what is missing.")
    ] = None,
    pay: Annotated[
        bool, typer.Option("--pay/--no-pay", help="On a devnet: pay from its own Bitcoin wallet, or only show.")
    ] = True,
    bitcoin_rpc: BitcoinRpc = None,
    bitcoin_user: BitcoinUser = "",
    bitcoin_password: BitcoinPassword = "",
    bitcoin_cookie: BitcoinCookie = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """Give bitcoin to the vault, for nothing: what a frozen peg is short of, or more surplus for anchors.

    Nobody is credited for a gift and nobody gives it back. The signers take it in with their next round; while the
    peg is frozen, once all gifts together make it whole.

    Examples:
      hyperdust bridge gift
      hyperdust bridge gift --btc 0.001 --no-pay --json
    """
    from hyperdust.bridging.addresses import parse_sats
    from hyperdust.bridging.gift import Gift, pay_gift

    given = None if btc is None else parse_sats(btc)
    options = bitcoin_options(bitcoin_rpc, bitcoin_user, bitcoin_password, bitcoin_cookie)
    with bridging(rpc, options) as (sources, terms):
        made = Gift.of(terms, given)
        purse = devnet_purse(sources, terms) if pay and made.sats else None
        if purse is not None:
            made = pay_gift(made, *purse)
    emit(made.as_json(), as_json=as_json, text=made.show())
