"""Exact computations: graph run, list, check, compile, register, backends; and Ethereum's state tests."""
# ruff: noqa: PLC0415  # heavy modules load inside commands, so that --help answers at once

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from hyperdust.cli.options import (
    DEFAULT_RPC,
    Json,
    Key,
    Keystore,
    PasswordFile,
    Rpc,
    UsageFault,
    emit,
    group,
    read_password,
)

Graph = Annotated[str, typer.Option("--graph", help="A graph's name (`hyperdust graph list`), or its folder.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    graphs = group("Exact computations, on this machine.")
    graphs.command("run")(graph_run)
    graphs.command("list")(graph_list)
    graphs.command("check")(graph_check)
    graphs.command("compile")(graph_compile)
    graphs.command("register")(graph_register)
    graphs.command("backends")(graph_backends)
    app.add_typer(graphs, name="graph")
    app.command()(statetest)


def graph_run(
    graph: Graph = "minilm",
    text: Annotated[
        str | None, typer.Option("--text", help="Words to answer. Default: the graph's own example.")
    ] = None,
    input_file: Annotated[
        Path | None,
        typer.Option("--input", metavar="FILE", help="Input tensors as raw little-endian bytes; for a render, JSON."),
    ] = None,
    backend: Annotated[str, typer.Option("--backend", help="See `hyperdust graph backends`.")] = "native",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write a render's image, as PNG.")] = None,
    as_json: Json = False,
) -> None:
    """Execute a graph without the chain: the trace root is the one that a provider commits to.

    Examples:
      hyperdust graph run --graph minilm --text "Bitcoin is electronic cash"
      hyperdust graph run --graph minilm --backend reference --json
      hyperdust graph run --graph render_island --out island.png
      hyperdust graph run --graph llama-tiny --text "A block is"
    """
    from hyperdust.graph import run
    from hyperdust.job import show_output

    streamed = None if as_json else (lambda part: print(part, end="", flush=True))
    found = run(graph, text=text, input_file=input_file, backend=backend, out=out, on_text=streamed)
    emit(
        found,
        as_json=as_json,
        text=("\n" if "text" in found else "") + f"trace root {found['trace_root']}\n{show_output(found['output'])}\n"
        f"{found['operators']} operators, {found['macs']:,} MACs in {found['seconds']:.3f} s",
    )


def graph_list(as_json: Json = False) -> None:
    """Graphs that this program knows.

    Example:
      hyperdust graph list --json
    """
    from hyperdust.graph import list_graphs

    found = list_graphs()
    emit(found, as_json=as_json, text="\n".join(f"{row['name']}  {row['id']}" for row in found))


def graph_check(graph: Graph = "minilm", as_json: Json = False) -> None:
    """How close the exact integers come to the floating-point model that they were made from.

    Example:
      hyperdust graph check --graph minilm
    """
    from hyperdust.graph import check

    found = check(graph)
    emit(found, as_json=as_json, text="  ".join(f"{name} {value}" for name, value in found.items()))


def graph_compile(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="module.py:NAME of a torch module, a Hugging Face folder, a .gltf or a .glb file."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write; made where it is not.")],
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", metavar="FILE", help="Texts, one a line; or .safetensors with inputs 0.x, 1.x."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the graph. Default: the source's.")] = None,
    mining: Annotated[
        str, typer.Option("--mining", help="Products with 7-bit operands, which may be mined: none, some, all.")
    ] = "some",
    as_json: Json = False,
) -> None:
    """Turn a model into an exact graph and say how close it stays and what it costs.

    A torch module is your own code and is run; folders and scenes are data and are not.

    Examples:
      hyperdust graph compile my_model.py:Classifier --out classifier
      hyperdust graph compile ./bge-small --out bge --calibration texts.txt
      hyperdust graph run --graph bge --text "useful work"
    """
    from typing import cast, get_args

    from hyperdust.compile import Options, compile_source
    from hyperdust.compile_show import progress_bar, report_table
    from pouw.compiler.lowering import Mining

    if mining not in get_args(Mining):
        raise UsageFault(f"--mining {mining}: none, some or all")
    with progress_bar() as tick:
        found = compile_source(Options(source, out, calibration, name, cast("Mining", mining)), tick)
    emit(found, as_json=as_json, text=report_table(found))


