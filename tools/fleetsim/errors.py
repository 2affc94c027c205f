"""What is wrong with what the simulation was asked for."""


class BadScene(Exception):
    """Says which value it is, and what to give instead."""
