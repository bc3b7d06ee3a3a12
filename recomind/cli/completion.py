"""`recomind completion bash|zsh|fish`: a script that completes commands, flags and settings."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from recomind.cli.arguments import parser
from recomind.cli.settings import all_settings, presets
from recomind.cli.usage import FLOW
from recomind.errors import did_you_mean

_COMMANDS = (*FLOW, "results", "doctor", "completion")

# `=` ends a word for bash, which then replaces only what stands behind it.
_BASH = """_recomind() {{
  local word=${{COMP_LINE:0:$COMP_POINT}}
  word=${{word##* }}
  local words='{words}'
  [[ $COMP_CWORD -eq 1 ]] && words='{commands}'
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  [[ $word == *=* && $COMP_WORDBREAKS == *=* ]] && COMPREPLY=("${{COMPREPLY[@]#"${{word%=*}}="}}")
  [[ ${{#COMPREPLY[@]}} -eq 1 && ${{COMPREPLY[0]}} == *= ]] && compopt -o nospace
  return 0
}}
complete -F _recomind recomind
"""
_ZSH = """#compdef recomind
_recomind() {{
  local -a words_here
  if (( CURRENT == 2 )); then words_here=({commands}); else words_here=({words}); fi
  compadd -S '' -a words_here
}}
compdef _recomind recomind
"""
_FISH = """complete -c recomind -f
complete -c recomind -n __fish_use_subcommand -a '{commands}'
complete -c recomind -n 'not __fish_use_subcommand' -a '{words}'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def main(arguments: Sequence[str]) -> int:
    """Print the script of a shell; 2 for a shell that has none."""
    shell = arguments[0] if len(arguments) == 1 else ""
    if shell not in _SCRIPTS:
        known = did_you_mean(shell, _SCRIPTS)
        print(f"error: no completion for {shell!r}: {known}", file=sys.stderr)
        return 2
    words, commands = " ".join(_words()), " ".join(_COMMANDS)
    print(_SCRIPTS[shell].format(words=words, commands=commands), end="")
    return 0


def _words() -> list[str]:
    """Flags, and `key=` for every setting, or `key=value` where its values are known."""
    words = [flag for action in parser()._actions for flag in action.option_strings]
    for group in ("experiment", "data", "world"):
        words += [f"{group}={preset}" for preset in presets(group)]
    for name, choices in all_settings().items():
        words += [f"{name}={choice}" for choice in choices] or [f"{name}="]
    return words
