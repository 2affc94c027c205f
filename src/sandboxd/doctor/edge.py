"""Checks of the way from outside to a sandbox: gateway, routes, Traefik, its certificate, and DNS."""

import ipaddress
import json
import secrets
import ssl
from dataclasses import dataclass

from sandboxd.doctor.effects import Effects, Output
from sandboxd.doctor.findings import DEPLOY, Verdict, fail, ok, warn
from sandboxd.doctor.readers import Readers
from sandboxd.errors import GatewayError, SandboxdError

TRAEFIK = "traefik"
SOON_DAYS = 14
DAY_S = 86400
CERTIFICATE_REMEDIES = {
    "internal": f"{DEPLOY}; it makes a new one",
    "files": "put a new certificate where the setting tls_certificate points, and deploy again",
    "acme": "docker logs traefik | grep -i acme; mend the credentials, deploy again, then docker restart traefik",
}


@dataclass(frozen=True)
class Certificate:
    """Times in Unix seconds."""

    subject: str
    names: tuple[str, ...]
    not_before: float
    not_after: float


def gateway(readers: Readers) -> Verdict:
    """It takes commands, and answers a request for a sandbox that is not there with the words that clients know."""
    remedy = "systemctl restart haproxy; journalctl -u haproxy -n 50"
    host, port = readers.config.gateway.address
    try:
        readers.sandboxes.gateway.check()
        answer = readers.effects.fetch((host, port), f"qa-{secrets.token_hex(6)}.{readers.config.domain}", False)
    except GatewayError as error:
        return fail(str(error), remedy)
    except OSError as error:
        return fail(f"{host}:{port} does not answer: {error}", remedy)
    if answer.status != 502 or b"The sandbox was not found" not in answer.body:
        return fail(f"{host}:{port} answers {answer.status} for an unknown sandbox, not our 502", DEPLOY)
    return ok(f"answers on {host}:{port} and takes routes")


def routes(readers: Readers) -> Verdict:
    status = readers.sandboxes.gateway.status()
    if status.in_step:
        return ok(f"{status.routes} routes, the same in ledger, map file and gateway")
    differing = {"missing": status.missing, "stale": status.stale}
    seen = "; ".join(f"{word}: {', '.join(ids)}" for word, ids in differing.items() if ids)
    return fail(status.gateway or seen, "docker-sandbox routes sync")


def traefik(readers: Readers) -> Verdict:
    name = f"qa-{secrets.token_hex(6)}.{readers.config.domain}"
    host, port = readers.effects.edge
    try:
        readers.effects.certificate(readers.effects.edge, name)
    except OSError as error:
        return fail(f"{host}:{port}: {error}", f"docker logs --tail 20 {TRAEFIK}; {_start(readers)}")
    return ok(f"answers TLS on port {port}")


def _start(readers: Readers) -> str:
    try:
        found = readers.engine.container(TRAEFIK)
    except SandboxdError:
        return "systemctl restart docker"
    return DEPLOY if found is None else f"docker restart {TRAEFIK}"


def certificate(readers: Readers) -> Verdict:
    wanted = f"*.{readers.config.domain}"
    found = _served(readers)
    remedy = CERTIFICATE_REMEDIES[readers.config.wanted.tls_mode]
    if wanted not in found.names:
        return fail(f"{found.subject}: for {', '.join(found.names) or 'no name'}, not for {wanted}", remedy)
    return ok(f"for {wanted}")


def certificate_life(readers: Readers) -> Verdict:
    found, now = _served(readers), readers.effects.now()
    remedy = CERTIFICATE_REMEDIES[readers.config.wanted.tls_mode]
    days = (found.not_after - now) / DAY_S
    if now < found.not_before:
        return fail(
            f"holds only in {(found.not_before - now) / DAY_S:.1f} days: is the clock right?",
            "date; timedatectl; then deploy again",
        )
    if days <= 0:
        return fail(f"ended {-days:.0f} days ago", remedy)
    seen = f"ends in {days:.0f} days"
    return warn(seen, remedy) if days < SOON_DAYS else ok(seen)


def _served(readers: Readers) -> Certificate:
    return served(readers.effects, readers.config.domain)


def served(effects: Effects, domain: str) -> Certificate:
    """What Traefik serves for a sandbox, whoever signed it. Raises OSError."""
    der = effects.certificate(effects.edge, f"qa-{secrets.token_hex(6)}.{domain}")
    options = ["-noout", "-subject", "-startdate", "-enddate", "-ext", "subjectAltName"]
    done = effects.run(["openssl", "x509", "-inform", "DER", *options], der)
    if done.code != 0:
        raise OSError(f"openssl does not read the certificate: {done.text.strip()}")
    return parse_certificate(done.text)


def parse_certificate(text: str) -> Certificate:
    """From what `openssl x509 -subject -startdate -enddate -ext subjectAltName` prints."""
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith(" "))
    names = [word.strip() for line in text.splitlines() if line.startswith(" ") for word in line.split(",")]
    return Certificate(
        subject=values.get("subject", "").strip(),
        names=tuple(name.removeprefix("DNS:").lower() for name in names if name.startswith("DNS:")),
        not_before=ssl.cert_time_to_seconds(values["notBefore"]),
        not_after=ssl.cert_time_to_seconds(values["notAfter"]),
    )


def dns(readers: Readers) -> Verdict:
    """A name below the domain leads here: to an address of this host, or to one where the same certificate answers."""
    name = f"doctor-{secrets.token_hex(4)}.{readers.config.domain}"
    remedy = f"point a wildcard record *.{readers.config.domain} at this host; look with: getent ahosts {name}"
    found = addresses(readers.effects.run(["getent", "ahosts", name]))
    if not found:
        return warn(f"{name} has no address", remedy)
    here = own_addresses(readers.effects.run(["ip", "-json", "address"]))
    foreign = [address for address in found if not _leads_here(readers, address, name, here)]
    if foreign:
        return warn(f"{name} is {', '.join(foreign)}, where this host does not answer", remedy)
    return ok(f"{name} is {', '.join(found)}")


def _leads_here(readers: Readers, address: str, name: str, here: set[str]) -> bool:
    if ipaddress.ip_address(address).is_loopback:
        return False  # each client would be led to itself
    if address in here:
        return True
    served, edge = readers.effects.certificate, readers.effects.edge
    try:  # behind a translated address no interface has it, but the same certificate answers there
        return served((address, edge[1]), name) == served(edge, name)
    except OSError:
        return False


def addresses(output: Output) -> list[str]:
    """Of `getent ahosts`: each address once, in order."""
    lines = output.text.splitlines() if output.code == 0 else []
    return list(dict.fromkeys(line.split()[0] for line in lines if line.strip()))


def own_addresses(output: Output) -> set[str]:
    """Of `ip -json address`."""
    links = json.loads(output.text) if output.code == 0 else []
    return {one["local"] for link in links for one in link.get("addr_info", ()) if "local" in one}
