"""For all tests: signals as a terminal has them."""

import signal

# A background job of a shell, as in many CI systems, has SIGINT ignored, and so would everything that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
