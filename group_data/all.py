"""Every setting of a sandbox host, with its default and its reason.

Override a value in `hosts.toml`, in a group_data file of your own, or with `make deploy SET="key=value ..."`.
`deploys/settings.py` checks them all before the first change. `docs/settings.md` is made from this file.
"""

# --- Names -----------------------------------------------------------------------------------------------------------

# Prefix of images, containers and units, and of the directory names on the host (`<project>-sandbox`).
project = "flourisha"

# Sandboxes are served at https://qa-<id>.<domain> and https://<port>-<id>.<domain>; the API at https://api.<domain>.
# Point a wildcard record `*.<domain>` at the host. There is no default: a real host must name its own. Or "sslip.io",
# for a host that is named by its IPv4 address: a name such as 203-0-113-7.sslip.io, known to that public DNS service.
# docs/certificates.md tells more about names and certificates.
domain = ""

# The port inside a sandbox that https://qa-<id>.<domain> shows.
default_port = 8000

# --- TLS -------------------------------------------------------------------------------------------------------------

# Where the certificate for `*.<domain>` comes from:
#   "internal"  a certificate authority made on the host, for labs and private networks (clients must trust it)
#   "files"     tls_certificate and tls_key, files on the workstation
#   "acme"      Let's Encrypt, or another ACME server, by DNS-01 through one of Traefik's DNS providers
tls_mode = "internal"

# For "files": PEM files on the workstation; the certificate with its chain.
tls_certificate = ""
tls_key = ""

# For "acme": the account's e-mail, Traefik's name of the DNS provider, and where the provider's credentials are: each
# entry is a file on the workstation, of NAME=value lines, or the NAME of an environment variable of the workstation.
# They are written to the host with mode 0600, and appear in no plan, no log and no `docker inspect`. The value of a
# NAME that ends in _FILE is a file on the workstation; its content is written to the host.
acme_email = ""
acme_dns_provider = ""
acme_credentials: list[str] = []
# Let's Encrypt's "production" or its "staging", or the https:// directory of another server, whose authority, if it is
# a private one, belongs into extra_ca_certificates. Take "staging" first: production limits failures. A change gets a
# new certificate.
acme_server = "production"
# DNS servers, such as "1.1.1.1", to ask for the zone and the record of the challenge, instead of the zone's own name
# servers. Needed where the host cannot ask those: behind a firewall, or for a zone that few servers know.
acme_resolvers: list[str] = []

# Further certificate authorities that the host, Traefik's orders and its sandboxes trust: PEM files (*.crt) on the
# workstation, or directories of them. Needed behind a proxy that inspects TLS, and with a private ACME server.
extra_ca_certificates: list[str] = []

# --- Docker ----------------------------------------------------------------------------------------------------------

# "debian": docker.io from the host's own mirror. "docker": docker-ce from Docker's apt repository.
docker_source = "debian"
docker_apt_uri = "https://download.docker.com/linux/debian"
# The key that signs that repository: a file on the workstation, or "" to fetch <docker_apt_uri>/gpg on the host.
docker_apt_key = ""

# crun starts and executes about twice as fast as runc (28-53 ms against 70-98 ms for an exec).
docker_runtime = "crun"

# Root inside a container is an unprivileged user outside. Changing it moves Docker's data root: images vanish.
docker_userns_remap = True

# Each sandbox has a network of its own. Docker's defaults allow about 30; a /16 cut in /28 allows 4096.
# Must not overlap a network that the host has to reach.
docker_network_pool = "10.200.0.0/16"
docker_network_prefix = 28
# docker0 itself, away from the 172.17.0.0/16 that many LANs use.
docker_bridge = "10.199.0.1/24"

# True: members of the group `docker` may use Docker's socket, as Debian has it. By it they become root without a
# password. False: nobody but root reaches it, whoever is in that group; docker-sandbox needs none of it.
docker_group = False

# The log of one container: this size, and so many files.
docker_log_max_size = "10m"
docker_log_max_files = 3

# BuildKit keeps at most so much build cache.
docker_build_cache = "10GB"

# --- Images and templates --------------------------------------------------------------------------------------------

