"""What Prometheus is told."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from hyperdust.gateway.budget import Budget
from hyperdust.wallet import WEI_PER_BTC


class Metrics:
    """Counters of this process."""

    def __init__(self, budget: Budget) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "hyperdust_gateway_requests", "Requests answered", ["endpoint", "status"], registry=self.registry
        )
        self.jobs = Counter("hyperdust_gateway_jobs", "Jobs paid", registry=self.registry)
        spent = Gauge("hyperdust_gateway_spent_btc", "BTC spent in the last hour", registry=self.registry)
        spent.set_function(lambda: budget.spent() / WEI_PER_BTC)
        limit = Gauge("hyperdust_gateway_budget_btc", "BTC that an hour may cost", registry=self.registry)
        limit.set(budget.limit / WEI_PER_BTC)
