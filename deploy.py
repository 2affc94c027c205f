"""Turn a Debian host into a sandbox host."""

from deploys import (
    base,
    certificates,
    cleanup,
    confinement,
    console,
    docker,
    gateway,
    images,
    pool,
    preflight,
    release,
    sandboxd,
    skills,
    traefik,
)

preflight.check()
base.system()
certificates.trust()
docker.engine()
confinement.profiles()
images.build()
certificates.serve()
traefik.edge()
gateway.haproxy()
sandboxd.daemon()
console.pages()
pool.warm()
cleanup.cron()
skills.install()
certificates.issued()
release.record()
