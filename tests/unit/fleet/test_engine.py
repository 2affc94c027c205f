"""What the answers of a fleet engine mean. The words are those of Docker 26 and of its swarmkit."""

import pytest

from fleet.engine import NameTaken, meaning
from fleet.errors import FleetError, NoLeader, Stale
from tests.unit.fleet.fake_swarm import NO_LEADER, OUT_OF_SEQUENCE

LOST = "raft: failed to process the request: node lost leader status"
NOT_YET = "This node is not a swarm manager. Manager is being prepared or has trouble connecting to the cluster."
TAKEN = "rpc error: code = AlreadyExists desc = name conflicts with an existing object: service sb-a already exists"


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (*NO_LEADER, NoLeader),
        (504, "rpc error: code = DeadlineExceeded desc = context deadline exceeded", NoLeader),
        (500, "rpc error: code = Unknown desc = context deadline exceeded", NoLeader),
        (500, f"rpc error: code = Unknown desc = {LOST}", NoLeader),
        (503, NOT_YET, NoLeader),
        (500, "rpc error: code = Unavailable desc = connection error: desc = transport: x", NoLeader),
        (*OUT_OF_SEQUENCE, Stale),
        (409, TAKEN, NameTaken),
        (400, "rpc error: code = InvalidArgument desc = ContainerSpec: image reference must be provided", FleetError),
    ],
)
def test_meaning(status: int, said: str, expected: type[FleetError]) -> None:
    found = meaning("place sb-a", status, said)
    assert type(found) is expected and "place sb-a" in str(found)
