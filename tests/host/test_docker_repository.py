"""`docker_source = "docker"`: the engine out of a signed apt repository with the layout of Docker's own.

The repository is made in a lab of its own, from Debian's packages under the names that Docker gives them.
"""

from collections.abc import Iterator

import pytest

from deploys.docker import DOCKER_ENGINE, KEYRING
from tests.host.conftest import lab_target, remove
from tests.host.machine import REPORTS, Machine

pytestmark = pytest.mark.disruptive
NAME = "test-docker-ce"
ADDRESS = "http://127.0.0.1:8099"
REPACK = r"""
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends apt-utils gnupg python3 >/dev/null
mkdir -p /srv/apt/dists/trixie/stable/binary-$(dpkg --print-architecture) /srv/apt/pool /tmp/debs
cd /tmp/debs
apt-get download -qq docker.io docker-cli docker-buildx containerd runc

# repack NEW RELATIONS DEB...: the files of some Debian packages as one package called NEW.
repack() {
    new=$1 relations=$2
    shift 2
    rm -rf tree
    mkdir -p tree/DEBIAN
    for deb; do
        dpkg-deb -x "$deb" tree
        dpkg-deb -e "$deb" control
        for script in postinst prerm postrm conffiles; do
            [ ! -e "control/$script" ] || [ -e "tree/DEBIAN/$script" ] || cp "control/$script" tree/DEBIAN/
        done
        rm -rf control
    done
    rm -rf tree/usr/share/doc tree/usr/share/man
    printf '%s\n' "Package: $new" "Version: 5:99.0-1" "Architecture: $(dpkg --print-architecture)" \
        "Maintainer: Nobody <nobody@example.org>" "Description: repacked for a test" $relations |
        sed 's/_/ /g' >tree/DEBIAN/control
    dpkg-deb --root-owner-group -Zgzip -b tree "/srv/apt/pool/$new.deb" >/dev/null
}
repack docker-ce "Depends:_containerd.io,_docker-ce-cli,_iptables Conflicts:_docker.io" docker.io_*.deb
repack docker-ce-cli "Conflicts:_docker-cli" docker-cli_*.deb
repack containerd.io "Conflicts:_containerd,_runc" containerd_*.deb runc_*.deb
repack docker-buildx-plugin "Conflicts:_docker-buildx" docker-buildx_*.deb

cd /srv/apt
apt-ftparchive packages pool >dists/trixie/stable/binary-$(dpkg --print-architecture)/Packages
option=APT::FTPArchive::Release
apt-ftparchive -o $option::Suite=trixie -o $option::Codename=trixie release dists/trixie >Release
mv Release dists/trixie/Release
gpg --batch --quiet --passphrase '' --quick-generate-key 'Test <test@example.org>' rsa2048 sign never
gpg --batch --quiet --yes --clearsign -o dists/trixie/InRelease dists/trixie/Release
gpg --batch --export --armor >gpg
systemd-run --quiet --unit test-apt --working-directory /srv/apt python3 -m http.server 8099 --bind 127.0.0.1
"""


@pytest.fixture
def bare() -> Iterator[Machine]:
    """A bare lab that has such a repository on its loopback, and the settings that name it."""
    remove(NAME)
    REPORTS.mkdir(exist_ok=True)
    key = REPORTS / "docker-test-repository.asc"
    target, machine_lab = lab_target(NAME, "trixie", {"docker_source": "docker", "docker_apt_uri": ADDRESS})
    with Machine(target, machine_lab) as machine:
        machine.run(REPACK)
        key.write_text(machine.out("cat /srv/apt/gpg") + "\n")
        yield machine
    remove(NAME)


def test_the_engine_comes_from_dockers_repository(bare: Machine) -> None:
    script = "tests/host/engine_only.py"
    bare.deploy(script=script)
    for package in DOCKER_ENGINE:
        assert bare.host.package(package).is_installed, package
    assert not bare.host.package("docker.io").is_installed
    assert bare.out("docker info --format '{{.DefaultRuntime}}'") == bare.settings.docker_runtime
    assert bare.host.file(KEYRING).content_string == bare.out("cat /srv/apt/gpg") + "\n"
    assert bare.deploy(script=script).changed == []


def test_a_host_with_debians_engine_is_moved_over(bare: Machine) -> None:
    script = "tests/host/engine_only.py"
    bare.target.settings["docker_source"] = "debian"
    bare.deploy(script=script)
    assert bare.host.package("docker.io").is_installed
    bare.target.settings["docker_source"] = "docker"
    bare.deploy(script=script)
    assert bare.host.package("docker-ce").is_installed and not bare.host.package("docker.io").is_installed
    assert bare.host.service("docker").is_running
