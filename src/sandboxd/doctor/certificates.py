"""The certificate that Traefik serves for the sandboxes, whoever signed it."""

import secrets
import ssl
from dataclasses import dataclass

from sandboxd.doctor.effects import Effects

DAY_S = 86400
OPTIONS = ("-noout", "-subject", "-issuer", "-startdate", "-enddate", "-ext", "subjectAltName")


@dataclass(frozen=True)
class Certificate:
    """Times in Unix seconds."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: float
    not_after: float

    def days_left(self, now: float) -> float:
        return (self.not_after - now) / DAY_S

    def good_for(self, domain: str, now: float) -> bool:
        """Whether it is for all names below the domain, and holds."""
        return f"*.{domain}" in self.names and self.not_before <= now < self.not_after


def served(effects: Effects, domain: str) -> Certificate:
    """What is served for the name of a sandbox. Raises OSError."""
    der = effects.certificate(effects.edge, f"qa-{secrets.token_hex(6)}.{domain}")
    done = effects.run(["openssl", "x509", "-inform", "DER", *OPTIONS], der)
    if done.code != 0:
        raise OSError(f"openssl does not read the certificate: {done.text.strip()}")
    return parse(done.text)


def parse(text: str) -> Certificate:
    """From what `openssl x509` prints with OPTIONS."""
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith(" "))
    names = [word.strip() for line in text.splitlines() if line.startswith(" ") for word in line.split(",")]
    return Certificate(
        subject=values.get("subject", "").strip(),
        issuer=values.get("issuer", "").strip(),
        names=tuple(name.removeprefix("DNS:").lower() for name in names if name.startswith("DNS:")),
        not_before=ssl.cert_time_to_seconds(values["notBefore"]),
        not_after=ssl.cert_time_to_seconds(values["notAfter"]),
    )
