"""Turn a Debian host into a sandbox host."""

from deploys import (
    base,
    certificates,
    cleanup,
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