# The Debian release from which the host bootstraps the base image, out of its own mirror: no registry is needed.
# "" is the host's own. A newer one than the host's would make system calls that its older engine refuses.
base_suite = ""
# Or an image from a registry, such as "python:3.12-slim-bookworm" (any Debian-based one).
base_image = ""

# What sandboxes are made from. Each template is an image plus its limits; the build adds the extra packages.
#   image           name of the image, without tag (the tag is the hash of what goes into it); the default is
#                   <project>-<template>, and <project>-sandbox for the default template
#   context         "sandbox", "playwright" or "code-interpreter": the folder below files/images. The first template
#                   with "playwright" is where `docker-sandbox browser-test` runs its browser. E2B's code interpreter
#                   asks for a template "code-interpreter-v1": {"context": "code-interpreter"} under that name serves it
#   like            in place of all that makes an image: the name of another template, whose image and limits it has,
#                   but for the limits that are given. It costs nothing: another name, such as one that clients ask for
#   base_image      as above, for this template alone
#   python_version  "" for the base image's own Python, or a version such as "3.12", installed by uv from
#                   python-build-standalone (fetched from python_mirror, "" for GitHub)
#   apt_packages, pip_packages, npm_packages   added to what the image has; pin them as `name==1.2` or `name@1.2`
#   memory_mb, cpus, pids, disk_mb, layer_mb   limits of one sandbox (no swap). They may be more than the host has: a
#                   host is full when memory is used up, not when limits add up
#   runtime         "" for docker_runtime, or "runsc": gVisor, a kernel of its own for each sandbox. The deploy installs
#                   it when a template asks for it. What it costs, and what does not work: docs/security.md#gvisor
#   pool            started sandboxes that wait to be claimed; 0 if it is left out. That of the default template is
#                   pool_size
templates = {
    "base": {"context": "sandbox"},
    "playwright": {"context": "playwright", "pids": 2048},
    # What E2B's skill `agent-sandboxes` and its command line ask for: what they need is in the base image.
    "fullstack-vue-fastapi-node22": {"like": "base"},
    "fullstack-vue-fastapi-node22-lite": {"like": "base", "cpus": 2.0, "memory_mb": 4096},
    "fullstack-vue-fastapi-node22-standard": {"like": "base", "cpus": 4.0, "memory_mb": 4096},
    "fullstack-vue-fastapi-node22-heavy": {"like": "base", "cpus": 4.0, "memory_mb": 8192},
    "fullstack-vue-fastapi-node22-max": {"like": "base", "cpus": 8.0, "memory_mb": 8192},
}
default_template = "base"
python_mirror = ""

# Defaults of the limits above. 1024 tasks suffice for a dev server, its tests and an agent; a browser needs more.
# sandbox_disk_mb is the size of /code, which takes space on the host only as it is written; sandbox_layer_mb is how
# much a sandbox may write elsewhere, such as packages that it installs: beyond, it is stopped. There, a file counts as
# 16 KB at least, since a disk has not more inodes than that. (Where the engine can keep the limit, as overlay2 on XFS
# with project quotas, writing more fails with "no space left" already.)
sandbox_memory_mb = 2048
sandbox_cpus = 2.0
sandbox_pids = 1024
sandbox_disk_mb = 10240
sandbox_layer_mb = 10240

# "" builds Traefik's image from the pinned wheel in files/images/traefik; or name an image of a registry, of Traefik
# 3.7.3 or newer.
traefik_image = ""

# --- Sandboxes -------------------------------------------------------------------------------------------------------

# Started sandboxes of the default template that wait to be claimed: a claim takes milliseconds, a cold create seconds.
# Other templates say `pool` in `templates`. `docker-sandbox pool resize` changes a pool until its setting changes.
pool_size = 3

# How many sandboxes are created at the same time; more only makes each slower on a small host.
create_parallelism = 2

# A host that is full says so (exit code 5) and makes nothing, instead of running out of something.
# The most sandboxes, those in use and pool members together; 0 for no limit but the number of networks in
# docker_network_pool. With 300 a restart of Docker takes half a minute, and it grows with their number.
max_sandboxes = 300
# What must be available of the host's memory after one more has started. Limits of sandboxes may add up to more than
# the host has: most use little. This is for those that begin to use theirs, and for the host itself.
memory_reserve_mb = 1024
# What must be free on the file systems of the sandboxes' disks and of Docker. The disks are sparse: a new one takes
# next to nothing, and all that its sandbox writes later.
disk_reserve_mb = 2048

