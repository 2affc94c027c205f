"""How a lab is started."""

from pathlib import Path

from lab.command import fixed, kernel_words, nesting, run_arguments
from lab.facts import HostFacts

MODERN = HostFacts(cgroup_version=2)
OLD = HostFacts(cgroup_version=1, missing_capabilities=("SYS_RESOURCE",))


def start(facts: HostFacts, publish_https: int | None = None) -> list[str]:
    return run_arguments(facts, name="web", suite="trixie", image="img:1", root="0123", publish_https=publish_https)


def test_a_machine_with_every_capability_gives_them_all() -> None:
    assert nesting(MODERN) == ["--privileged"]


def test_a_machine_without_one_gives_the_rest() -> None:
    flags = nesting(OLD)
    assert flags[:2] == ["--cap-add=ALL", "--cap-drop=SYS_RESOURCE"]
    assert "--privileged" not in flags
    assert "--security-opt=systempaths=unconfined" in flags


def test_only_trixie_on_cgroup_v1_needs_words() -> None:
    assert kernel_words(OLD, "trixie") == [
        "systemd.unified_cgroup_hierarchy=0",
        "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1",
    ]
    assert kernel_words(OLD, "bookworm") == kernel_words(MODERN, "trixie") == []


def test_init_gets_the_kernel_words_and_the_image_comes_first() -> None:
    arguments = start(OLD)
    assert arguments[:2] == ["run", "--detach"]
    assert arguments[arguments.index("img:1") :] == ["img:1", *kernel_words(OLD, "trixie")]


def test_labels_on_container_and_volumes() -> None:
    arguments = start(MODERN)
    assert {"--label=sandbox.lab=web", "--label=sandbox.lab.root=0123", "--label=sandbox.lab.debian=trixie"} < set(
        arguments
    )
    mounts = [word for word in arguments if word.startswith("--mount=")]
    assert [word.split(",")[1] for word in mounts] == ["target=/var/lib/docker", "target=/var/lib/containerd"]
    assert all("volume-label=sandbox.lab=web,volume-label=sandbox.lab.root=0123" in word for word in mounts)


def test_only_loopback_is_published_and_only_when_asked() -> None:
    assert "--publish=127.0.0.1:8443:443" in start(MODERN, 8443)
    assert not [word for word in start(MODERN) if word.startswith("--publish")]


def test_a_fixed_address_comes_with_the_name_servers_of_the_workstation() -> None:
    flags = fixed("10.231.0.11", "net", Path("/state/resolv.conf"))
    assert flags == ["--network=net", "--ip=10.231.0.11", "--volume=/state/resolv.conf:/etc/resolv.conf"]
    given = run_arguments(MODERN, name="web", suite="trixie", image="img:1", root="0123", network=flags)
    assert set(flags) < set(given[: given.index("img:1")])
    assert not [word for word in start(MODERN) if word.startswith(("--network", "--ip"))]


def test_a_directory_is_shared_by_those_that_ask_for_it() -> None:
    given = run_arguments(MODERN, name="web", suite="trixie", image="img:1", root="0123", share=Path("/data"))
    assert "--mount=type=bind,source=/data,target=/srv/shared" in given[: given.index("img:1")]
    assert not [word for word in start(MODERN) if "/srv/shared" in word]


def test_modules_are_shown_where_there_are_any() -> None:
    assert "--volume=/lib/modules:/lib/modules:ro" in start(HostFacts(2, kernel_modules=True))
    assert not [word for word in start(MODERN) if word.startswith("--volume")]
