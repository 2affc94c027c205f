"""Downloads: one file, or a range of it, streamed from disk. Reads the file system as root."""

import asyncio
import mimetypes
import os
import re
import stat
from urllib.parse import quote

from envd.errors import EnvdError, invalid_argument
from envd.oserrors import file_errors
from envd.users import User, expand_path
from envd.web import Request, Response

READ_BYTES = 512 * 1024

# With no paths: the sandbox's own mime.types neither costs memory here nor decides what a download is called.
_TYPES = mimetypes.MimeTypes()
