"""Compile the predeployed contracts: genesis/artifacts/<Name>.json, and their code hashes in genesis/<network>.json.

`make genesis` runs it; `--check` writes nothing and fails if anything would change.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import boa
import vyper
from Crypto.Hash import keccak
from vyper.compiler import compile_from_file_input
from vyper.compiler.input_bundle import FilesystemInputBundle

ROOT: Final = Path(__file__).resolve().parents[1]
CONTRACTS: Final = (
    "GraphRegistry",
    "Bonds",
    "JobMarket",
    "Dust",
    "Court",
    "Bridge",
    "AgentFactory",
    "Scheduler",
    "Agent",
    "AgentCoin",
    "AgentItems",
)
NETWORKS: Final = ("regtest", "main")
CODE_BYTES_MAX: Final = 24_576  # EIP-170
BUILD_ADDRESS: Final = "0x00000000000000000000000000000000000feed1"
"""Where constructors run. No network has code here, so that what a module caches for its own address is never used."""


def compile_contract(path: Path) -> dict[str, Any]:
    """Return a contract's artifact; equal bytes on every machine."""
    site_packages = Path(vyper.__file__).resolve().parents[1]
    bundle = FilesystemInputBundle([site_packages, path.parent])
    compiled = compile_from_file_input(
        bundle.load_file(path), input_bundle=bundle, output_formats=["abi", "bytecode", "bytecode_runtime"]
    )
    code = deploy(bytes.fromhex(compiled["bytecode"].removeprefix("0x")))
    # A constructor may only append immutables: whatever else it does is lost in a predeploy.
    if not code.startswith(bytes.fromhex(compiled["bytecode_runtime"].removeprefix("0x"))):
        raise SystemExit(f"{path.name}: the deployed code is not the compiled runtime code")
    if len(code) > CODE_BYTES_MAX:
        raise SystemExit(f"{path.name}: {len(code)} bytes of code, limit {CODE_BYTES_MAX}")
    return {
        "abi": compiled["abi"],
        "bytecode": "0x" + code.hex(),
        "source_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "compiler": f"vyper {version('vyper')}, snekmate {version('snekmate')}",
    }


def deploy(initcode: bytes) -> bytes:
    """Return the runtime code that initcode leaves behind, immutables included."""
    environment = boa.Env()
    _, code = environment.deploy_code(bytecode=initcode, override_address=boa.util.abi.Address(BUILD_ADDRESS))
    return bytes(code)


def hash_code(artifact: Mapping[str, Any]) -> str:
    """Return keccak256 of the runtime code, as genesis pins it."""
    code = bytes.fromhex(artifact["bytecode"].removeprefix("0x"))
    return "0x" + keccak.new(digest_bits=256, data=code).hexdigest()


def build(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield every file that the sources determine, with its content."""
    hashes = {}
    for name in CONTRACTS:
        artifact = compile_contract(root / "contracts" / f"{name}.vy")
        hashes[name] = hash_code(artifact)
        yield root / "genesis" / "artifacts" / f"{name}.json", _dump(artifact)
    for network in NETWORKS:
        path = root / "genesis" / f"{network}.json"
        table = json.loads(path.read_text(encoding="utf-8"))
        for name in CONTRACTS:
            table["contracts"][name]["code_hash"] = hashes[name]
        yield path, _dump(table)


def _dump(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if something would change")
    check = parser.parse_args(arguments).check
    changed = []
    for path, content in build(ROOT):
        if path.exists() and path.read_text(encoding="utf-8") == content:
            continue
        changed.append(path.relative_to(ROOT).as_posix())
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
    for name in changed:
        print(f"{'differs from its source' if check else 'wrote'}: {name}")
    if check and changed:
        print("run `make genesis` and commit what it writes", file=sys.stderr)
    return int(check and bool(changed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
