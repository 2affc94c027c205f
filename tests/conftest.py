"""For all tests: signals as a terminal has them."""

import signal

# A background job of a shell has SIGINT ignored, what nohup starts SIGHUP; so would all that tests start.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)
