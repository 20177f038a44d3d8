"""The protection file: what a key may sign after what it signed before, whatever a node says."""

import json
from dataclasses import replace

import pytest

from hyperdust.signer.errors import AnotherRound, NotContinued, ProtectionFault, RoundWithheld
from hyperdust.signer.protection import FIRST, Protection, Version

LEADER, OTHER = "aa" * 32, "bb" * 32


def txid(number):
    return number.to_bytes(32, "big").hex()


def vault(number):
    return f"{txid(number)}:0"


def version(place, number, *, inputs=(), leader=LEADER, height=100, signed=True):
    return Version(place, txid(number), tuple(inputs), leader, 2_000, height, "00", "00", signed=signed)


def no_walk(_):
    return iter(())


def walk_of(*rows):
    return lambda _: iter(rows)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "signed.json"


@pytest.fixture
def open_file(path):
    opened = []

    def again():
        if opened:
            opened.pop().close()
        opened.append(Protection(path))
        return opened[-1]

    yield again
    for one in opened:
        one.close()


def put(file, one, walk=no_walk, dead=frozenset()):
    file.check(one, 3, walk, dead)
    file.record(one)


def test_what_was_signed_is_there_after_a_restart(open_file):
    put(open_file(), version(vault(1), 2))
    again = open_file()
    assert again.vaults == (vault(1),)
    assert [one.txid for one in again.versions(vault(1))] == [txid(2)]
    with pytest.raises(AnotherRound):
        put(again, version(vault(1), 3, leader=OTHER))
    put(again, version(vault(1), 2))


def test_a_second_process_is_kept_out(open_file, path):
    open_file()
    with pytest.raises(ProtectionFault):
        Protection(path)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"version": 2}', "[1, 2", '{"version": 1, "vaults": ["x"], "versions": []}']
)
def test_a_damaged_file_signs_nothing_and_stays(path, text):
    path.write_text(text)
    with pytest.raises(ProtectionFault):
        Protection(path)
    assert path.read_text() == text


def test_a_signed_round_missing_in_the_list_is_damage(open_file, path):
    put(open_file(), version(vault(1), 2))
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "vaults": []}))
    with pytest.raises(ProtectionFault):
        open_file()


def test_versions_of_one_vault_wait_for_each_other(open_file):
    file = open_file()
    put(file, version(vault(1), 2))
    with pytest.raises(AnotherRound):
        put(file, version(vault(1), 3, leader=OTHER, height=102))
    put(file, version(vault(1), 3, leader=OTHER, height=103))


def test_who_withheld_a_round_waits_longer(open_file):
    file = open_file()
    put(file, version(vault(1), 2))
    with pytest.raises(RoundWithheld):
        put(file, version(vault(1), 3, height=103))
    file.mark_seen(txid(2))
    put(file, version(vault(1), 3, height=103))
    with pytest.raises(RoundWithheld):
        put(file, version(vault(1), 4, height=108))
    put(file, version(vault(1), 4, height=115))


def test_a_vault_has_to_follow_from_what_was_signed(open_file):
    file = open_file()
    put(file, version(vault(1), 2))
    with pytest.raises(NotContinued):
        put(file, version(vault(7), 8))
    with pytest.raises(NotContinued):
        put(file, version(vault(7), 8), walk_of((vault(6),), (vault(5),)))
    put(file, version(vault(7), 8), walk_of((vault(6),), (vault(1), "cc:1")))
    assert file.vaults == (vault(1), vault(7))


def test_after_a_reorganisation_an_earlier_vault_is_signed_for_again(open_file):
    file = open_file()
    put(file, version(vault(1), 2))
    put(file, version(vault(2), 3), walk_of((vault(1),)))
    put(file, version(vault(1), 9, height=130, leader=OTHER))


def test_a_key_that_signed_for_a_vault_begins_no_second_list(open_file):
    """A wiped node says that there is no vault yet."""
    file = open_file()
    put(file, version(vault(1), 2))
    with pytest.raises(NotContinued):
        put(file, version(FIRST, 5, inputs=["aa:0"], height=300))


def test_first_rounds_share_an_input(open_file):
    file = open_file()
    put(file, version(FIRST, 1, inputs=["aa:0", "bb:0"]))
    with pytest.raises(NotContinued):
        put(file, version(FIRST, 2, inputs=["cc:0"], height=200, leader=OTHER))
    put(file, version(FIRST, 3, inputs=["bb:0", "cc:0"], height=200, leader=OTHER))
    with pytest.raises(NotContinued):
        put(file, version(FIRST, 4, inputs=["cc:0"], height=300))
    put(file, version(FIRST, 4, inputs=["cc:0"], height=300), dead=frozenset({txid(1)}))


def test_the_first_vault_spends_what_every_first_round_spends(open_file):
    file = open_file()
    put(file, version(FIRST, 1, inputs=["aa:0", "bb:0"]))
    with pytest.raises(NotContinued):
        put(file, version(vault(9), 10), walk_of(("cc:0",)))
    put(file, version(vault(1), 10), walk_of(("aa:0", "dd:0")))


def test_a_file_that_is_new_takes_the_vault_that_there_is(open_file):
    put(open_file(), version(vault(5), 6))


def test_what_is_heard_of_is_not_what_was_signed(open_file):
    file = open_file()
    file.record(version(vault(1), 2, signed=False))
    assert file.vaults == ()
    put(file, version(vault(1), 3))
    file.record(replace(version(vault(1), 3, signed=False), raw="0102"))
    (_, kept) = file.versions(vault(1))
    assert (kept.signed, kept.raw) == (True, "0102")


def test_it_stays_small_and_forgets_what_was_not_signed_first(open_file):
    file = open_file()
    put(file, version(vault(1), 2))
    for number in range(200):
        file.record(version(vault(1), 1_000 + number, signed=False))
    assert len(file.all_versions) <= 48
    assert file.versions(vault(1))[0].txid == txid(2)


def test_a_full_disk_lets_no_signature_out(open_file, monkeypatch):
    file = open_file()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(ProtectionFault):
        put(file, version(vault(1), 2))
    monkeypatch.undo()
    assert file.vaults == ()


def by(path, number, **given):
    return replace(version(vault(1), number, **given), path=path)


def test_a_script_version_stands_in_for_one_that_all_should_have_signed(open_file):
    file = open_file()
    put(file, by("key", 2))
    for other in (by("script", 3, leader=OTHER), replace(by("script", 3), rate=2_001), by("key", 3)):
        with pytest.raises(AnotherRound):
            put(file, other)
    put(file, by("script", 3))
    with pytest.raises(AnotherRound):
        put(open_file(), by("script", 4))


def test_nobody_withholds_more_for_it(open_file):
    """What stood in is looked at in the place of the other, after a restart too."""
    put(open_file(), by("key", 2))
    put(open_file(), by("script", 3))
    with pytest.raises(RoundWithheld):
        put(open_file(), by("script", 4, height=103))
    file = open_file()
    file.mark_seen(txid(3))
    put(file, by("script", 4, height=103))


def test_a_key_version_that_bitcoin_has_needs_nothing_in_its_place(open_file):
    file = open_file()
    put(file, by("key", 2))
    file.mark_seen(txid(2))
    with pytest.raises(AnotherRound):
        put(file, by("script", 3))
    put(file, by("script", 3, height=103))


def test_files_of_before_there_was_a_key_path(open_file, path):
    put(open_file(), version(vault(1), 2))
    content = json.loads(path.read_text())
    for one in content["versions"]:
        del one["path"]
    path.write_text(json.dumps(content))
    (kept,) = open_file().versions(vault(1))
    assert kept.path == "script"
