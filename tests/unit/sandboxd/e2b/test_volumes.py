"""/volumes, and `volumeMounts` of a new sandbox."""

from typing import Any

import pytest

from sandboxd import volumes as life
from sandboxd.errors import HostError
from sandboxd.records import Claim
from tests.unit.sandboxd.conftest import World, make_world
from tests.unit.sandboxd.e2b.conftest import Public


def made(public: Public, name: str = "data") -> dict[str, Any]:
    answer = public.http.post("/volumes", json={"name": name})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def mounting(public: Public, path: str = "/mnt/data", name: str = "data") -> str:
    return str(public.create(volumeMounts=[{"name": name, "path": path}])["sandboxID"])


def shared(world: World) -> list[str]:
    return [name for name in world.mounts.mounted() if name.startswith(life.PREFIX)]


def test_from_its_making_to_its_end(public: Public, world: World) -> None:
    volume = made(public)
    assert set(volume) == {"volumeID", "name", "token", "domain"}
    assert (volume["name"], volume["domain"]) == ("data", "example.com"), "the client asks there for its content"
    assert public.http.get("/volumes").json() == [{"volumeID": volume["volumeID"], "name": "data"}]
    assert public.http.get(f"/volumes/{volume['volumeID']}").json() == volume
    assert world.sandboxes.disks.size_mb(volume["volumeID"]) == 10240 and shared(world) == []
    assert public.http.delete(f"/volumes/{volume['volumeID']}").status_code == 204
    public.refused("DELETE", f"/volumes/{volume['volumeID']}", 404)
    assert world.sandboxes.disks.size_mb(volume["volumeID"]) is None and public.http.get("/volumes").json() == []


def test_another_key_sees_none_of_it(public: Public, world: World) -> None:
    volume, other = made(public), Public(world, "other")
    for method in ("GET", "DELETE"):
        other.refused(method, f"/volumes/{volume['volumeID']}", 404)
    assert other.http.get("/volumes").json() == []
    body = {"templateID": "base", "volumeMounts": [{"name": "data", "path": "/mnt"}]}
    assert "volume 'data' not found" in other.refused("POST", "/v2/sandboxes", 404, json=body)
    assert made(other)["volumeID"] != volume["volumeID"], "each has names of its own"
    assert "already" in public.refused("POST", "/volumes", 409, json={"name": "data"})
    world.sandboxes.create(world.config.templates["base"], Claim(volume="ours"))
    public.refused("GET", "/volumes/ours", 404)


@pytest.mark.parametrize("name", ["", "a b", "../x", "-a", "x" * 64, None])
def test_names_that_are_none(public: Public, name: str | None) -> None:
    public.refused("POST", "/volumes", 400, json={"name": name})


def test_there_is_a_most(public: Public, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "MOST", 1)
    made(public)
    public.refused("POST", "/volumes", 429, json={"name": "more"})
    made(Public(world, "other"))


def test_what_the_host_refuses_leaves_nothing(public: Public, world: World) -> None:
    world.disk_mb["state"] = 0
    public.refused("POST", "/volumes", 503, json={"name": "data"})
    world.disk_mb.clear()
    world.mounts.fail["mkfs.ext4"] = HostError("no room")
    public.refused("POST", "/volumes", 503, json={"name": "data"})
    assert public.http.get("/volumes").json() == [] and not [*(world.config.state_dir / "volumes").glob("*")]
    made(public)


def test_several_sandboxes_have_it_at_once(public: Public, world: World) -> None:
    volume = made(public)["volumeID"]
    world.pool.enable()
    world.sandboxes.create_member(world.config.templates["base"], lambda: True)
    first, second = mounting(public), mounting(public, "/srv/x/")
    assert world.ledger.find(first)[0].origin == "cold", "the mounts of a warm one are fixed"
    binds = [payload["HostConfig"]["Mounts"][-1] for payload in world.engine.payloads[-2:]]
    source = str(world.sandboxes.disks.path(volume))
    assert binds == [{"Type": "bind", "Source": source, "Target": path} for path in ("/mnt/data", "/srv/x")]
    assert shared(world) == [volume]
    detail = public.http.get(f"/sandboxes/{first}").json()
    assert detail["volumeMounts"] == [{"name": "data", "path": "/mnt/data"}]
    public.http.delete(f"/sandboxes/{first}")
    assert shared(world) == [volume]
    assert second in public.refused("DELETE", f"/volumes/{volume}", 409)
    public.http.delete(f"/sandboxes/{second}")
    assert shared(world) == [] and not world.sandboxes.disks.path(volume).exists()
    assert public.http.delete(f"/volumes/{volume}").status_code == 204


def test_after_a_reboot_it_is_mounted_before_the_sandbox_runs(public: Public, world: World) -> None:
    volume, found = made(public)["volumeID"], mounting(public)
    row = world.ledger.find(found)[0]
    world.transitions.stop(row, "test")
    assert shared(world) == [volume], "it is used still"
    world.mounts.reboot()
    world.transitions.resume(row)
    assert shared(world) == [volume]
    world.mounts.reboot()  # and somebody starts the container, with an empty directory in the volume's place
    started = world.engine.containers[found].booted
    world.transitions.enforce(row)
    assert shared(world) == [volume] and world.engine.containers[found].booted != started
    world.engine.stop(found)
    world.mounts.reboot()
    world.reconciler.tick()
    assert shared(world) == [volume] and world.engine.containers[found].running


