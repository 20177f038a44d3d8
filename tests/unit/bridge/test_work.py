import pytest

from bridge.errors import BadTarget
from bridge.params import MAIN, NETWORKS, REGTEST
from bridge.work import (
    check_target,
    compact_to_target,
    compute_retarget,
    compute_work,
    sha256d,
    show_hash,
    target_to_compact,
)

GENESIS = {
    "main": "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
    "test": "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943",
    "testnet4": "00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043",
    "signet": "00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6",
    "regtest": "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
}


@pytest.mark.parametrize("name", GENESIS)
def test_genesis_of_every_network(name):
    params = NETWORKS[name]
    assert show_hash(sha256d(params.genesis)) == GENESIS[name]
    assert int.from_bytes(sha256d(params.genesis), "little") <= check_target(params, params.easiest_bits)


@pytest.mark.parametrize(  # Bitcoin Core, arith_uint256_tests.cpp
    ("bits", "target", "canonical"),
    [
        (0x01120000, 0x12, 0x01120000),
        (0x01123456, 0x12, 0x01120000),
        (0x02008000, 0x80, 0x02008000),
        (0x02123456, 0x1234, 0x02123400),
        (0x03123456, 0x123456, 0x03123456),
        (0x04123456, 0x12345600, 0x04123456),
        (0x05009234, 0x92340000, 0x05009234),
        (0x20123456, 0x123456 << 232, 0x20123456),
        (0x207FFFFF, 0x7FFFFF << 232, 0x207FFFFF),
        (0x2100FFFF, 0xFFFF << 240, 0x2100FFFF),
        (0x220000FF, 0xFF << 248, 0x2100FF00),
        (0x1D00FFFF, 0xFFFF << 208, 0x1D00FFFF),
    ],
)
def test_compact_targets(bits, target, canonical):
    assert compact_to_target(bits) == target
    assert target_to_compact(target) == canonical


ZERO = (0, 0x00123456, 0x01003456, 0x02000056, 0x03000000, 0x04000000)
NEGATIVE = (0x01FEDCBA, 0x04923456, 0x1D80FFFF)
OVERFLOWING = (0xFF123456, 0x23000001, 0x22000100, 0x21010000)


@pytest.mark.parametrize("bits", [*ZERO, *NEGATIVE, *OVERFLOWING])
def test_no_targets(bits):
    with pytest.raises(BadTarget):
        compact_to_target(bits)


def test_a_target_above_the_limit_is_refused():
    assert check_target(REGTEST, 0x207FFFFF) == 0x7FFFFF << 232
    for params, bits in ((MAIN, 0x1D010000), (MAIN, 0x207FFFFF), (REGTEST, 0x21008000)):
        with pytest.raises(BadTarget):
            check_target(params, bits)


@pytest.mark.parametrize(  # Bitcoin Core, pow_tests.cpp
    ("first", "last", "bits", "expected"),
    [
        (1261130161, 1262152739, 0x1D00FFFF, 0x1D00D86A),
        (1231006505, 1233061996, 0x1D00FFFF, 0x1D00FFFF),  # not easier than the limit
        (1279008237, 1279297671, 0x1C05A3F4, 0x1C0168FD),  # at most four times harder
        (1263163443, 1269211443, 0x1C387F6F, 0x1D00E1FD),  # at most four times easier
    ],
)
def test_retargets(first, last, bits, expected):
    assert compute_retarget(MAIN, bits, last - first) == expected


def test_time_that_runs_backward_counts_as_the_least():
    assert compute_retarget(MAIN, 0x1C05A3F4, -1) == compute_retarget(MAIN, 0x1C05A3F4, 0)


def test_regtest_does_not_retarget():
    assert compute_retarget(REGTEST, 0x207FFFFF, 1) == 0x207FFFFF


def test_work():
    assert compute_work(compact_to_target(0x1D00FFFF)) == 0x100010001
    assert compute_work(compact_to_target(0x207FFFFF)) == 2
