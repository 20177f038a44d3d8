import json
import socket
from pathlib import Path

import pytest

from hyperdust import devnet, devnet_folder, devnet_ports
from hyperdust.devnet_folder import DevnetError
from hyperdust.devnet_ports import PortTaken

REGTEST = {"name": "regtest", "chain_id": 1, "genesis_timestamp": 0, "spacing_s": 6, "kept": {"x": 1}}


@pytest.fixture(autouse=True)
def regtest(tmp_path, monkeypatch):
    (tmp_path / "regtest.json").write_text(json.dumps(REGTEST))
    monkeypatch.setattr(devnet_folder, "TEMPLATE", tmp_path / "regtest.json")


def prepare(data_dir, seed=None, block_time_s=None):
    return devnet_folder.prepare_genesis(data_dir, seed, block_time_s)


def test_a_seed_fixes_the_chain_id_within_the_devnets_range():
    assert devnet_folder.make_genesis(REGTEST, 1_000_007, 3, 99) == {
        "name": "regtest", "chain_id": 48_000_007, "genesis_timestamp": 99, "spacing_s": 3, "kept": {"x": 1},
    }  # fmt: skip


def test_a_second_start_keeps_the_genesis(tmp_path):
    first = prepare(tmp_path)
    assert prepare(tmp_path) == first
    assert first["spacing_s"] == 2


def test_options_that_do_not_fit_the_kept_chain_are_refused_with_the_cure(tmp_path):
    prepare(tmp_path, seed=5, block_time_s=1)
    assert prepare(tmp_path, seed=5, block_time_s=1)["chain_id"] == 48_000_005
    with pytest.raises(DevnetError, match="--fresh"):
        prepare(tmp_path, seed=6)
    with pytest.raises(DevnetError, match="--fresh"):
        prepare(tmp_path, block_time_s=2)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"chain_id": "x", "spacing_s": 1}'])
def test_a_damaged_genesis_is_named_and_kept(tmp_path, content):
    (tmp_path / "genesis.json").write_text(content)
    with pytest.raises(DevnetError, match="damaged"):
        prepare(tmp_path)
    assert (tmp_path / "genesis.json").read_text() == content


def test_fresh_deletes_what_a_devnet_wrote_and_nothing_else(tmp_path):
    (tmp_path / "genesis.json").write_text("{}")
    (tmp_path / "node0").mkdir()
    (tmp_path / "mine.txt").write_text("kept")
    devnet_folder.wipe(tmp_path)
    assert not (tmp_path / "node0").exists()
    assert not (tmp_path / "genesis.json").exists()
    assert (tmp_path / "mine.txt").exists()


def test_fresh_leaves_a_folder_alone_that_is_no_devnets(tmp_path):
    (tmp_path / "node0").mkdir()
    devnet_folder.wipe(tmp_path)
    assert (tmp_path / "node0").exists()


def test_two_devnets_do_not_share_a_folder(tmp_path):
    with (
        devnet_folder.locked(tmp_path),
        pytest.raises(DevnetError, match="another devnet"),
        devnet_folder.locked(tmp_path),
    ):
        pass


def test_the_ready_file_is_replaced_at_once(tmp_path):
    path = tmp_path / "new" / "ready.json"
    devnet_folder.write_atomically(path, "one")
    devnet_folder.write_atomically(path, "two")
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def test_a_taken_port_is_named_with_the_next_command(monkeypatch):
    def refuse(_self, _address):
        raise OSError

    monkeypatch.setattr(socket.socket, "bind", refuse)
    monkeypatch.setattr(devnet_ports, "_owner", lambda _port: " by other (pid 7)")
    with pytest.raises(PortTaken, match=r"port 8546 \(ws\) is taken by other .* --rpc-port"):
        devnet_ports.check_ports({"ws": 8546})


def test_the_shipped_table_is_found():
    assert Path(devnet.__file__).parents[1].joinpath("genesis").is_dir()
