"""What a throwaway lab needs different from a server."""

import os
from pathlib import Path

from lab.registries import private_proxies

__all__ = ["domain", "extra_ca_certificates", "network_allow", "sysctls"]

domain = "lab.test"

# A lab behind a proxy that inspects TLS trusts what the workstation trusts.
_trusted = Path("/usr/local/share/ca-certificates")
extra_ca_certificates = [str(_trusted)] if _trusted.is_dir() else []

# And one that reaches the registries through a proxy in a private network lets its builds and sandboxes go there, too.
network_allow = private_proxies(os.environ)

# A lab shares the workstation's kernel: set only what belongs to its own network namespace.
sysctls = {
    "net.ipv4.conf.all.accept_redirects": 0,
    "net.ipv4.conf.all.accept_source_route": 0,
    "net.ipv4.conf.all.rp_filter": 1,
    "net.ipv4.conf.all.send_redirects": 0,
    "net.ipv4.conf.default.accept_redirects": 0,
    "net.ipv4.conf.default.accept_source_route": 0,
    "net.ipv4.conf.default.send_redirects": 0,
    "net.ipv6.conf.all.accept_redirects": 0,
    "net.ipv6.conf.default.accept_redirects": 0,
}
