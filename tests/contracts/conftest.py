"""The command line in this process."""

from __future__ import annotations

from tests.flow.in_process import command as command
