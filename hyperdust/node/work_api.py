"""The work API's server: templates and jobs go out, tickets and results come in. Trusts no miner.

A threaded gRPC server beside trio. Whatever bytes arrive, the answer is a verdict or a gRPC status with a reason.
Spec: docs/spec/work_api.md.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
import structlog

from chain.blocks import MAX_CERTIFICATE_BYTES
from chain.errors import HyperdustError, Invalid, NodeFault
from chain.hashing import H
from chain.params import ChainParams
from consensus.certificate import decode_certificate
from hyperdust.node.builder import Builder, Template
from hyperdust.node.importer import Imported, Importer, Outcome
from hyperdust.node.jobs import JobIndex
from hyperdust.node.mempool import AlreadyKnown, Mempool, load_account
from hyperdust.node.questions import Questions, check_message
from hyperdust.node.store import Head, Store
from hyperdust.node.votes import Votes, link_message
from hyperdust.node.work_messages import (
    encode_address,
    encode_message,
    encode_number,
    offer_message,
    parse_message,
    refuse,
    why_malformed,
)
from hyperdust.proto import work_pb2 as messages

log = structlog.get_logger()

MAX_STREAMS: Final = 64
MAX_TEMPLATES: Final = 256
MAX_MANIFESTS: Final = 1_024
MAX_GRAPHS: Final = 64
MAX_WATCHED: Final = 64
_MAX_MESSAGE_BYTES: Final = MAX_CERTIFICATE_BYTES + 640 * 1024  # a ticket, or a result with all its transactions
_UNARY_THREADS: Final = 16
_REFRESH_S: Final = 1.0  # how often an open template may be renewed for new transactions
_ASKED_S: Final = 0.2  # how often for new questions: a search takes a dozen, one after the other
_RENEW_S: Final = 5.0  # a search that takes long should not leave the chain with old timestamps
_STALLED_S: Final = 30.0  # a consumer that does not read for so long is cut off
_REFUSALS: Final = 64  # tickets refused on one connection within the window
_REFUSAL_WINDOW_S: Final = 10.0
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.so_reuseport", 0),
)


class WorkPortTaken(NodeFault):
    """Another process listens on the work API's port."""


