"""What a sandbox host becomes: one deploy per module, in the order of `deploy.py`."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
