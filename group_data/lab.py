"""What a throwaway lab needs different from a server."""

from pathlib import Path

__all__ = ["domain", "extra_ca_certificates", "sysctls"]

domain = "lab.test"

# A lab behind a proxy that inspects TLS trusts what the workstation trusts.
_trusted = Path("/usr/local/share/ca-certificates")
extra_ca_certificates = [str(_trusted)] if _trusted.is_dir() else []

# A lab shares the workstation's kernel: set only what belongs to its own network namespace.
sysctls = {"net.ipv4.conf.all.accept_redirects": 0, "net.ipv4.conf.all.send_redirects": 0}
