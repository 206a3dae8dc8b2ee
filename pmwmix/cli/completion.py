"""``pmwmix completion``: scripts for bash, zsh and fish, made from the parser, so that no option is forgotten."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import get_args

from pmwmix.cli.arguments import HELP, parser

BASH = """
_pmwmix() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" verb="${{COMP_WORDS[1]}}" option="" words="" k
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{verbs} --version --help"
    else
        for (( k = COMP_CWORD - 1; k > 1; k-- )); do
            case "${{COMP_WORDS[k]}}" in --*) option="${{COMP_WORDS[k]}}"; break ;; esac
        done
        case "$current" in
            -*) case "$verb" in
{options}
            esac ;;
            *) case "$verb $option" in
{values}
            esac ;;
        esac
    fi
    [ -n "$words" ] && COMPREPLY=( $(compgen -W "$words" -- "$current") )
    return 0
}}
complete -o default -F _pmwmix pmwmix
"""
ZSH = """
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}
autoload -Uz bashcompinit && bashcompinit
{bash}"""


def print_completion(chosen: argparse.Namespace) -> None:
    """Print the script of one shell."""
    print({"bash": _bash, "zsh": lambda: ZSH.format(bash=_bash().lstrip()), "fish": _fish}[chosen.shell]().strip())


def verbs_and_options() -> dict[str, list[argparse.Action]]:
    """Give the options and places of every verb, as the parser has them."""
    choices = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    return {str(verb): list(one._actions) for verb, one in dict(choices or {}).items()}


def words_of(verb: str) -> dict[str, Sequence[str]]:
    """Give the words that options of a verb take, by option; those of its first place under an empty name."""
    from pmwmix.spec.call import METHODS
    from pmwmix.spec.options import Family, Scaling, Vcov
    from pmwmix.surveys import SURVEYS
    from pmwmix.weights.replicate_types import REPLICATES

    def literals(kind: object) -> list[str]:
        return [word for one in get_args(kind) for word in get_args(one) if isinstance(word, str)]

    known: dict[str, Sequence[str]] = {
        "--survey": list(SURVEYS),
        "--family": literals(Family),
        "--method": METHODS,
        "--scaling": literals(Scaling),
        "--vcov": ["replicate", "robust"] if verb == "describe" else literals(Vcov),
        "--replicate-type": list(REPLICATES),
        "--engine": ["auto", "numpy", "jax", "numba", "c", "python"],
        "--device": ["cpu", "gpu"],
        "--show": ["correlation", "intervals", "residuals", "lrt", "all"],
        "--statistics": ["mean", "sd"],
        "--below": ["std_error", "ci", "statistic", "p_value", "none"],
    }
    there = {text for action in verbs_and_options()[verb] for text in action.option_strings}
    out = {name: words for name, words in known.items() if name in there}
    first: Mapping[str, Sequence[str]] = {"surveys": list(SURVEYS), "completion": ["bash", "zsh", "fish"]}
    return {**out, "": first[verb]} if verb in first else out


def _bash() -> str:
    options, values = [], []
    for verb, actions in verbs_and_options().items():
        names = [text for action in actions for text in action.option_strings if text.startswith("--")]
        options.append(f'                {verb}) words="{" ".join(names)}" ;;')
        values += [f'                "{verb} {name}") words="{" ".join(w)}" ;;' for name, w in words_of(verb).items()]
    return BASH.format(verbs=" ".join(HELP), options="\n".join(options), values="\n".join(values))


def _fish() -> str:
    first = "__fish_use_subcommand"
    lines = [f"complete -c pmwmix -n {first} -f -a {verb} -d {_quoted(words)}" for verb, words in HELP.items()]
    for verb, actions in verbs_and_options().items():
        seen, words = f"'__fish_seen_subcommand_from {verb}'", words_of(verb)
        for action in actions:
            for text in [text for text in action.option_strings if text.startswith("--")]:
                known = f" -x -a {_quoted(' '.join(words[text]))}" if text in words else " -r" * (action.nargs != 0)
                said = _quoted((action.help or "").replace("%", ""))
                lines.append(f"complete -c pmwmix -n {seen} -l {text[2:]}{known} -d {said}")
        if "" in words:
            lines.append(f"complete -c pmwmix -n {seen} -f -a {_quoted(' '.join(words['']))}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "\\'") + "'"
