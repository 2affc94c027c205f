"""Backups of a host: what is in one, how it is written, read and put in place. Done by root on the host itself.

One file: a tar archive, gzip around it. `backup.json` comes first and says what it is; `manifest.json` comes last and
has a digest of each member. Nothing in it is believed before all of it was read.
"""

FORMAT = 1
HEAD, MANIFEST, LEDGER, IMAGES = "backup.json", "manifest.json", "ledger.sqlite", "images.tar"
KINDS = ("volumes", "templates")  # what can be left out
TABLES = {"volumes": ("volumes",), "templates": ("templates", "tags", "unused")}  # of the ledger, by kind
DISKS = {"volumes": "volumes", "snapshots": "templates"}  # the directories of disks, and of which kind they are
FILES = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}"  # the names of the other files: what a reader takes, and so a writer
MARK = "restoring"  # a file in state_dir, from the first change of a restore to the last
