"""A job as something to execute: its graph with constants, its input as tensors, its symbols by name."""

from collections.abc import Mapping
from dataclasses import dataclass

from chain.errors import Malformed
from hyperdust.proto import work_pb2 as messages
from pouw.execution import Tensor, decode_tensors
from pouw.hypergraph import Hypergraph


@dataclass(frozen=True, slots=True)
class Task:
    """What an execution takes."""

    graph: Hypergraph
    constants: Mapping[bytes, Tensor]
    inputs: Mapping[str, Tensor]
    symbols: Mapping[str, int]


def read_task(job: messages.Job, graph: Hypergraph, constants: Mapping[bytes, Tensor]) -> Task:
    """Read a job of this graph.

    Raises:
        Invalid: symbols or input are none of this graph's, or the node does not know the input.
    """
    if not job.input:
        raise Malformed("job", "the node does not know its input")
    names = [symbol.name for symbol in graph.symbols]
    if len(job.symbols) != len(names):
        raise Malformed("job", f"{len(job.symbols)} symbols, the graph has {len(names)}")
    symbols = dict(zip(names, job.symbols, strict=True))
    graph.check_symbols(symbols)
    tensors = decode_tensors([port.type for port in graph.inputs], symbols, job.input)
    inputs = dict(zip((port.name for port in graph.inputs), tensors, strict=True))
    return Task(graph, constants, inputs, symbols)
