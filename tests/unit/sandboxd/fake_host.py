"""The host: its mounts, its packet and routing rules."""

import json
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandboxd import iprules
from sandboxd.errors import HostError


class FakeMounts:
    """The host's mounts: a mount or unmount changes the file that lists them. `fail[command]` is as in FakeEngine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.commands: list[list[str]] = []
        self.fail: dict[str, Exception] = {}
        self._mountinfo = root / "proc/1/mountinfo"
        self._mountinfo.parent.mkdir(parents=True, exist_ok=True)
        if not self._mountinfo.exists():  # else another daemon on the same host
            self._mountinfo.write_text("1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n")
        self._lock = threading.Lock()

    def run(self, command: list[str]) -> str:
        self.commands.append(command)
        words = command[command.index("--") + 1 :] if "--" in command else command
        if error := self.fail.pop(words[0], None):
            raise error
        with self._lock:
            lines = self._mountinfo.read_text().splitlines()
            if words[0] == "mount":
                lines.append(f"{len(lines) + 9} 1 7:0 / {words[-1]} rw shared:2 - ext4 /dev/loop{len(lines)} rw")
            elif words[0] == "cp":
                source, target = Path(words[-2]), Path(words[-1])
                with (
                    source.open("rb") as opened,
                    target.open("wb") as made,
                ):  # the rest is empty
                    made.write(opened.read(4096))
                    made.truncate(source.stat().st_size)
            elif words[0] == "umount":
                lines = [line for line in lines if line.split()[4] != words[-1]]
            self._list("\n".join(lines) + "\n")
        return ""

    def _list(self, text: str) -> None:
        """All at once: whoever reads the kernel's file while something else is mounted misses no mount either."""
        new = self._mountinfo.with_suffix(".new")
        new.write_text(text)
        new.replace(self._mountinfo)

    def mounted(self) -> list[str]:
        """The slots whose disks are mounted."""
        return [Path(line.split()[4]).name for line in self._mountinfo.read_text().splitlines()[1:]]

    def reboot(self) -> None:
        """Nothing is mounted any more."""
        self._list(self._mountinfo.read_text().splitlines()[0] + "\n")


