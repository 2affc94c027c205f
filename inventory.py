"""The hosts to deploy to: HOST=..., or `hosts.toml`, or the lab when neither names one (see deploys/hosts.py)."""

import os

from pyinfra.api.exceptions import InventoryError

from deploys.hosts import HostError, lab_target, targets

try:
    _named = targets(os.environ)
    _lab = [] if _named else [lab_target(os.environ)]
except HostError as _error:
    raise InventoryError(str(_error)) from None

servers = [(_target.name, _target.pyinfra_data()) for _target in _named]
lab = [(_target.name, _target.pyinfra_data()) for _target in _lab]
