"""Unit tests of the lab: no Docker, no network."""
