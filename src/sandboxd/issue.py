"""Waits for the certificate that Traefik orders by ACME: `python -m sandboxd.issue CONFIG`, at the end of a deploy.

Traefik never repeats a first order that failed until its next start, so it is restarted once. With --check it only says
what is missing, and nothing when a good certificate is served. Touches Traefik's container alone.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sandboxd.config import Config, load
from sandboxd.doctor import acme
from sandboxd.doctor.certificates import served
from sandboxd.doctor.effects import Effects
from sandboxd.errors import SandboxdError

WAIT_S = 600.0  # some providers take minutes to show a new record to the world
POLL_S = 0.5
TOLD_EVERY_S = 15.0
RESTART_S = 60.0


def missing(config: Config, effects: Effects) -> str:
    """Why what is served will not do; "" when it is a certificate for the domain that holds."""
    try:
        found = served(effects, config.domain)
    except OSError as error:
        return f"nothing is served: {error}"
    if found.good_for(config.domain, effects.now()):
        return ""
    return f"{found.subject} is served, which is not for *.{config.domain}, or does not hold now"


def wait(config: Config, effects: Effects, restart: Callable[[], None], wait_s: float = WAIT_S) -> str:
    """Says what it waits for, line by line. Returns why there is no certificate, "" when there is one."""
    began = told = time.monotonic()
    restarted, offset = False, 0
    _say(f"Traefik orders a certificate for *.{config.domain}")
    while reason := missing(config, effects):
        text = _log(config, effects)
        # Its log goes on through the restart; a file that is shorter was begun anew.
        text = text[offset:] if len(text) >= offset else text
        started = not restarted or acme.STARTED in text
        failed = acme.last_trouble(acme.since_start(text)) if started else None
        if failed and restarted:
            return acme.mask(failed.text, acme.secrets_of(effects))
        if failed:
            _say(f"the order failed: {acme.mask(failed.text, acme.secrets_of(effects))}; Traefik tries once more")
            restarted, offset = True, len(_log(config, effects))
            restart()
        now = time.monotonic()
        if now - began > wait_s:
            return f"none within {now - began:.0f} s, and no failed order in {acme.log(config.state_dir)}: {reason}"
        if now - told > TOLD_EVERY_S:
            told = now
            _say(f"no certificate yet after {now - began:.0f} s")
        time.sleep(POLL_S)
    found = served(effects, config.domain)
    _say(f"*.{config.domain}: issued by {found.issuer}, holds {found.days_left(effects.now()):.0f} days")
    return ""


def restart_traefik() -> None:
    """Raises OSError when Docker does not."""
    done = subprocess.run(
        ["docker", "restart", "traefik"], capture_output=True, text=True, timeout=RESTART_S, check=False
    )
    if done.returncode != 0:
        raise OSError(f"docker restart traefik: {done.stderr.strip()}")


def _log(config: Config, effects: Effects) -> str:
    try:
        return effects.text(acme.log(config.state_dir))
    except FileNotFoundError:  # Traefik has not come that far
        return ""


def _say(line: str) -> None:
    print(line, flush=True)


def main(arguments: Sequence[str]) -> int:
    file, *flags = arguments
    effects = Effects()
    try:
        config = load(Path(file))
        if flags == ["--check"]:
            print(missing(config, effects))
            return 0
        reason = wait(config, effects, restart_traefik)
    except (SandboxdError, OSError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    if reason:
        _say(f"error: no certificate by ACME: {reason}")
        _say("Mend what it says, such as acme_credentials, and deploy again. All the rest of this host is deployed.")
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
