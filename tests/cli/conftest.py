"""The small official files of the data room, and the command line in this process."""

from __future__ import annotations

from tests.data.conftest import official as official
from tests.flow.in_process import command as command