# Builds of templates (`docker-sandbox template build`, E2B's Template.build) run commands of others: what all of them
# together may take of the host, and how long one may last. One runs at a time; the others wait. The engine of
# Debian 12, Docker 20.10, keeps the time only.
build_memory_mb = 2048
build_cpus = 2.0
build_timeout_s = 1800

# A visit to the URL of a sandbox that is paused or stopped lets it run again, unless it was made with --no-wake. Holds
# for sandboxes that docker-sandbox makes from then on; E2B's clients say it themselves (autoResume).
wake_on_visit = True
# Pause sandboxes that nobody has used for so long, such as "30m"; "" for never. `init --idle-pause` says it for one. As
# above, for sandboxes that docker-sandbox makes. Used is: it sends packets, or a command runs that is no server.
idle_pause_after = ""

# Of wrong tokens and passwords for one closed sandbox, from one address (of IPv6: one /64), in one minute; then all
# that comes from there for that sandbox is refused with 429 until the minute is over. Wrong links and cookies do not
# count.
failed_tries_per_minute = 60
# Of requests to https://api.<domain>, and of what is sent to the console, from one address in one minute, before 429; 0
# for no limit. Many behind one address count as one. Visits of sandboxes are not limited: a sandbox has its own limits,
# and slows nobody but itself.
api_requests_per_minute = 12000

# The hourly cleanup removes sandboxes that were claimed longer ago than this, except those made with --keep.
cleanup_schedule = "0 * * * *"
cleanup_older_than = "24h"

# Where Prometheus on this host finds the metrics without a key: an address of the loopback and a port, "" for nowhere.
# From elsewhere they are at https://api.<domain>/metrics, with a secret: docs/observe.md.
metrics_listen = "127.0.0.1:9464"

# Pages for people at https://console.<domain>, for whoever has an API key: what runs, a terminal in it, how full the
# host is. False: nothing of it is installed, and the name leads nowhere.
console = True

# Users of the host who may run docker-sandbox (added to group `sandbox`), and those who get the agent skills
# in ~/.claude/skills.
sandbox_users: list[str] = []
skills_users = ["root"]

# --- Network ---------------------------------------------------------------------------------------------------------

# What a sandbox reaches unless it is asked for otherwise (`docker-sandbox init --network`):
#   "public"  the internet and the host's name servers; not the host itself (but for its ports 80 and 443, which the
#             whole world reaches), no private, link-local or reserved network, so no metadata service of a cloud, and
#             no mail servers (ports 25, 465, 587)
#   "open"    whatever the host reaches, itself included
#   "none"    nothing
# No mode lets it reach another sandbox. Builds of templates always have "public". docs/security.md tells more.
sandbox_network = "public"
# Whether API keys may ask for the mode "open"; with False their sandboxes have "public" where the host's own is "open".
api_open_network = False
# IPv4 networks that "public" reaches although they are private, such as a mirror of packages: "10.1.2.3/32". The host's
# own addresses stay closed.
network_allow: list[str] = []
# IPv4 networks that "public" does not reach either, such as the public addresses of your other servers.
network_deny: list[str] = []
# Sandboxes with names in their allow list (`docker-sandbox init --network none --allow pypi.org`) are led to this
# address of the host, where a proxy lets them through to those names. It must be nobody's that the host or a sandbox
# has to reach; this one is of a range for measurements (RFC 2544).
egress_address = "198.18.0.1"

# --- Fleet -----------------------------------------------------------------------------------------------------------

