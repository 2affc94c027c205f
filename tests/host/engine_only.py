"""The part of `deploy.py` that makes an engine: what the test of Docker's own repository deploys."""

from deploys import base, docker, preflight

preflight.check()
base.system()
docker.engine()
