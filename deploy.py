"""Turn a Debian host into a sandbox host."""

from deploys import (
    access,
    base,
    certificates,
    cleanup,
    confinement,
    console,
    docker,
    egress,
    gateway,
    hardening,
    images,
    pool,
    preflight,
    release,
    sandboxd,
    skills,
    traefik,
)

preflight.check()
access.prove()
base.system()
hardening.bounds()
certificates.trust()
docker.engine()
confinement.profiles()
images.build()
certificates.serve()
traefik.edge()
gateway.haproxy()
egress.configure()
sandboxd.daemon()
sandboxd.routes()
egress.activate()
console.pages()
pool.warm()
cleanup.cron()
skills.install()
certificates.issued()
hardening.audit()
access.ssh()
release.record()
