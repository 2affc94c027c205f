"""What is measured of a fleet, with a manager that places as its hosts are cordoned."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from deploys.target import Target
from tools.bench.__main__ import measured
from tools.bench.host import fleet, run
from tools.bench.host.machine import Machine, Unexpected
from tools.bench.host.measure import Scale


class Manager(Machine):
    """The first host that is ready gets everything, but what it is told to misplace."""

    manages = True

    def __init__(self, *names: str, misplaced: bool = False) -> None:
        self.name = "acme"
        self.state = dict.fromkeys(names, "ready")
        self.warm = dict.fromkeys(names, 2)
        self.sandboxes: dict[str, str] = {}
        self._numbers = itertools.count()
        self._misplaced = misplaced

    def wait_for_pool(self, members: int = 0) -> None:
        pass

    def limit(self, wanted: int) -> int:
        return wanted

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, str], Any]:
        if path == "/nodes":
            for name, state in self.state.items():  # one member less at each look, where nothing is given
                self.warm[name] = max(self.warm[name] - 1, 0) if state == "cordoned" else 2
            return (
                200,
                {},
                [{"name": name, "state": state, "warm": self.warm[name]} for name, state in self.state.items()],
            )
        if path.startswith("/nodes/"):
            _, _, name, action = path.split("/")
            self.state[name] = {"cordon": "cordoned", "activate": "ready"}[action]
            return 200, {}, {}
        if method == "GET":
            rows = [{"sandboxID": one, "node": node, "name": "sandbox-bench"} for one, node in self.sandboxes.items()]
            return 200, {}, rows
        if method == "DELETE":
            del self.sandboxes[path.rpartition("/")[2]]
            return 204, {}, None
        made = f"{next(self._numbers):012x}"  # several threads may ask at once
        names = [name for name, state in self.state.items() if state == "ready"]
        self.sandboxes[made] = "elsewhere" if self._misplaced else names[0]
        return 201, {}, {"sandboxID": made}


@pytest.fixture(autouse=True)
def configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text('node = "b"\n')
    monkeypatch.setattr(fleet, "Path", lambda path: tmp_path / Path(path).name)


def test_the_host_itself_is_the_first() -> None:
    assert fleet.ready_hosts(Manager("a", "b", "c")) == ["b", "a", "c"]


def test_the_others_are_cordoned_in_the_block_alone() -> None:
    manager = Manager("a", "b", "c")
    with pytest.raises(KeyError), fleet.only(manager, "b"):
        assert manager.state == {"a": "cordoned", "b": "ready", "c": "cordoned"}
        raise KeyError
    assert set(manager.state.values()) == {"ready"}


def test_the_others_have_nothing_to_do_in_the_block() -> None:
    manager = Manager("a", "b", "c")
    with fleet.only(manager, "b"):
        assert manager.warm == {"a": 0, "b": 2, "c": 0}


def test_one_that_keeps_its_pool_spoils_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "EMPTY_S", 0.0)
    manager = Manager("a", "b")
    with pytest.raises(Unexpected, match=r"members of pools still: \{'a': 1\}"), fleet.only(manager, "b"):
        pass
    assert set(manager.state.values()) == {"ready"}


def test_a_host_that_cannot_be_activated_leaves_no_other_cordoned(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager("a", "b", "c")
    expect = manager.expect

    def failing(status: int, method: str, path: str, body: object = None) -> Any:
        if path == "/nodes/a/activate":
            raise Unexpected("no leader")
        return expect(status, method, path, body)

    monkeypatch.setattr(manager, "expect", failing)
    with pytest.raises(Unexpected, match="no leader"), fleet.only(manager, "b"):
        assert manager.state == {"a": "cordoned", "b": "ready", "c": "cordoned"}
    assert manager.state == {"a": "cordoned", "b": "ready", "c": "ready"}


def test_what_is_made_on_another_host_is_beside_what_is_made_here() -> None:
    rows = fleet.created(Manager("a", "b"), Scale(rounds=3, cold_rounds=2), ("b", "a"))
    assert [(row["n"], row["peer"]["success"]) for row in rows] == [(3, 1), (2, 1)]


def test_a_sandbox_on_the_wrong_host_spoils_the_figure() -> None:
    with pytest.raises(Unexpected, match="a sandbox for b was made on elsewhere"):
        fleet.created(Manager("a", "b", misplaced=True), Scale(), ("b", "a"))


def test_as_many_on_all_as_on_one() -> None:
    manager = Manager("a", "b", "c")
    each, whole = fleet.at_once(manager, Scale(parallel=4), ["b", "a", "c"])
    assert each["what"] == "4 parallel init on 3 hosts, each" and each["met"] and whole["peer"]["success"] == 1
    assert manager.sandboxes == {}


@pytest.mark.parametrize(("names", "said"), [(["b"], "there are: b"), (["a", "c"], "there are: a, c")])
def test_one_host_is_no_fleet(names: list[str], said: str) -> None:
    with pytest.raises(Unexpected, match=said):
        fleet.ready_hosts(Manager(*names))


def test_a_single_host_is_told() -> None:
    manager = Manager("b")
    manager.manages = False
    with pytest.raises(Unexpected, match="no manager of a fleet"):
        fleet.fleet(manager, Scale())


def test_a_worker_is_not_asked_for_it() -> None:
    manager, worker = (Target(role, "192.0.2.1", settings={"fleet_role": role}) for role in ("manager", "worker"))
    single = Target("single", "192.0.2.2")
    assert measured([manager, worker, single], ["fleet"]) == [manager, single]
    assert measured([manager, worker, single], ["init"]) == [manager, worker, single]


def test_it_is_a_case_of_managers() -> None:
    manager = Manager("a", "b")
    assert "fleet" in run.cases_of(manager)
    manager.manages = False
    assert run.cases_of(manager) == [case for case in run.CASES if case != "fleet"]
