"""Keys of signers, councils and users for tests, and their signatures."""

from btclib.script.taproot import output_prvkey_from_merkle_root
from btclib_ecc.ecc import musig2, ssa
from btclib_ecc.hashes import tagged_hash

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


def group_key_of(keys) -> bytes:
    """BIP-327's aggregate, x-only."""
    return musig2.key_agg([b"\x02" + key for key in keys]).Q[0].to_bytes(32, "big")


def sign_together(keys, merkle_root: bytes, message: bytes) -> bytes:
    """All of them, by the output key that their aggregate and a tree make."""
    plain = [b"\x02" + key for key in keys]
    tweak = tagged_hash(b"TapTweak", group_key_of(keys) + merkle_root)
    nonces = [musig2.nonce_gen(SECRETS[key], b"\x02" + key, msg=message) for key in keys]
    session = musig2.SessionContext(musig2.nonce_agg([public for _, public in nonces]), plain, [tweak], [True], message)
    parts = [musig2.sign(secret, SECRETS[key], session) for key, (secret, _) in zip(keys, nonces, strict=True)]
    return musig2.partial_sig_agg(parts, session).serialize()


def sign_draft(draft, *, together: bool = False):
    """The transaction, signed by the first k signers of each input or by all of them together."""
    signatures = []
    for one, message in zip(draft.inputs, draft.compute_sighashes(), strict=True):
        signers = one.custody.signers
        if together:
            signature = sign_together(signers.keys, one.output.merkle_root, message)
            signatures.append({one.output.output_key: signature})
        else:
            signatures.append({key: sign(key, message) for key in signers.keys[-signers.threshold :]})
    return draft.complete(signatures)
