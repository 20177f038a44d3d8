import json

import pytest

from hyperdust.cli.app import build_app, run


def leaves(command, path=()):
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        yield from leaves(child, (*path, name))


COMMANDS = dict(leaves(build_app()))


def test_the_commands_of_the_interface_are_there():
    wanted = {
        ("devnet",), ("node",), ("miner",), ("job", "ask"), ("graph", "run"), ("graph", "list"), ("graph", "check"),
        ("graph", "register"), ("graph", "backends"), ("wallet", "new"), ("wallet", "list"), ("wallet", "send"),
        ("wallet", "balance"), ("status",), ("doctor",), ("statetest",), ("bridge", "audit"),
        ("bridge", "deposit"), ("bridge", "withdraw"), ("bridge", "status"),
    }  # fmt: skip
    assert wanted <= set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_each_option_has_its_environment_variable_and_each_command_takes_config_and_shows_examples(path):
    command = COMMANDS[path]
    options = [param for param in command.params if param.param_type_name == "option"]
    assert "--config" in {name for option in options for name in option.opts}
    for option in options:
        longest = max(option.opts, key=len)
        assert option.envvar == "HYPERDUST_" + longest[2:].replace("-", "_").upper()
    assert "Example" in command.help


def test_commands_that_answer_take_json():
    long_running = {("devnet",), ("node",), ("miner",), ("companion",), ("signer",), ("bridge", "publish-data")}
    for path in set(COMMANDS) - long_running:
        assert any("--json" in param.opts for param in COMMANDS[path].params), path


def test_an_expected_error_is_one_sentence_on_stderr_with_the_next_command(capsys):
    assert run(["status", "--rpc", "http://127.0.0.1:1"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: no node answers at http://127.0.0.1:1")
    assert "hyperdust devnet" in shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("arguments", [["frob"], ["devnet", "--miners", "0"], ["wallet", "send"], ["statetest"]])
def test_a_usage_error_exits_2(arguments, capsys):
    assert run(arguments) == 2
    assert capsys.readouterr().out == ""


def test_more_nodes_than_one_are_refused_by_name(capsys):
    assert run(["devnet", "--nodes", "2"]) == 1
    assert "peer to peer is not built" in capsys.readouterr().err


def test_defaults_come_from_the_command_line_then_environment_then_file(tmp_path, monkeypatch, capsys):
    file = tmp_path / "hyperdust.toml"
    folder = tmp_path / "none"
    file.write_text(f'json = true\n[wallet.list]\nfolder = "{folder}"\n')
    assert run(["wallet", "list", "--config", str(file)]) == 0
    assert json.loads(capsys.readouterr().out) == []
    monkeypatch.setenv("HYPERDUST_CONFIG", str(file))
    monkeypatch.setenv("HYPERDUST_JSON", "0")
    assert run(["wallet", "list"]) == 0
    assert "hyperdust wallet new" in capsys.readouterr().out


def test_a_config_that_cannot_be_read_is_named(tmp_path, capsys):
    assert run(["wallet", "list", "--config", str(tmp_path / "none.toml")]) == 1
    assert "none.toml" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", '{"x": 1}', '{"x": {"pre": {}}}'])
def test_what_is_no_state_test_is_named(tmp_path, capsys, content):
    (tmp_path / "a.json").write_text(content)
    assert run(["statetest", str(tmp_path / "a.json")]) == 1
    assert "a.json" in capsys.readouterr().err