class WorkServer:
    """Serves miners over gRPC. `start` and `stop` once each; the rest runs in gRPC's threads."""

    def __init__(
        self,
        params: ChainParams,
        store: Store,
        importer: Importer,
        mempool: Mempool,
        builder: Builder,
        votes: Votes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._votes = votes
        self._params = params
        self._store = store
        self._importer = importer
        self._mempool = mempool
        self._builder = builder
        self._clock = clock
        self._jobs = JobIndex(params, store)
        self._questions = Questions(params, self._jobs, self._wake)
        self._changed = threading.Condition()
        self._stopping = False
        self._streams: dict[object, float] = {}
        self._templates: OrderedDict[int, Template] = OrderedDict()
        self._opened: tuple[bytes, float] = (b"", 0.0)
        self._manifests: OrderedDict[int, messages.Manifest] = OrderedDict()
        self._refused: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()
        self._importing = threading.Lock()
        self._server: grpc.Server | None = None
        importer.subscribe(self._on_imported)

    def start(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            WorkPortTaken
        """
        pool = ThreadPoolExecutor(MAX_STREAMS + _UNARY_THREADS, thread_name_prefix="work")
        self._server = grpc.server(pool, options=_OPTIONS, maximum_concurrent_rpcs=2 * (MAX_STREAMS + _UNARY_THREADS))
        handlers = {
            "GetTemplate": grpc.unary_stream_rpc_method_handler(self.get_template, None, encode_message),
            "GetJob": grpc.unary_unary_rpc_method_handler(self.get_job, None, encode_message),
            "SubmitTicket": grpc.unary_unary_rpc_method_handler(self.submit_ticket, None, encode_message),
            "SubmitResult": grpc.unary_unary_rpc_method_handler(self.submit_result, None, encode_message),
            "GetManifest": grpc.unary_unary_rpc_method_handler(self.get_manifest, None, encode_message),
            "GetData": grpc.unary_unary_rpc_method_handler(self.get_data, None, encode_message),
            "SubmitData": grpc.unary_unary_rpc_method_handler(self.submit_data, None, encode_message),
            "SubmitVote": grpc.unary_unary_rpc_method_handler(self._votes.submit_vote, None, encode_message),
        }
        generic = grpc.method_handlers_generic_handler("hyperdust.work.v1.Work", handlers)
        self._server.add_generic_rpc_handlers((generic,))
        try:
            bound = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise WorkPortTaken(f"work API port {host}:{port} cannot be bound; choose --work-grpc-port") from error
        if bound == 0:
            raise WorkPortTaken(f"work API port {host}:{port} is taken; choose --work-grpc-port")
        self._server.start()

    def stop(self) -> None:
        """Cut the streams, finish what runs, stop listening."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._server is not None:
            self._server.stop(grace=2).wait()

    def get_template(self, request: bytes, context: Any) -> Iterator[messages.Template]:
        """Stream templates for one coinbase; a consumer that lags gets the newest only."""
        decoded = parse_message(messages.TemplateRequest, request, context)
        if len(decoded.coinbase) != 20:
            refuse(context, f"coinbase has {len(decoded.coinbase)} bytes, not 20")
        if len(decoded.graphs) > MAX_GRAPHS or any(len(graph) != 32 for graph in decoded.graphs):
            refuse(context, f"graphs: at most {MAX_GRAPHS} ids of 32 bytes")
        if len(decoded.watch) > MAX_WATCHED:
            refuse(context, f"watch: at most {MAX_WATCHED} jobs")
        with self._lock:
            if len(self._streams) >= MAX_STREAMS:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MAX_STREAMS} streams are open; retry later")
            self._streams[context] = float("inf")
        context.add_callback(self._wake)
        try:
            yield from self._stream(decoded, context)
        except NodeFault as error:
            log.warning("template failed", error=str(error))
            context.abort(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
        finally:
            with self._lock:
                self._streams.pop(context, None)

    def get_data(self, request: bytes, context: Any) -> messages.Data:
        """What a revealed job's provider committed to, or NOT_FOUND while it is asked."""
        return self._questions.get_data(request, context)

    def submit_data(self, request: bytes, context: Any) -> messages.Verdict:
        """A provider's answer to a question."""
        return self._questions.submit_data(request, context)

    def get_job(self, request: bytes, context: Any) -> messages.Job:
        """One job, with its input."""
        decoded = parse_message(messages.JobRequest, request, context)
        job = self._jobs.get(decoded.id)
        if job is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"job {decoded.id} is unknown, or finished long ago")
            raise AssertionError
        submitted, revealed = job.last("Submitted"), job.last("Revealed")
        provider = job.provider or self._jobs.provider_of(job)
        return messages.Job(
            id=job.id,
            graph=job.request["graph"],
            symbols=job.request["symbols"],
            input=job.request["input"],
            provider=provider or b"",
            status=messages.JobStatus.Name(job.status),
            deadline=job.request["deadline"],
            fee=encode_number(int(job.request["fee"])),
            requester=encode_address(job.request["requester"]),
            output=submitted.values["output"] if submitted else b"",
            commitment=submitted.values["commitment"] if submitted else b"",
            trace_root=revealed.values["trace_root"] if revealed else b"",
        )

    def submit_ticket(self, request: bytes, context: Any) -> messages.Verdict:
        """Complete a template, validate the block in full, import it."""
        decoded = parse_message(messages.Ticket, request, context)
        self._check_rate(context)
        with self._lock:
            template = self._templates.get(decoded.template_id)
        if template is None:
            return self._refused_verdict(context, "UnknownTemplate", f"no template {decoded.template_id}")
        if len(decoded.nonce) != 8:
            return self._refused_verdict(context, "Malformed", f"nonce has {len(decoded.nonce)} bytes, not 8")
        with self._importing:  # one at a time: the second ticket for a height is not worth a validation
            if template.parent_hash != self._store.latest.head.hash:
                return messages.Verdict(rule="Stale", text="stale: head moved")
            return self._import(template, decoded, context)

    def _import(self, template: Template, ticket: messages.Ticket, context: Any) -> messages.Verdict:
        try:
            decode_certificate(ticket.certificate)
            block = self._builder.assemble(template, bytes(ticket.nonce), bytes(ticket.certificate))
            imported = self._importer.import_block(block)
        except Invalid as error:
            return self._refused_verdict(context, type(error).__name__, str(error))
        except HyperdustError as error:
            log.warning("ticket not imported", error=str(error))
            return messages.Verdict(rule=type(error).__name__, text=str(error))
        if imported.outcome is not Outcome.HEAD:
            return messages.Verdict(rule="Stale", text=f"stale: block is {imported.outcome.value}")
        parent_hash, opened_at = self._opened
        if parent_hash == template.parent_hash:
            self._builder.note_search(self._clock() - opened_at)
        return messages.Verdict(accepted=True, block_hash=imported.block_hash)

    def submit_result(self, request: bytes, context: Any) -> messages.Verdict:
        """Put a result's transactions into the pool and keep its roots."""
        decoded = parse_message(messages.Result, request, context)
        reason = why_malformed(decoded)
        if reason is not None:
            return messages.Verdict(rule="Malformed", text=reason)
        if self._jobs.get(decoded.job) is None:
            return messages.Verdict(rule="UnknownJob", text=f"job {decoded.job} is unknown, or finished long ago")
        if decoded.subgraph_roots and H("trace", *decoded.subgraph_roots) != decoded.trace_root:
            return messages.Verdict(rule="WrongTraceRoot", text='trace_root is not H("trace", subgraph_roots)')
        for raw in decoded.transactions:
            try:
                self._mempool.add(raw)
            except AlreadyKnown:
                continue
            except HyperdustError as error:
                return messages.Verdict(rule=type(error).__name__, text=str(error))
        if decoded.subgraph_roots:
            self._keep_manifest(decoded)
        return messages.Verdict(accepted=True)

    def get_manifest(self, request: bytes, context: Any) -> messages.Manifest:
        """The subgraph roots of a result whose trace root stands on chain."""
        decoded = parse_message(messages.ManifestRequest, request, context)
        job = self._jobs.get(decoded.job)
        revealed = job.last("Revealed") if job is not None else None
        with self._lock:
            manifest = self._manifests.get(decoded.job)
        # Before the reveal a manifest would let a companion copy instead of compute.
        if revealed is None or manifest is None or manifest.trace_root != revealed.values["trace_root"]:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no revealed manifest of job {decoded.job} is kept here")
        return manifest  # type: ignore[return-value]  # abort raises

    def _stream(self, request: messages.TemplateRequest, context: Any) -> Iterator[messages.Template]:
        sent: tuple[object, ...] = ()
        sent_at = 0.0
        while context.is_active() and not self._stopping:
            head = self._store.latest.head
            if self._jobs.head != head.hash:  # a commit whose listeners still run: account and jobs would disagree
                self._jobs.catch_up()
                continue
            # An open template is renewed for new transactions, and now and then for its timestamp.
            version = (self._mempool.version, int(self._clock() // _RENEW_S))
            wait_s = self._builder.opens_at(head.header) - self._clock()
            is_open = wait_s <= 0 and not request.companion
            key = (head.hash, is_open, version if is_open else None, self._questions.version)
            due_s = _REFRESH_S if sent[3:] == key[3:] else _ASKED_S
            renewable = sent[:2] != key[:2] or self._clock() >= sent_at + due_s
            if key != sent and renewable:
                template = self._offer(request, head, wait_s)
                sent, sent_at = key, self._clock()
                self._streams[context] = time.monotonic()
                yield template
                self._streams[context] = float("inf")
                continue
            with self._changed:
                if self._store.latest.head.hash == head.hash and not self._stopping:
                    self._changed.wait(min(wait_s, _REFRESH_S / 4) if wait_s > 0 else _REFRESH_S / 4)
            self._cut_stalled()

    def _offer(self, request: messages.TemplateRequest, head: Head, wait_s: float) -> messages.Template:
        coinbase, graphs = bytes(request.coinbase), tuple(map(bytes, request.graphs))
        account = load_account(self._store.latest.state_at(head.hash), coinbase)
        message = messages.Template(
            chain_id=self._params.chain_id,
            nonce=account.nonce,
            pending_nonce=self._mempool.pending_nonce(coinbase),
            balance=encode_number(account.balance),
            number=head.number + 1,
            parent_hash=head.hash,
            base_fee=encode_number(head.header.base_fee_per_gas),
            genesis_hash=self._store.latest.genesis_hash,
        )
        if request.companion:
            checks = self._jobs.checks(coinbase, graphs) + self._jobs.challenges(coinbase, request.watch)
            message.checks.extend(check_message(check) for check in checks)
            return message
        message.jobs.extend(offer_message(offer) for offer in self._jobs.offers(coinbase, graphs))
        message.questions.extend(self._questions.asked_of(coinbase))
        vote = link_message(self._votes.request_for(coinbase))
        if vote is not None:
            message.vote.CopyFrom(vote)
        if wait_s > 0:
            message.opens_in_ms = int(wait_s * 1_000) + 1
            return message
        template = self._builder.build(coinbase)
        with self._lock:
            if self._opened[0] != template.parent_hash:
                self._opened = (template.parent_hash, self._clock())
            self._templates[template.id] = template
            while len(self._templates) > MAX_TEMPLATES:
                self._templates.popitem(last=False)
        message.id, message.open = template.id, True
        message.parent_hash, message.seal_hash = template.parent_hash, template.seal_hash
        message.number, message.timestamp = template.header.number, template.header.timestamp
        message.difficulty = encode_number(template.header.difficulty)
        message.base_fee = encode_number(template.header.base_fee_per_gas)
        return message

    def _on_imported(self, imported: Imported) -> None:
        self._jobs.catch_up()
        self._questions.forget_decided()
        if imported.outcome is not Outcome.HEAD:
            return
        head = self._store.latest.head.hash
        with self._lock:
            for number in [number for number, kept in self._templates.items() if kept.parent_hash != head]:
                # Kept a while longer: who submits one should hear "stale", not "unknown".
                if len(self._templates) > MAX_TEMPLATES // 2:
                    del self._templates[number]
        self._wake()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _cut_stalled(self) -> None:
        """Cut consumers that stopped reading; any live stream does this for the others."""
        latest = time.monotonic() - _STALLED_S
        with self._lock:
            stalled = [context for context, since in self._streams.items() if since < latest]
        for context in stalled:
            log.info("slow consumer dropped")
            context.cancel()  # type: ignore[attr-defined]  # grpc.ServicerContext

    def _keep_manifest(self, result: messages.Result) -> None:
        manifest = messages.Manifest(job=result.job, trace_root=result.trace_root, subgraph_roots=result.subgraph_roots)
        with self._lock:
            self._manifests[result.job] = manifest
            while len(self._manifests) > MAX_MANIFESTS:
                self._manifests.popitem(last=False)

    def _check_rate(self, context: Any) -> None:
        now = time.monotonic()
        with self._lock:
            recent = [at for at in self._refused.get(context.peer(), ()) if at > now - _REFUSAL_WINDOW_S]
        if len(recent) >= _REFUSALS:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many refused tickets on this connection; wait 10 s")

    def _refused_verdict(self, context: Any, rule: str, text: str) -> messages.Verdict:
        now, peer = time.monotonic(), context.peer()
        with self._lock:
            recent = [at for at in self._refused.pop(peer, ()) if at > now - _REFUSAL_WINDOW_S]
            self._refused[peer] = [*recent[-_REFUSALS:], now]
            while len(self._refused) > 4 * MAX_STREAMS:
                self._refused.popitem(last=False)
        log.info("ticket refused", rule=rule, reason=text)
        return messages.Verdict(rule=rule, text=text)
