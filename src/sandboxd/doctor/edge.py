"""Checks of the way from outside to a sandbox: gateway, routes, Traefik and its certificate."""

import secrets

from sandboxd.doctor import acme
from sandboxd.doctor.certificates import DAY_S, served
from sandboxd.doctor.findings import DEPLOY, Verdict, fail, ok, skip, warn
from sandboxd.doctor.readers import Readers
from sandboxd.errors import GatewayError, SandboxdError

TRAEFIK = "traefik"
SOON_DAYS = 14
CERTIFICATE_REMEDIES = {
    "internal": f"{DEPLOY}; it makes a new one",
    "files": "put a new certificate where the setting tls_certificate points, and deploy again",
    "acme": "the finding acme says why; mend that, and deploy again",
}


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


def console(readers: Readers) -> Verdict:
    """Who has not signed in is led to the sign-in."""
    if not readers.config.wanted.console:
        return skip("switched off: the setting console")
    unit = f"{readers.config.project}-console"
    remedy = f"systemctl restart {unit}.socket {unit}.service; journalctl -u {unit} -n 50"
    host, port = readers.config.gateway.address
    name = f"console.{readers.config.domain}"
    try:
        answer = readers.effects.fetch((host, port), name, False)
    except OSError as error:
        return fail(f"{host}:{port} does not answer for {name}: {error}", remedy)
    return ok(f"https://{name}") if answer.status == 303 else fail(f"{name} answers {answer.status}", remedy)


def traefik(readers: Readers) -> Verdict:
    name = f"qa-{secrets.token_hex(6)}.{readers.config.domain}"
    host, port = readers.effects.edge
    try:
        readers.effects.certificate(readers.effects.edge, name)
    except OSError as error:
        return fail(f"{host}:{port}: {error}", f"{_log(readers)}; {_start(readers)}")
    return ok(f"answers TLS on port {port}")


def _log(readers: Readers) -> str:
    if readers.config.wanted.tls_mode == "acme":
        return f"tail -n 20 {acme.log(readers.config.state_dir)}"
    return f"docker logs --tail 20 {TRAEFIK}"


def _start(readers: Readers) -> str:
    try:
        found = readers.engine.container(TRAEFIK)
    except SandboxdError:
        return "systemctl restart docker"
    return DEPLOY if found is None else f"docker restart {TRAEFIK}"


def certificate(readers: Readers) -> Verdict:
    wanted = f"*.{readers.config.domain}"
    found = served(readers.effects, readers.config.domain)
    remedy = CERTIFICATE_REMEDIES[readers.config.wanted.tls_mode]
    if wanted not in found.names:
        return fail(f"{found.subject}: for {', '.join(found.names) or 'no name'}, not for {wanted}", remedy)
    return ok(f"for {wanted}")


def certificate_life(readers: Readers) -> Verdict:
    found, now = served(readers.effects, readers.config.domain), readers.effects.now()
    remedy = CERTIFICATE_REMEDIES[readers.config.wanted.tls_mode]
    days = found.days_left(now)
    if now < found.not_before:
        return fail(
            f"holds only in {(found.not_before - now) / DAY_S:.1f} days: is the clock right?",
            "date; timedatectl; then deploy again",
        )
    if days <= 0:
        return fail(f"ended {-days:.0f} days ago", remedy)
    seen = f"ends in {days:.0f} days; issued by {found.issuer}"
    return warn(seen, remedy) if days < SOON_DAYS else ok(seen)
