"""The root folders are packages with common names: nothing installed may shadow them."""

import importlib.util
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("package", ["chain", "pouw", "consensus", "bridge", "precompiles", "hyperdust"])
def test_no_stranger_shadows_our_package(package):
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert Path(spec.origin).parent == ROOT / package
    owners = set(packages_distributions().get(package, [])) - {"hyperdust"}
    assert not owners, f"{owners} install a package {package} too; remove them from .venv"


def test_genesis_is_data_and_never_imported():
    assert not (ROOT / "genesis" / "__init__.py").exists()


def test_the_metadata_is_sane():
    ours = distribution("hyperdust")
    assert ours.metadata["License-Expression"] == "GPL-3.0-or-later"
    assert ours.metadata["Requires-Python"] == ">=3.11"
    (command,) = [entry for entry in ours.entry_points if entry.name == "hyperdust"]
    assert command.value == "hyperdust.cli:main"
    assert callable(command.load())


def test_importing_the_command_line_loads_nothing_heavy():
    import subprocess
    import sys

    script = (
        "import sys, hyperdust.cli; print([m for m in ('numpy', 'web3', 'eth_account', 'torch') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"
