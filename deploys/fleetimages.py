"""The images of a fleet: built once, on its first manager, and fetched from there by the other hosts.

The registry is Debian's, with the certificates of the Swarm on both sides. What is fetched is named by the digest that
the first manager itself has noted, so that nobody else can put something in its place.
"""

from __future__ import annotations

import shlex

from pyinfra import host, state
from pyinfra.api import deploy, operation
from pyinfra.api.exceptions import OperationError
from pyinfra.api.state import StateStage
from pyinfra.operations import files

from deploys import facts, fleetgateway, swarm, swarmfacts
from deploys.fleet import is_first
from deploys.images import Tags
from deploys.operations import Commands, image, packages, place, unit, when, without_older
from deploys.preflight import settings
from deploys.settings import Settings

# The certificates of managers have this name beside that of the host. /etc/hosts says whose it is.
NAME = "swarm-manager"
REGISTRY = f"{NAME}:{swarm.REGISTRY_PORT}"
UNIT = "docker-registry.service"
STORE = "/var/lib/docker-registry"
DROP_IN = f"/etc/systemd/system/{UNIT}.d"  # which makes Debian's registry one of ours
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def shared(wanted: Settings) -> list[str]:
    """The tags that every host of the fleet needs, and one builds."""
    tags = Tags(wanted)
    found = {tags.template(template) for template in wanted.templates.values()}
    return sorted(found if wanted.traefik_image else found | {tags.traefik})


def named(line: str = "") -> str:
    """The command that makes `line` the only one of /etc/hosts that names the registry. The file may be mounted where
    it is, as in containers: it stays the same file.
    """
    file = "/run/hosts.new"
    added = f"; echo {shlex.quote(line)}" if line else ""
    return f"{{ grep -v ' {NAME}$' /etc/hosts{added}; }} >{file} && cat {file} >/etc/hosts && rm {file}"


def offered(wanted: Settings) -> str:
    """Where the first manager keeps the digests of what it has offered."""
    return f"{wanted.state}/offered"


def noted(wanted: Settings, tag: str) -> str:
    """Where it keeps that of one image."""
    return f"{offered(wanted)}/{tag.replace('/', '-').replace(':', '-')}"


def removed() -> list[str]:
    """The commands that take the registry away."""
    return ["DEBIAN_FRONTEND=noninteractive apt-get purge -y docker-registry", f"rm -rf {DROP_IN} {STORE}"]


@deploy("Registry")
def registry() -> None:
    """The registry on the first manager, and nowhere else, and the way there from all hosts."""
    wanted = settings()
    if not wanted.fleet_role:
        return
    directory = fleetgateway.directory(wanted)
    line = f"{wanted.fleet_managers[0].address} {NAME}"
    when(
        name=f"Say where {NAME} is",
        condition=f"grep -qxF {shlex.quote(line)} /etc/hosts || echo missing",
        commands=[named(line)],
    )
    trusted = f"/etc/docker/certs.d/{REGISTRY}"
    files.directory(name=f"Make {trusted}", path=trusted, user="root", group="root", mode="755")
    for link, target in (("ca.crt", "ca.pem"), ("client.cert", "node.pem"), ("client.key", "node.pem")):
        files.link(name=f"Link {trusted}/{link}", path=f"{trusted}/{link}", target=f"{directory}/{target}")
    if is_first(wanted):
        # Before the package, which would start it for everybody.
        place("etc/docker/registry/config.yml", wanted)
        place("etc/systemd/system/docker-registry.service.d/60-project-sandbox.conf", wanted, directory=directory)
        packages("the registry", ["docker-registry"])
        unit(name="Run the registry", unit=UNIT, files=["/etc/docker/registry/config.yml", f"{directory}/node.pem"])
    else:
        name = "Remove the registry of a former first manager"
        when(name=name, condition=f"ls -d {DROP_IN}", commands=[*removed(), f"rm -rf {offered(wanted)}"])


@deploy("Images of the fleet")
def share() -> None:
    """Offer what was built on the first manager, and fetch it on the others."""
    wanted = settings()
    if not wanted.fleet_role:
        return
    if is_first(wanted):
        notes = offered(wanted)
        files.directory(name=f"Make {notes}", path=notes, user="root", group="root", mode="700")
        files_of = [noted(wanted, tag) for tag in shared(wanted)]
        keep = " ".join(f"! -path {file}" for file in files_of)
        when(
            name="Forget former images",
            condition=f"find {notes} -type f {keep}",
            # A registry takes nothing back. What is still wanted is offered anew, which takes seconds.
            commands=[f"systemctl stop {UNIT}", f"rm -rf {STORE}/docker {notes}/*", f"systemctl start {UNIT}"],
        )
        for tag in shared(wanted):
            when(name=f"Offer {tag}", condition=not_offered(wanted, tag), commands=[offering(wanted, tag)])
    # On all hosts, for what one host does is before what another one does only where both have a step in common.
    good = f"{wanted.opt}/good/config.toml"
    for tag in shared(wanted):
        fetch(name=f"Fetch {tag}", tag=tag, wanted=wanted, spared=good)
    if wanted.traefik_image and not is_first(wanted):
        tag = wanted.traefik_image
        image(name=f"Pull {tag}", tag=tag, build=f"docker pull --quiet {tag}")


def not_offered(wanted: Settings, tag: str) -> str:
    """A command that prints something when the registry does not have what was noted, or nothing was."""
    directory, file = fleetgateway.directory(wanted), noted(wanted, tag)
    words = ["curl", "--silent", "--fail", "--head", "--output", "/dev/null", "--header", f"Accept: {MANIFEST}"]
    words += ["--cacert", f"{directory}/ca.pem", "--cert", f"{directory}/node.pem"]
    manifests = f"https://{REGISTRY}/v2/{tag.rpartition(':')[0]}/manifests"
    return f'[ -s {file} ] && {shlex.join(words)} "{manifests}/$(cat {file})" || echo missing'


def offering(wanted: Settings, tag: str) -> str:
    """The command that brings an image to the registry, and notes its digest."""
    remote, file = f"{REGISTRY}/{tag}", noted(wanted, tag)
    digest = "sed -n 's/.* digest: \\(sha256:[0-9a-f]\\{64\\}\\) .*/\\1/p'"
    return (
        f"docker tag {tag} {remote} && docker push {remote} | {digest} >{file}; "
        f"docker image rm {remote} >/dev/null; [ -s {file} ]"
    )


@operation()
def fetch(tag: str, wanted: Settings, spared: str) -> Commands:
    """Have an image that the first manager offers, under the tag that it has there. Raises OperationError.

    Older tags of it go, but for those that the file `spared` names.
    """
    if tag in host.get_fact(facts.ImageTags):
        return
    first = wanted.fleet_managers[0]
    digest = swarmfacts.member(first).get_fact(facts.Output, command_line=f"cat {noted(wanted, tag)}")
    if not digest and state.current_stage == StateStage.Execute:
        raise OperationError(
            f"{first.name} does not offer {tag}: all hosts of a fleet need the same settings of images, and the same "
            "Debian release or base_suite"
        )
    remote = f"{REGISTRY}/{tag.rpartition(':')[0]}@{digest}"
    yield f"docker pull --quiet {remote} && docker tag {remote} {tag} && docker image rm {remote}"
    yield without_older(tag, spared)
