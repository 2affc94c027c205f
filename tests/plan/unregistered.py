"""A deploy that asks what tests/plan/bare.py does not know; test_refusals.py runs it."""

from pyinfra import host
from pyinfra.facts.server import Hostname
from pyinfra.operations import server

host.get_fact(Hostname)
server.shell(name="Go on", commands=["true"])
