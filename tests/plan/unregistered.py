"""A deploy that asks what tests/plan/bare.py does not know; test_refusals.py runs it."""

from pyinfra import host
from pyinfra.facts.server import Uptime
from pyinfra.operations import server

host.get_fact(Uptime)
server.shell(name="Go on", commands=["true"])
