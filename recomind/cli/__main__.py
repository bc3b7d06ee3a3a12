"""`python -m recomind.cli`."""

from recomind.cli import command

command()