def graph_register(
    graph: Annotated[
        str, typer.Option("--graph", help="A folder that `graph compile` wrote, a *.graph file, or a graph's name.")
    ],
    royalty: Annotated[
        int | None,
        typer.Option("--royalty-bps", min=0, max=1500, help="What you take of each job's fee, in 1/10,000; said once."),
    ] = None,
    parent: Annotated[
        str | None, typer.Option("--parent", metavar="ID", help="Graph that it was made from: its owner gets his part.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check it and say what it would cost; send nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Pay without a question.")] = False,
    finish: Annotated[
        bool,
        typer.Option("--finish", help="Add what is missing of a graph that somebody else began: it will be theirs."),
    ] = False,
    keystore: Keystore = None,
    key: Key = None,
    password_file: PasswordFile = None,
    rpc: Rpc = DEFAULT_RPC,
    as_json: Json = False,
) -> None:
    """Put a graph on the chain, as yours, so that anyone can ask it and serve it.

    Its file is checked by every node; the constants stay with those who serve it. Takes two blocks, and one more for
    each part of a large graph. Stopped in the middle, it goes on where it was.

    Examples:
      hyperdust graph register --graph ./bge --keystore me.json
      hyperdust graph register --graph ./qwen --keystore me.json --dry-run
      hyperdust graph register --graph ./bge-tuned --parent 0x3f… --royalty-bps 300 --yes
      hyperdust miner --graph ./bge --graph minilm --keystore miner.json
    """
    from hyperdust.compile_show import progress_bar
    from hyperdust.graph import read_graph
    from hyperdust.registration import Lineage, plan, register
    from hyperdust.rpc_client import RpcClient
    from hyperdust.wallet import load_account, show_btc

    lineage = None
    if royalty is not None or parent is not None:
        lineage = Lineage(_graph_id(parent) if parent else bytes(32), royalty or 0)
    structure = read_graph(graph)
    with RpcClient(rpc) as client:
        account = load_account(client.quantity("eth_chainId"), keystore, key, lambda: read_password(password_file))
        planned = plan(client, account.address, structure, lineage, finish=finish)
        costs = planned.as_json(client.quantity("eth_gasPrice"))
        said = (
            f"{planned.name}  {costs['graph']}\n{planned.transactions} transactions, at most {planned.gas:,} gas, now "
            f"{show_btc(int(costs['wei_at_most']))}; the owner will be {planned.owner}"
        )
        if dry_run:
            emit(costs, as_json=as_json, text=said)
            return
        if planned.transactions and not yes and sys.stdin.isatty():
            print(said, file=sys.stderr)
            typer.confirm("Pay this?", abort=True, err=True)
        with progress_bar() as tick:
            found = register(client, account, structure, lineage, finish=finish, tick=tick)
    emit(
        found,
        as_json=as_json,
        text=f"{found['name']}  {found['graph']}\nregistered, owned by {found['owner']}: {found['bytes']:,} bytes, "
        f"{len(found['transactions'])} transactions, {found['gas']:,} gas\nserve it: hyperdust miner --graph {graph}",
    )


def _graph_id(text: str) -> bytes:
    try:
        identity = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        identity = b""
    if len(identity) != 32:
        raise UsageFault(f"--parent {text}: the id of a graph is 0x and 64 hex digits (`hyperdust graph list`)")
    return identity


def graph_backends(as_json: Json = False) -> None:
    """Which implementations of the operators work on this machine, and why others do not.

    Example:
      hyperdust graph backends --json
    """
    from hyperdust.graph import backends

    found = backends()
    lines = [f"{name}  available" for name in found["available"]]
    lines += [f"{name}  unavailable: {reason}" for name, reason in found["unavailable"].items()]
    emit(found, as_json=as_json, text="\n".join(lines))


def statetest(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Ethereum state tests, JSON.")],
    as_json: Json = True,
) -> None:
    """Run Ethereum's own state tests: one JSON line per case. Exit code 1 where a case fails.

    Example:
      hyperdust statetest shared/vectors/state_tests/*.json
    """
    from hyperdust.statetest import run_files

    del as_json  # programs read it: always JSON
    failed = 0
    for file in files:
        _check_state_test(file)
    for result in run_files(files):
        failed += not result["pass"]
        print(json.dumps(result))
    if failed:
        raise typer.Exit(1)


def _check_state_test(file: Path) -> None:
    try:
        tests = json.loads(file.read_bytes())
    except ValueError as error:
        raise UsageFault(f"{file}: not JSON: {error}") from error
    cases = tests.values() if isinstance(tests, dict) else [None]
    if not all(isinstance(case, dict) and {"env", "pre", "post"} <= set(case) for case in cases):
        raise UsageFault(f"{file}: no Ethereum state test (env, pre, transaction, post are expected)")