# Many hosts, one domain: docs/fleet.md. Name them in `hosts.toml`, in tables [managers.NAME] and [workers.NAME], or on
# the command line: make deploy MANAGERS="root@a" WORKERS="root@b root@c". The inventory makes these two of that, for
# each host: "manager" or "worker", and all hosts of the fleet with role and address. A single host has neither.
fleet_role = ""
fleet_nodes: dict[str, dict[str, str]] = {}
# The host's IPv4 address for the other hosts of the fleet, such as one in a private network; for each host in its own
# table. "" is the address of SSH. A manager's may never change.
fleet_address = ""
# Where each host of a fleet takes what the others pass on to it, over TLS with a certificate on both sides.
fleet_port = 8443
# The part of a template's memory and processors that the fleet reserves for each of its sandboxes, 0.01 to 1. A new one
# comes to a host that has so much unreserved; besides, each host refuses by what is really used, as a single one does.
# With 1 and 1 no more is given out than there is. docs/fleet.md has the arithmetic.
fleet_memory_share = 0.5
fleet_cpus_share = 0.1
# Storage that you have mounted at this directory on every host, such as an NFS export, for volumes made with
# `init --shared`: kept sandboxes on it can be made anew on another host. "" is none. The deploy refuses a directory at
# which nothing is mounted, and marks it with the file `sandbox-volumes.id`, by which hosts know that it is the same.
shared_storage = ""
# The path of your program on the managers, run as root, which ends with 0 only if the host that it is given by name is
# off for certain, and for how many seconds a host must have been lost before it is run. "" is none: `node fenced` says
# so by hand.
fence_command = ""
fence_after_s = 60

# --- Host ------------------------------------------------------------------------------------------------------------

# Security updates by unattended-upgrades. Docker is left to the deploy: an update would restart the engine. needrestart
# gets the same word, where it is installed: it restarts services whose libraries were updated.
unattended_upgrades = True

# How much of the disk the host's own journal may take; "" leaves journald as it is. Of sandboxes nothing is in it.
journal_max_size = "1G"

# True: sshd takes keys and no passwords, not for root either, and forwards less. A deploy proves first, by a second
# login, that its own user comes in by key, and tries again afterwards; else it ends, and sshd stays as it was. Other
# users' keys are yours to look after: that is why it is off.
ssh_hardening = False

# True: auditd notes who changes Docker, its configuration, our units and secrets, and which of those who have logged in
# talks to Docker's socket. Off where the kernel has no audit of its own, as in a container.
audit_rules = False

# Kernel parameters for many containers, and against what those could do. One that the kernel does not have is left out,
# and `docker-sandbox doctor` says so. Not ip_forward: Docker sets FORWARD to DROP only if it switched that on itself.
sysctls = {
    # No line disciplines of old serial protocols loaded by whoever has a terminal: they had holes.
    "dev.tty.ldisc_autoload": 0,
    # Each containerd shim takes one inotify instance, and file watchers such as Vite many watches.
    "fs.inotify.max_user_instances": 8192,
    "fs.inotify.max_user_watches": 1048576,
    # The kernel's log and its addresses help whoever looks for a hole in it, from a sandbox too.
    "kernel.dmesg_restrict": 1,
    "kernel.kptr_restrict": 2,
    # Until the next boot nobody replaces the running kernel. Leave it out where kdump loads its kernel late.
    "kernel.kexec_load_disabled": 1,
    # BPF has been the way out of many containers. With 1 nobody can allow it again until the next boot.
    "kernel.unprivileged_bpf_disabled": 1,
    # A process may trace its own children only, on the host and in sandboxes: `gdb ./program` works, `gdb -p` does not.
    "kernel.yama.ptrace_scope": 1,
    # Redirects and source routes let neighbours move traffic. `default` is for the bridges that are made later.
    "net.ipv4.conf.all.accept_redirects": 0,
    "net.ipv4.conf.all.accept_source_route": 0,
    "net.ipv4.conf.all.send_redirects": 0,
    "net.ipv4.conf.default.accept_redirects": 0,
    "net.ipv4.conf.default.accept_source_route": 0,
    "net.ipv4.conf.default.send_redirects": 0,
    "net.ipv6.conf.all.accept_redirects": 0,
    "net.ipv6.conf.default.accept_redirects": 0,
    # A packet from an address to which the answer would leave by another interface is dropped: nobody takes an address
    # that is not theirs. The larger of this and the interface's own value holds; a host with several uplinks needs 2.
    "net.ipv4.conf.all.rp_filter": 1,
    # All connections of all sandboxes are in one table; when it is full, those of the host fail, too. At most 170 MB.
    "net.netfilter.nf_conntrack_max": 524288,
}
