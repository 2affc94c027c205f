"""A host's own engine and a fleet engine beside it, and nothing else of us: what the test of leases deploys."""

from pyinfra.operations import files

from deploys import ROOT, base, docker, preflight
from deploys.fleetengine import RECIPE, engine_options
from deploys.operations import packages, place, unit

preflight.check()
base.system()
docker.engine()

wanted = preflight.settings()
packages("the fleet engine", ["catatonit"])
place("etc/project-sandbox/swarmd.json", wanted, swarmd=engine_options(wanted, "one"))
place("etc/systemd/system/project-swarmd.service", wanted)
unit(name="Run the fleet engine", unit=f"{wanted.project}-swarmd.service", files=[f"{wanted.etc}/swarmd.json"])
files.put(name="Bring the recipe of a lease", src=str(ROOT / RECIPE), dest="/root/lease-image", mode="755")
