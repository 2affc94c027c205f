"""The console: pages for people, at https://console.DOMAIN. A client of sandboxd, like everybody else.

It runs as a user of its own, keeps nothing but which sessions were ended, and nobody depends on it. Whoever has an API
key signs in with it and sees what that key may see.
"""
