"""Turn a Debian host into a sandbox host."""

from deploys import (
    access,
    base,
    certificates,
    cleanup,
    confinement,
    console,
    docker,
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
sandboxd.daemon()
sandboxd.routes()
console.pages()
pool.warm()
cleanup.cron()
skills.install()
certificates.issued()
hardening.audit()
access.ssh()
release.record()
