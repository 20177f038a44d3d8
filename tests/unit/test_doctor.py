import json

from hyperdust import doctor
from hyperdust.cli.app import run
from hyperdust.doctor import Finding


def test_versions_compare_as_numbers():
    assert doctor._numbers("1.100.0-nightly") > doctor._numbers("1.94.1")
    assert doctor._numbers("1.94.1") == doctor._numbers("1.94.1 (abc 2026-01-01)")


def test_the_pins_are_read_from_pyproject():
    text = doctor._base_dependencies()
    assert '"plyvel==' in text
    assert "pytest" not in text


def test_a_missing_cargo_names_rustup_and_the_version(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda *_, **__: None)
    (finding,) = doctor._cargo()
    assert finding.verdict == "warn"
    assert doctor._needed_rust() in finding.text
    assert "https://rustup.rs" in finding.next


def test_missing_headers_name_the_package_to_install(monkeypatch):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda _: None)
    findings = [finding for finding in doctor._headers() if finding.verdict == "fail"]
    assert ["leveldb/db.h" in findings[0].text, "libleveldb-dev" in findings[0].next] == [True, True]
    assert ["secp256k1.h" in findings[1].text, "libsecp256k1-dev" in findings[1].next] == [True, True]


def test_a_failure_exits_1_and_shows_the_next_command(monkeypatch, capsys):
    findings = [Finding("a", "ok", "fine"), Finding("b", "fail", "broken", "mend it")]
    monkeypatch.setattr(doctor, "examine", lambda _: findings)
    assert run(["doctor"]) == 1
    assert "next: mend it" in capsys.readouterr().out
    assert run(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False
    findings.pop()
    assert run(["doctor"]) == 0
