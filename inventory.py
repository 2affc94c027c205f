"""The hosts to deploy to: HOST=..., a fleet, `hosts.toml`, or the lab when none is named (see deploys/hosts.py)."""

import os

from pyinfra.api.exceptions import InventoryError

from deploys.hosts import HostError, lab_target, targets

try:
    _named = targets(os.environ)
    _lab = [] if _named else [lab_target(os.environ)]
except HostError as _error:
    raise InventoryError(str(_error)) from None

_servers = [_target for _target in _named if _target.group == "servers"]
servers = [(_target.name, _target.pyinfra_data()) for _target in _servers]
lab = [(_target.name, _target.pyinfra_data()) for _target in [*_named, *_lab] if _target.group == "lab"]
