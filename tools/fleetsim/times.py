"""How long the parts of a fleet take, as they were measured on three hosts that shared two cores, and what was not
measured but estimated. All in seconds, unless the name says otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field

from tools.fleetsim.distributions import Distribution, Lognormal


@dataclass(frozen=True)
class Times:
    """`claim` and `cold` are docs/performance.md: `init` from the pool beside 10 others, and cold `init`.

    A create keeps 1.4 cores busy: two at a time on two cores took 1.4 times as long as one (47 in 10.7 s).
    """

    claim: Distribution = field(default_factory=lambda: Lognormal(0.0067, 0.0081))
    cold: Distribution = field(default_factory=lambda: Lognormal(0.323, 0.374))
    create_cores: float = 1.4
    kill: float = 0.290
    ask: float = 0.002  # a node that refuses: a request over a kept connection with TLS, and a look into its ledger
    poll_every: float = 2.0
    lost_after: float = 3.0
    assigned_at_most: float = 2.0
    bookings_at_a_time: int = 32  # of one manager; the others wait for those
    row_bytes: int = 570  # of one sandbox, or member of a pool, in what a node says that it has; without metadata
    read_bytes: int = 600  # of that answer without rows
    lease_bytes: int = 1967  # of one lease: 60 were 53 KB as services and 65 KB as tasks


@dataclass(frozen=True)
class Consensus:
    """What a write into the Swarm takes: `each` of the leader's one queue, and `more` until it is answered; and from
    the answer until a lease is assigned to a node.
    """

    each: float
    more: float
    assigned: float


# One label took 2 ms with one manager; with three 5 ms, and twelve at once 37 ms, so 3.1 ms of the queue for each. From
# the call to `assigned` 56 ms with one manager, 70 ms with three.
CONSENSUS = {1: Consensus(0.002, 0.0, 0.054), 3: Consensus(0.0031, 0.0019, 0.065)}

# Beside the three writes that are asked for in the life of a lease (made, labelled, removed) the Swarm makes some of
# its own: the task, its node, its end. The task's states are written in batches, and not counted. An estimate.
OWN_WRITES_AT_START, OWN_WRITES_AT_END = 2, 1
