"""Keys of signers, councils and users for tests, and their signatures."""

from btclib.script.taproot import output_prvkey_from_merkle_root
from btclib_ecc.ecc import ssa

from bridge.scripts import Binding, Custody, SignerSet

SECRETS = {}


def make_key(number: int) -> bytes:
    """An x-only public key; its secret is kept in SECRETS."""
    secret, x = ssa.gen_keys(number)
    key = x.to_bytes(32, "big")
    SECRETS[key] = secret
    return key


def sign(key: bytes, message: bytes) -> bytes:
    return ssa.sign_(message, SECRETS[key]).serialize()


def sign_tweaked(key: bytes, merkle_root: bytes, message: bytes) -> bytes:
    """By the output key that an internal key and a tree make."""
    return ssa.sign_(message, output_prvkey_from_merkle_root(SECRETS[key], merkle_root)).serialize()


def make_signers(first: int, count: int, threshold: int, *, group: bool = False) -> SignerSet:
    keys = tuple(sorted(make_key(number) for number in range(first, first + count)))
    return SignerSet(threshold, keys, make_key(first + 5000) if group else b"")


def make_custody(epoch: int = 0, count: int = 3, threshold: int = 2, *, group: bool = False) -> Custody:
    return Custody(epoch, make_signers(100 + epoch, count, threshold, group=group), make_signers(900, 3, 2))


def make_binding(user: int = 1, max_fee: int = 10_000, epoch: int = 0) -> Binding:
    return Binding(make_key(user), bytes([user % 256]) * 20, max_fee, epoch)
