"""The control plane of a sandbox host: one daemon that owns Docker and the ledger, and the thin CLI that asks it.

Nothing is imported here: the CLI pays for every import at each start.
"""

__version__ = "0.1.0"

AGENT_PORT = 49983  # of the agent inside every sandbox; E2B's clients know it by heart
