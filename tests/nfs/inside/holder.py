"""Has the lock of a file, opened as sandboxd opens it, until it is ended."""

import os
import sys
import time
from pathlib import Path

from sandboxd import nfsfiles

with os.fdopen(nfsfiles.open_own(Path(sys.argv[1]), os.O_RDWR), "r+") as file:
    if not nfsfiles.lock(file, 0):
        sys.exit(f"{sys.argv[1]}: another one has the lock")
    print("held", flush=True)
    time.sleep(600)
