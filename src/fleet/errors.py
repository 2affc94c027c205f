"""What can go wrong in a fleet, as types. Every message says what was wrong, with the value, and what to do."""


class FleetError(Exception):
    """Base of every error that this package raises on purpose."""


class NoRoom(FleetError):
    """No host of the fleet has room for the reservation. Nothing was made."""


class NoLeader(FleetError):
    """The managers have no leader at this moment: nothing can be placed, labelled or removed. It is over in seconds."""


class Stale(FleetError):
    """The lease was changed by somebody else since it was read, or is gone. Read again."""
