"""Ethereum's JSON-RPC vectors: a node serves a chain through every fork, each request gets the answer that is written.

Compared as hive's rpc-compat does: exact JSON, error messages aside; files marked `speconly` for their shape alone.
"""

import json
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import httpx
import pytest

ARCHIVE = Path(__file__).parents[2] / ".." / "shared" / "vectors" / "execution_apis.tar.xz"
START_S = 60
KNOWN_FAILURES: dict[str, str] = {}


def vectors():
    if not ARCHIVE.exists():
        return []
    with tarfile.open(ARCHIVE) as archive:
        names = sorted(name.removeprefix("./") for name in archive.getnames() if name.endswith(".io"))
    known = {name: [pytest.mark.xfail(strict=True, reason=reason)] for name, reason in KNOWN_FAILURES.items()}
    return [pytest.param(name, id=name, marks=known.get(name, [])) for name in names]


def free_port():
    """One that is free together with the next, where WebSocket goes."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if not ARCHIVE.exists():
        pytest.skip("../shared/vectors/execution_apis.tar.xz is absent")
    made = tmp_path_factory.mktemp("execution_apis")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(made, filter="data")
    return made


@pytest.fixture(scope="module")
def ask(folder, tmp_path_factory):
    """Send one request's text to a node that imported the chain; answers are parsed."""
    port = free_port()
    command = [sys.executable, "-m", "hyperdust.cli", "node", "--no-seal"]
    command += ["--genesis", folder / "genesis.json", "--import", folder / "chain.rlp"]
    command += ["--rpc-port", str(port), "--data-dir", tmp_path_factory.mktemp("node")]
    log = folder / "node.log"
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as node:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                wait_until_ready(client, node, log)
                headers = {"content-type": "application/json"}
                yield lambda text: client.post("/", content=text, headers=headers).json()
        finally:
            node.terminate()
    assert node.returncode == 0, log.read_text()


def wait_until_ready(client, node, log):
    deadline = time.monotonic() + START_S
    while True:
        try:
            client.get("/ready").raise_for_status()
        except httpx.HTTPError:
            assert node.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        else:
            return


@pytest.mark.parametrize("name", vectors())
def test_answers_are_those_of_the_vector(name, folder, ask):
    lines = (folder / name).read_text().splitlines()
    only_shape = any(line.startswith("//") and "speconly" in line for line in lines)
    compare = differences_of_shape if only_shape else differences
    request = None
    answered = 0
    for line in lines:
        if line.startswith(">>"):
            request = line[2:].strip()
        elif line.startswith("<<"):
            assert compare(ask(request), json.loads(line[2:]), "") == [], request
            answered += 1
    assert answered


def differences(got, expected, path):
    """Where two answers differ; words of errors do not count."""
    if isinstance(got, dict) and isinstance(expected, dict):
        names = sorted(got.keys() ^ expected.keys())
        found = [f"{path}.{name}: {'extra' if name in got else 'missing'}" for name in names]
        for name in got.keys() & expected.keys():
            if not (name == "message" and path.endswith("error")):
                found += differences(got[name], expected[name], f"{path}.{name}")
        return found
    if isinstance(got, list) and isinstance(expected, list) and len(got) == len(expected):
        return [
            difference
            for index, (one, other) in enumerate(zip(got, expected, strict=True))
            for difference in differences(one, other, f"{path}[{index}]")
        ]
    same = got == expected and isinstance(got, bool) == isinstance(expected, bool)
    return [] if same else [f"{path}: got {got}, expected {expected}"]


def differences_of_shape(got, expected, path):
    """Where two answers have other fields, or other types of values."""
    if isinstance(expected, dict) and isinstance(got, dict):
        names = sorted(got.keys() ^ expected.keys())
        found = [f"{path}.{name}: {'extra' if name in got else 'missing'}" for name in names]
        for name in got.keys() & expected.keys():
            found += differences_of_shape(got[name], expected[name], f"{path}.{name}")
        return found
    if isinstance(expected, list) and isinstance(got, list):
        models = [expected[min(index, len(expected) - 1)] for index in range(len(got))] if expected else []
        return [
            difference
            for index, (one, model) in enumerate(zip(got, models, strict=False))
            for difference in differences_of_shape(one, model, f"{path}[{index}]")
        ]
    return [] if kind_of(got) == kind_of(expected) else [f"{path}: got {got}, expected one like {expected}"]


def kind_of(value):
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value)
