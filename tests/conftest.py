"""For all tests: signals as a terminal has them, and bytecode that is kept."""

import os
import signal
import sys

# A background job of a shell has SIGINT ignored, what nohup starts SIGHUP; so would all that tests start.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

# Images of containers like to set it. Then each process of each test would compile all that it imports anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
