"""Take away from a host what `deploy.py` put there: `make destroy HOST=...` asks first and runs this."""

import os

from deploys import removal

removal.remove(with_data=os.environ.get("DATA") == "remove")
