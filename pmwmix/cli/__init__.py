"""The command line: ``pmwmix fit``, ``describe``, ``table``, ``surveys``, ``codebook``, ``convert`` and others."""

from pmwmix.cli.arguments import parser
from pmwmix.cli.command import main

__all__ = ["main", "parser"]
