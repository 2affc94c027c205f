"""What a host lets its sandboxes reach, as a value: the modes, the wall around `public`, and who may ask for which.

Nothing is touched. `policy` is about one sandbox, this about the host's settings.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network

from sandboxd.errors import BadRequest, Forbidden
from sandboxd.policy import Policy, parse

# open: whatever the host reaches, itself included. public: the internet. none: nothing.
OPEN, PUBLIC, NONE = MODES = ("open", "public", "none")
# No address here is anybody's on the internet, by RFC 6890 and its like, but for one.
WALLED = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",  # shared by carriers; of some clouds (Alibaba) the metadata service
    "127.0.0.0/8",
    "169.254.0.0/16",  # link-local: the metadata service of most clouds
    "172.16.0.0/12",
    "192.0.0.0/24",  # of Oracle's cloud the metadata service
    "192.168.0.0/16",
    "168.63.129.16/32",  # public by its number, and of every machine in Azure the host that it runs on
    "224.0.0.0/3",  # multicast, reserved, broadcast
)
MAIL_PORTS = (25, 465, 587)
HOST_PORTS = (80, 443)  # of the host itself: Traefik, which is open to the whole world


@dataclass(frozen=True)
class Egress:
    """The settings. `sources` are the networks that sandboxes and builds have addresses of.

    `address` is that to which sandboxes with names in their allow list are led; `user` is whom the proxy there runs as.
    `fleet` are the addresses of the hosts of a fleet, `fleet_ports` those ports at which they are there for each other.
    """

    mode: str = PUBLIC
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    keys_may_open: bool = False
    sources: tuple[str, ...] = ("10.200.0.0/16", "10.199.0.0/24")
    address: str = "198.18.0.1"
    user: str = "acme-egress"
    fleet: tuple[str, ...] = ()
    fleet_ports: tuple[int, ...] = ()

    def walled(self) -> list[IPv4Network]:
        """What nobody reaches in the mode `public`, but for what is exempt; without overlaps."""
        return _networks([*WALLED, *self.deny])

    def exempt(self) -> list[IPv4Network]:
        return _networks(self.allow)

    def policy(self, mode: str, allow: Iterable[str], deny: Iterable[str], trusted: bool) -> Policy:
        """What somebody asked for; an empty `mode` is the host's. `trusted`: not by an API key.

        Raises BadRequest for what is no address, and for an allow that would do nothing; Forbidden for a mode that the
        asker may not have.
        """
        may_open = trusted or self.keys_may_open
        if mode and mode not in MODES:
            raise BadRequest(f"network.mode: {mode!r} is none of {', '.join(MODES)}")
        if mode == OPEN and not may_open:
            raise Forbidden(
                "network.mode: 'open' is not for API keys on this host, by its setting api_open_network."
                " Leave it out, or use docker-sandbox on the host."
            )
        mode = mode or (self.mode if may_open or self.mode != OPEN else PUBLIC)
        made = parse(allow, deny, mode != NONE, mode == OPEN)
        for network in () if made.open else made.allowed():
            if self._hidden(network):
                raise BadRequest(
                    f"network.allowOut: {str(network)!r} is in a private or reserved network, which this host closes"
                    " to sandboxes. Ask for the mode 'open', or have it added to the host's setting network_allow."
                )
        return made

    def _hidden(self, network: IPv4Network) -> bool:
        # In the networks of sandboxes are the host's own addresses, of which two ports are open.
        if any(network.subnet_of(one) for one in (*self.exempt(), *_networks(self.sources))):
            return False
        return any(network.subnet_of(one) for one in self.walled())


def mode_of(policy: Policy) -> str:
    return OPEN if policy.open else NONE if policy.closed else PUBLIC


def _networks(entries: Iterable[str]) -> list[IPv4Network]:
    return list(ipaddress.collapse_addresses(IPv4Network(one, strict=False) for one in entries))
