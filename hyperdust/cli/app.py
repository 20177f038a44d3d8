"""The command line: assembles the commands, gives each option its environment variable, turns errors into sentences."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from chain.errors import HyperdustError
from hyperdust.cli import agents, bridge, companions, custody, gateways, graphs, roles, signers, use
from hyperdust.cli.options import defaults_of, read_config

_EPILOG = "Every option NAME-X may be set as HYPERDUST_NAME_X, or in the TOML file given with --config."


def build_app() -> Any:
    """The click command: options get `HYPERDUST_<OPTION>`, and every command gets `--config`."""
    app = typer.Typer(
        name="hyperdust",
        help="Hyperdust: a Bitcoin L2 for AI. `hyperdust devnet` starts a whole network on this machine.",
        epilog=_EPILOG,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    roles.add_to(app)
    companions.add_to(app)
    signers.add_to(app)
    gateways.add_to(app)
    use.add_to(app)
    bridge.add_to(app)
    custody.add_to(app)
    agents.add_to(app)
    graphs.add_to(app)
    command = typer.main.get_command(app)
    _finish(command, (), _config_option())
    return command


def _finish(command: Any, path: tuple[str, ...], config: Any) -> None:
    children = getattr(command, "commands", None)
    if children is not None:
        for name, child in children.items():
            _finish(child, (*path, name), config)
        return
    command.params.append(config)
    for option in command.params:
        if option.param_type_name == "option" and not option.envvar:
            longest = max(option.opts, key=len)
            option.envvar = "HYPERDUST_" + longest.removeprefix("--").replace("-", "_").upper()


def _config_option() -> Any:
    """`--config`, taken from a command of its own: read before the others, it sets their defaults."""
    probe = typer.Typer()

    def take(context: typer.Context, value: Path | None) -> Path | None:
        if value is not None:
            names = {opt.lstrip("-"): p.name for p in context.command.params for opt in p.opts if p.name}
            found = defaults_of(read_config(value), tuple(context.command_path.split()[1:]))
            context.default_map = {names[name]: default for name, default in found.items() if name in names}
        return value

    @probe.command()
    def probed(
        config: Annotated[
            Path | None,
            typer.Option(
                "--config", metavar="FILE", is_eager=True, callback=take, help="Defaults of options, in TOML."
            ),
        ] = None,
    ) -> None:
        del config

    option = next(p for p in typer.main.get_command(probe).params if p.name == "config")
    option.expose_value = False
    return option


def main() -> None:
    """Entry point: exit code 0 only for success; expected errors are one sentence on stderr."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        outcome = build_app().main(arguments, prog_name="hyperdust", standalone_mode=False)
    except TyperException as error:
        show = getattr(error, "show", None)  # usage errors know how to show themselves
        if show is None:
            _complain(str(error))
        else:
            show()
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted")
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # `hyperdust … | head`: nobody reads on
        return 141
    except (HyperdustError, OSError) as error:
        _complain(str(error) or type(error).__name__)
        return 1
    except ExceptionGroup as group:  # what a nursery or a thread pool gathered
        expected, rest = group.split((HyperdustError, OSError))
        if rest is not None or expected is None:
            raise
        for leaf in _leaves(expected):
            _complain(str(leaf) or type(leaf).__name__)
        return 1
    return outcome if isinstance(outcome, int) else 0


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def _complain(sentence: str) -> None:
    print(f"error: {sentence}", file=sys.stderr)
