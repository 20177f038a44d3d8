"""Ethereum's state tests, made by others: all forks' rules as EELS filled them."""

import tarfile
from pathlib import Path

import pytest

from hyperdust.statetest import run_files

ARCHIVE = Path(__file__).parents[2] / ".." / "shared" / "vectors" / "state_tests.tar.xz"
CASES = 2252


def test_all_state_tests(tmp_path):
    if not ARCHIVE.exists():
        pytest.skip("../shared/vectors/state_tests.tar.xz is absent")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    results = list(run_files(sorted(tmp_path.rglob("*.json"))))
    assert [result for result in results if not result["pass"]] == []
    assert len(results) == CASES
