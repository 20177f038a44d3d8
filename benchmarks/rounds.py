"""Two sides measured in one run, so that neither pays for the other's threads.

Workers of OpenMP and rayon spin for some milliseconds after a call, and a side that starts within them has one core
less; after a rest it takes some calls until a side's own workers are awake on cores of their own. So each turn is a
rest, calls that do not count, then calls that do.
"""

import time
from collections.abc import Callable

REST_S = 0.05
"""Long enough for spinning workers to fall asleep."""
WARM_UP_S = 0.1
"""How long a turn's uncounted calls go on."""
COUNTED = 3
"""Calls that count in each turn; one, if a call is longer than the warm-up."""


def best_of(
    rounds: int, *functions: Callable[[], object], clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Seconds of the fastest call of each function, rounds interleaved."""
    best = [float("inf")] * len(functions)
    for _ in range(rounds):
        for index, function in enumerate(functions):
            time.sleep(REST_S)
            is_long = WARM_UP_S < best[index] < float("inf")
            until = time.perf_counter() + WARM_UP_S
            while not is_long and time.perf_counter() < until:
                function()
            for _ in range(1 if is_long else COUNTED):
                start = clock()
                function()
                best[index] = min(best[index], clock() - start)
    return best
