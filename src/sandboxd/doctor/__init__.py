"""The examination of a host: what is in effect, not what files say. It changes nothing; the probe removes itself.

A check is a function from injected readers to a verdict; `checks` wires them into one list, `findings` runs it.
"""