def test_another_daemon_unmounts_what_one_has_left(public: Public, world: World) -> None:
    volume = made(public)["volumeID"]
    with world.sandboxes.volumes.held(volume):
        world.reconciler.tick()
        assert shared(world) == [volume]
    again = make_world(world.config, world.engine, world.haproxy, world.mounts)
    again.reconciler.tick()
    assert shared(world) == []
    again.ledger.close()


def test_an_unmount_that_fails_is_done_later(public: Public, world: World) -> None:
    made(public)
    found = mounting(public)
    row = world.ledger.find(found)[0]
    world.engine.remove_container(found)
    volumes = world.sandboxes.volumes
    world.ledger.set_removing(row.slot, "test")
    world.ledger.set_gone(row.slot, 1.0)
    world.mounts.fail["umount"] = HostError("busy")
    volumes.release()
    assert len(shared(world)) == 1
    world.reconciler.tick()
    assert shared(world) == []


def test_a_create_that_fails_leaves_it_as_it_was(public: Public, world: World) -> None:
    volume = made(public)["volumeID"]
    world.engine.fail["start"] = HostError("no")
    body = {"templateID": "base", "volumeMounts": [{"name": "data", "path": "/mnt"}]}
    public.refused("POST", "/v2/sandboxes", 503, json=body)
    assert shared(world) == [] and public.http.delete(f"/volumes/{volume}").status_code == 204


def test_it_is_not_a_code_and_mounted_at_once(public: Public, world: World) -> None:
    """The command line may have it as /code, to export it; two mounts of one disk must not be."""
    volume = made(public)["volumeID"]
    holder = world.sandboxes.create(world.config.templates["base"], Claim(volume=volume))
    body = {"templateID": "base", "volumeMounts": [{"name": "data", "path": "/mnt"}]}
    assert holder.id in public.refused("POST", "/v2/sandboxes", 409, json=body)
    with pytest.raises(Exception, match="is the /code of sandbox"), world.sandboxes.volumes.held(volume):
        pass
    world.sandboxes.remove(holder, "test")
    with (
        world.sandboxes.volumes.held(volume),
        pytest.raises(Exception, match="requests about its content"),
    ):
        world.sandboxes.create(world.config.templates["base"], Claim(volume=volume))
    found = mounting(public)
    with pytest.raises(Exception, match=f"in use by sandbox {found}"):
        world.sandboxes.create(world.config.templates["base"], Claim(volume=volume))


@pytest.mark.parametrize(
    "path",
    [
        *(
            "",
            "data",
            "/",
            "//",
            "/.",
            "/mnt/../etc",
            "/..",
            "/proc",
            "/proc/x",
            "/sys",
            "/dev/shm",
            "/run",
            "/run/sandbox",
        ),
        *(
            "/etc",
            "/etc/x",
            "/code",
            "/code/x",
            "//code",
            "/usr/local",
            "/opt/envd",
            "/bin",
            "/var/run/x",
            "/home/user",
        ),
        *("/mnt/a\n", "/mnt/\0", "/" + "x" * 255, "/tmp", "/home/"),
    ],
)
def test_where_no_volume_can_be(public: Public, world: World, path: str) -> None:
    made(public)
    body = {"templateID": "base", "volumeMounts": [{"name": "data", "path": path}]}
    assert "volumeMounts" in public.refused("POST", "/v2/sandboxes", 400, json=body)
    assert world.engine.empty()


@pytest.mark.parametrize("path", ["/mnt", "/data", "/home/user/data", "/tmp/x", "/procession", "/var/lib/x"])
def test_where_a_volume_can_be(public: Public, path: str) -> None:
    made(public)
    mounting(public, path)


@pytest.mark.parametrize(
    "mounts",
    [
        [{"name": "data", "path": "/a"}, {"name": "data", "path": "/b"}],
        [{"name": "data", "path": "/a"}, {"name": "more", "path": "/a"}],
        [{"name": "data", "path": "/a"}, {"name": "more", "path": "/a/b"}],
        [{"name": "data", "path": f"/{n}"} for n in range(17)],
        [{"name": "data"}],
        ["data"],
    ],
)
def test_mounts_that_do_not_go_together(public: Public, mounts: list[Any]) -> None:
    made(public)
    made(public, "more")
    public.refused("POST", "/v2/sandboxes", 400, json={"templateID": "base", "volumeMounts": mounts})


def test_what_is_written_there_counts_for_the_sandbox(public: Public, world: World) -> None:
    volume = made(public)["volumeID"]
    row = world.ledger.find(mounting(public))[0]
    before = world.watchdog._measure(row).disk_mb
    with world.sandboxes.disks.file("", volume).open("wb") as file:
        file.write(b"x" * 5_000_000)
    assert world.watchdog._measure(row).disk_mb > before


def test_the_command_line_sees_and_removes_them(public: Public, world: World) -> None:
    volume = made(public)["volumeID"]
    (listed,) = world.ledger.volumes()
    assert (listed.name, listed.owner, listed.title, listed.slot) == (volume, "team", "data", "")
    first = mounting(public)
    assert world.ledger.volumes()[0].sandbox_id == first and len(world.ledger.holders(volume)) == 1
    with pytest.raises(Exception, match=first):
        world.sandboxes.volumes.remove(volume)
    public.http.delete(f"/sandboxes/{first}")
    world.sandboxes.volumes.remove(volume)
    assert world.ledger.volumes() == []
