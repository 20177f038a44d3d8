"""The signer's own bitcoind, through the one client that there is."""

import threading
from typing import Any, Final

from bridge.deposits import Outpoint
from bridge.errors import TransactionMalformed
from bridge.transactions import COINBASE_OUTPOINT, Output, Transaction
from bridge.work import show_hash
from hyperdust.bitcoind import AnswerMalformed, Bitcoind, Login, RpcFault, btc_to_sats, parse_hash
from hyperdust.signer.errors import ScanBusy
from hyperdust.signer.sources import Coin, Mined, Spend

_NOT_FOUND: Final = -5
_SCANNING: Final = -8
_KNOWN: Final = -27
"""`sendrawtransaction` of what a block has already."""
_TARGET_BLOCKS: Final = 6
_SCAN_S: Final = 900.0
"""The whole set of coins of the main network takes some minutes."""
_WITH_TRANSACTIONS: Final = 2


class BitcoindSource:
    """One bitcoind with `txindex=1`. Safe from any thread."""

    def __init__(self, url: str, login: Login) -> None:
        self._client = Bitcoind(url, login)
        self._patient = Bitcoind(url, login, timeout_s=_SCAN_S)
        self._scanning = threading.Lock()

    def check_network(self, network: str) -> None:
        """Check that it follows that network, is no Knots off regtest, and knows every transaction.

        Raises:
            WrongNetwork, KnotsRefused, NoTransactionIndex: by name.
        """
        self._client.check_network(network)
        self._client.check_transaction_index()

    def close(self) -> None:
        """Close pooled connections."""
        self._client.close()
        self._patient.close()

    def load_height(self) -> int:
        """Of the best chain."""
        return self._client.chain_info().height

    def load_block_hash(self, height: int) -> bytes:
        """At a height."""
        return self._client.block_hash(height)

    def load_block(self, block_hash: bytes) -> bytes:
        """A whole block, with witnesses."""
        return self._client.raw_block(block_hash)

    def load_spends(self, block_hash: bytes) -> tuple[Spend, ...]:
        """Ids and inputs of a block's transactions."""
        block = self._client.call("getblock", show_hash(block_hash), _WITH_TRANSACTIONS)
        try:
            return tuple(_read_spend(one) for one in block["tx"])
        except (KeyError, TypeError, ValueError) as error:
            raise AnswerMalformed("getblock", block) from error

    def load_coin(self, outpoint: Outpoint) -> Coin | None:
        """An unspent output of the best chain, whatever the mempool spends."""
        found = self._client.call("gettxout", show_hash(outpoint.txid), outpoint.index, False)
        if found is None:
            return None
        try:
            output = Output(btc_to_sats(found["value"]), bytes.fromhex(found["scriptPubKey"]["hex"]))
            return Coin(output, int(found["confirmations"]), bool(found["coinbase"]))
        except (KeyError, TypeError, ValueError) as error:
            raise AnswerMalformed("gettxout", found) from error

    def load_spender(self, outpoint: Outpoint) -> bytes | None:
        """Who spends a coin in the mempool."""
        place = {"txid": show_hash(outpoint.txid), "vout": outpoint.index}
        found = self._client.call("gettxspendingprevout", [place])
        try:
            spender = found[0].get("spendingtxid")
            return None if spender is None else parse_hash(spender)
        except (IndexError, TypeError, ValueError, AttributeError) as error:
            raise AnswerMalformed("gettxspendingprevout", found) from error

    def load_transaction(self, txid: bytes) -> Transaction | None:
        """Of the mempool or of any block."""
        try:
            raw = self._client.raw_transaction(txid)
        except RpcFault as error:
            if error.code == _NOT_FOUND:
                return None
            raise
        try:
            return Transaction.decode(raw)
        except TransactionMalformed as error:
            raise AnswerMalformed("getrawtransaction", raw.hex()) from error

    def load_mined(self, txid: bytes) -> Mined | None:
        """The block of the best chain that has it."""
        try:
            found = self._client.call("getrawtransaction", show_hash(txid), True)
            if int(found.get("confirmations", 0)) < 1:
                return None
            header = self._client.call("getblockheader", found["blockhash"])
            return Mined(parse_hash(found["blockhash"]), int(header["height"]))
        except RpcFault as error:
            if error.code == _NOT_FOUND:
                return None
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise AnswerMalformed("getrawtransaction", txid.hex()) from error

    def find_coins(self, scripts: tuple[bytes, ...]) -> tuple[tuple[Outpoint, Coin], ...]:
        """Unspent outputs with these scripts, from the whole set of coins; one scan at a time."""
        if not scripts:
            return ()
        with self._scanning:
            try:
                found = self._patient.scan_outputs([f"raw({script.hex()})" for script in scripts])
            except RpcFault as error:
                if error.code == _SCANNING:
                    raise ScanBusy from error
                raise
        coins = ((place, self.load_coin(place)) for place in (Outpoint(one.txid, one.index) for one in found))
        return tuple((place, coin) for place, coin in coins if coin is not None)

    def load_rate(self) -> int | None:
        """An estimate for some blocks."""
        return self._client.fee_rate(_TARGET_BLOCKS)

    def send(self, transaction: Transaction) -> None:
        """Broadcast."""
        try:
            self._client.send_raw_transaction(transaction.encode())
        except RpcFault as error:
            if error.code != _KNOWN:
                raise

    def prove(self, txid: bytes, block_hash: bytes) -> tuple[bytes, bytes]:
        """Header, and header with partial tree."""
        return self._client.raw_header(block_hash), self._client.txout_proof([txid], block_hash)


def _read_spend(raw: Any) -> Spend:
    inputs = tuple(
        Outpoint(COINBASE_OUTPOINT[:32], 0xFFFFFFFF)
        if "coinbase" in one
        else Outpoint(parse_hash(one["txid"]), int(one["vout"]))
        for one in raw["vin"]
    )
    return Spend(parse_hash(raw["txid"]), inputs)
