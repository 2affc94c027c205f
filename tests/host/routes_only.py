"""The part of `deploy.py` that mends the gateway's routes: what the test of it deploys while there is no Docker."""

from deploys import preflight, sandboxd

preflight.check()
sandboxd.routes()
