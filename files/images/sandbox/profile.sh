# Read by login shells: what pip installs for `user` is found, and /usr/local comes first.
PATH="$HOME/.local/bin:/usr/local/bin:$PATH"
export PATH
