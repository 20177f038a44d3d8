"""Bitcoin transactions, as far as the peg reads them: ids, inputs, outputs. Scripts and signatures stay opaque."""

from dataclasses import dataclass
from typing import Final, Self

from bridge.errors import TransactionMalformed
from bridge.work import sha256d

MAX_SATS: Final = 21_000_000 * 10**8
MAX_TRANSACTION_BYTES: Final = 4_000_000  # a whole block's weight
COINBASE_OUTPOINT: Final = bytes(32) + b"\xff\xff\xff\xff"


@dataclass(frozen=True, slots=True)
class Input:
    """Spends one output."""

    txid: bytes
    """Of the transaction that made it."""
    index: int
    """Of the output there."""
    script: bytes
    """scriptSig."""
    sequence: int
    """BIP-68, BIP-125."""
    witness: tuple[bytes, ...] = ()
    """Not part of the id."""


@dataclass(frozen=True, slots=True)
class Output:
    """A coin."""

    sats: int
    """Amount in satoshi."""
    script: bytes
    """scriptPubKey."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction; numbers little-endian, lists after their CompactSize counts."""

    version: int
    """uint32."""
    inputs: tuple[Input, ...]
    """At least one."""
    outputs: tuple[Output, ...]
    """At least one."""
    lock_time: int
    """Height or time."""

    def encode_stripped(self) -> bytes:
        """Without witnesses: what the id is the hash of."""
        return self._encode(with_witness=False)

    def encode(self) -> bytes:
        """As it travels: BIP-144 where there is a witness."""
        return self._encode(with_witness=any(spent.witness for spent in self.inputs))

    @property
    def txid(self) -> bytes:
        """SHA256d without witnesses."""
        return sha256d(self.encode_stripped())

    @property
    def is_coinbase(self) -> bool:
        """Whether it makes new coins."""
        spent = self.inputs[0]
        return len(self.inputs) == 1 and spent.txid + spent.index.to_bytes(4, "little") == COINBASE_OUTPOINT

    def _encode(self, *, with_witness: bool) -> bytes:
        parts = [
            self.version.to_bytes(4, "little"),
            b"\x00\x01" if with_witness else b"",
            encode_size(len(self.inputs)),
        ]
        for spent in self.inputs:
            parts += [spent.txid, spent.index.to_bytes(4, "little"), _sized(spent.script)]
            parts.append(spent.sequence.to_bytes(4, "little"))
        parts.append(encode_size(len(self.outputs)))
        parts += [made.sats.to_bytes(8, "little") + _sized(made.script) for made in self.outputs]
        if with_witness:
            for spent in self.inputs:
                parts += [encode_size(len(spent.witness)), *map(_sized, spent.witness)]
        return b"".join([*parts, self.lock_time.to_bytes(4, "little")])

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read exactly one transaction, with or without witnesses, in its one encoding.

        Raises:
            TransactionMalformed: anything else; no inputs or outputs; amounts beyond 21 million.
        """
        if len(raw) > MAX_TRANSACTION_BYTES:
            raise TransactionMalformed("transaction", f"{len(raw)} bytes")
        reader = Reader(raw)
        transaction = cls.read(reader)
        reader.end()
        return transaction

    @classmethod
    def read(cls, reader: "Reader") -> Self:
        """Read the next transaction of a block.

        Raises:
            TransactionMalformed: as `decode`.
        """
        version = reader.number(4)
        has_witness = reader.peek() == b"\x00"
        if has_witness and reader.take(2) != b"\x00\x01":
            raise TransactionMalformed("transaction", "no inputs, or an unknown flag")
        inputs = [
            Input(reader.take(32), reader.number(4), reader.take(reader.size()), reader.number(4))
            for _ in range(reader.count(41))
        ]
        outputs = tuple(Output(reader.number(8), reader.take(reader.size())) for _ in range(reader.count(9)))
        if has_witness:
            inputs = [
                Input(
                    spent.txid,
                    spent.index,
                    spent.script,
                    spent.sequence,
                    tuple(reader.take(reader.size()) for _ in range(reader.count(1))),
                )
                for spent in inputs
            ]
            if not any(spent.witness for spent in inputs):
                raise TransactionMalformed("transaction", "says that it has witnesses and has none")
        lock_time = reader.number(4)
        if not inputs or not outputs:
            raise TransactionMalformed("transaction", "no inputs or no outputs")
        if sum(made.sats for made in outputs) > MAX_SATS:
            raise TransactionMalformed("transaction", "more than 21 million bitcoin")
        return cls(version, tuple(inputs), outputs, lock_time)


def read_block(raw: bytes) -> tuple[bytes, tuple[Transaction, ...]]:
    """Header of 80 bytes and transactions of a whole block, as bitcoind gives it; nothing of it is checked.

    Raises:
        TransactionMalformed: no block.
    """
    if len(raw) > MAX_TRANSACTION_BYTES:
        raise TransactionMalformed("block", f"{len(raw)} bytes")
    reader = Reader(raw)
    header = reader.take(80)
    transactions = tuple(Transaction.read(reader) for _ in range(reader.count(60)))
    reader.end()
    return header, transactions


class Reader:
    """Takes bytes from the front; whatever is missing or not canonical raises `TransactionMalformed`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        end = self._at + size
        if end > len(self._data):
            raise TransactionMalformed("bytes", f"end {end - len(self._data)} early")
        taken, self._at = self._data[self._at : end], end
        return taken

    def peek(self) -> bytes:
        """The next byte, which stays; nothing at the end."""
        return self._data[self._at : self._at + 1]

    def number(self, size: int) -> int:
        """The next little-endian number."""
        return int.from_bytes(self.take(size), "little")

    def size(self) -> int:
        """The next CompactSize, in its shortest form."""
        first = self.number(1)
        if first < 0xFD:
            return first
        width = 2 << first - 0xFD
        if (value := self.number(width)) < (0xFD if width == 2 else 1 << 4 * width):
            raise TransactionMalformed("CompactSize", f"{value} in {width} bytes")
        return value

    def count(self, least_bytes: int) -> int:
        """The next CompactSize, of items of at least so many bytes: more than can follow is refused at once."""
        count = self.size()
        if count * least_bytes > len(self._data) - self._at:
            raise TransactionMalformed("count", f"{count} items in {len(self._data) - self._at} bytes")
        return count

    def end(self) -> None:
        """Nothing is left."""
        if self._at != len(self._data):
            raise TransactionMalformed("bytes", f"{len(self._data) - self._at} left over")


def encode_size(value: int) -> bytes:
    """CompactSize."""
    if value < 0xFD:
        return value.to_bytes(1, "little")
    for prefix, width in ((0xFD, 2), (0xFE, 4)):
        if not value >> 8 * width:
            return prefix.to_bytes(1, "little") + value.to_bytes(width, "little")
    return b"\xff" + value.to_bytes(8, "little")


def _sized(data: bytes) -> bytes:
    return encode_size(len(data)) + data