class FakeNft:
    """The host's packet and routing rules, as nft's scripts and ip change them. `fail` is raised instead of the next
    command. `removed` tells who listens that somebody has removed something."""

    def __init__(self) -> None:
        self.heeds = False  # the mark, at its look at the way back
        self.routing = ["0: from all lookup local", "32766: from all lookup main"]
        self.removed: queue.Queue[Exception | None] = queue.Queue()
        self.chains: dict[str, list[str]] = {}
        self.maps: dict[str, dict[str, str]] = {}
        self.named: set[str] = set()  # bridges that are led to the egress proxy
        self.addresses: list[str] = []  # of the egress proxy, on lo
        self.fail: Exception | None = None
        self.scripts: list[str] = []
        self.units: list[str] = []  # that were started
        self._lock = threading.RLock()  # for those who look, too: a dictionary must not grow under them

    def run(self, command: list[str], text: str) -> str:
        with self._lock:
            if error := self.fail:
                self.fail = None
                raise error
            if command == ["nft", "-f", "-"]:
                if not (self.chains or text.startswith("add table")):
                    raise HostError("nft -f -: Error: No such file or directory")
                self.scripts.append(text)
                for line in text.splitlines():
                    self._do(line.split())
                return ""
            if "sysctl" in command:
                self.heeds = self.heeds or command[-1] == f"{iprules.HEED}=1"
                return f"{int(self.heeds)}\n"
            if command[0] == "systemctl":
                assert command[1:-1] == ["--no-block", "start"], command
                self.units.append(command[-1])
                return ""
            if command[:1] == ["ip"] and "address" in command:
                return self._address(command)
            if command[0] == "ip":
                return self._route(command)
            assert command[:4] == ["nft", "-j", "list", "table"], command
            if not self.chains:
                raise HostError("nft: No such file or directory")
            return json.dumps({"nftables": list(self._listing())})

    def changes(self, table: str) -> Iterator[None]:
        assert table == "acme-policies"
        yield
        while True:
            if error := self.removed.get():
                raise error
            yield

    def _route(self, command: list[str]) -> str:
        if command[3] == "show":
            return "".join(line.replace(":", ":\t", 1) + "\n" for line in sorted(self.routing))
        assert command[:3] == ["ip", "-4", "rule"] and command[4] == "pref"
        line = f"{command[5]}: {'from all ' if command[6] != 'from' else ''}{' '.join(command[6:])}"
        if command[3] == "add":
            assert line not in self.routing
            self.routing.append(line)
        else:
            self.routing.remove(line)
        return ""

    def _address(self, command: list[str]) -> str:
        if "show" in command:
            return "".join(f"1: lo    inet {one}/32 scope host lo:egress\\       valid\n" for one in self.addresses)
        assert command[:3] == ["ip", "-4", "address"] and command[5:7] == ["dev", "lo"]
        {"add": self.addresses.append, "del": self.addresses.remove}[command[3]](command[4].removesuffix("/32"))
        return ""

    def flush(self) -> None:
        """Somebody removed all packet rules of the host."""
        with self._lock:
            self.chains, self.maps, self.named = {}, {}, set()

    def rules(self, slot: str) -> list[str]:
        """Those of what a sandbox sends, without their marks; none if no packet is led to them."""
        with self._lock:
            if self.maps.get("from", {}).get(f'"sb-{slot}"') != f"from-{slot}":
                return []
            return [rule.partition(" comment ")[0] for rule in self.chains[f"from-{slot}"]]

    def policies(self) -> dict[str, list[str]]:
        """The rules of all slots that are led to any."""
        with self._lock:
            return {slot: self.rules(slot) for slot in self.slots() if self.rules(slot)}

    def slots(self) -> set[str]:
        with self._lock:
            return {name.partition("-")[2] for name in self.chains if "-" in name}

    def _do(self, words: list[str]) -> None:
        match words:
            case ["add", "table", "inet", "acme-policies"]:
                pass
            case ["add", "map", "inet", _, name, *_]:
                self.maps.setdefault(name, {})
            case ["add", "set", "inet", _, "named", *_]:
                pass
            case [verb, "element", "inet", _, "named", "{", bridge, "}"]:
                {"add": self.named.add, "delete": self.named.remove}[verb](bridge.strip('"'))
            case ["add", "chain", "inet", _, name, *_]:
                self.chains.setdefault(name, [])
            case ["flush", "chain", "inet", _, name]:
                self.chains[name].clear()
            case ["delete", "chain", "inet", _, name]:
                assert not self.chains.pop(name) and all(name not in led.values() for led in self.maps.values())
            case ["add", "rule", "inet", _, name, *rule]:
                self.chains[name].append(" ".join(rule))
            case ["add", "element", "inet", _, name, "{", bridge, ":", "jump", chain, "}"]:
                assert chain in self.chains
                self.maps[name][bridge] = chain
            case ["delete", "element", "inet", _, name, "{", bridge, ":", "jump", _, "}"]:
                del self.maps[name][bridge]
            case _:
                raise AssertionError(f"no line of nft that is expected: {' '.join(words)}")

    def _listing(self) -> Iterator[dict[str, Any]]:
        for name, rules in self.chains.items():
            yield {"chain": {"name": name}}
            for rule in rules:
                comment = rule.partition(" comment ")[2].strip('"')
                yield {"rule": {"chain": name, **({"comment": comment} if comment else {})}}
        yield {"set": {"name": "named", **({"elem": sorted(self.named)} if self.named else {})}}
        for name, led in self.maps.items():
            elements = [[bridge.strip('"'), {"jump": {"target": chain}}] for bridge, chain in led.items()]
            yield {"map": {"name": name, **({"elem": elements} if elements else {})}}
