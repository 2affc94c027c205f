"""The completion script for bash. It needs nothing else, such as the package bash-completion."""

from collections.abc import Iterable
from shlex import quote

from sandboxd.cli.completion.model import PROGRAMS, Command, Model, long_names

HEAD = """\
# Completes docker-sandbox in bash. To use it: source <(docker-sandbox completion bash)

# What may follow the words that were typed so far.
_docker_sandbox_declared() {
    offers=() flags=() valued=() places=() many=""
    case $1 in
"""
TAIL = r"""    esac
}

# Completes a word of one kind.
_docker_sandbox_offer() {
    local ids=""
    case $1 in
        sandbox)
            ids=$(timeout 5 docker-sandbox list --json 2> /dev/null |
                sed -n 's/^    "sandboxID": "\([0-9a-f]*\)".*/\1/p')
            mapfile -t COMPREPLY < <(compgen -W "$ids" -- "$cur")
            ;;
        file) compopt -o default ;;
        words:*) mapfile -t COMPREPLY < <(compgen -W "${1#words:}" -- "$cur") ;;
    esac
}

_docker_sandbox() {
    local command="" wanted="" glued="" ended="" many="" at=0 word index
    local cur=${COMP_WORDS[COMP_CWORD]}
    local -a offers flags valued places
    COMPREPLY=()
    _docker_sandbox_declared ""
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        if [[ -n $word && -z ${word//[=:]/} ]]; then
            glued=1 # bash makes words of their own of = and :
        elif [[ -n $glued || -n $wanted ]]; then
            glued="" wanted=""
        elif [[ -z $ended && $word == -- ]]; then
            ended=1
        elif [[ -z $ended && $word == -* ]]; then
            for ((index = 0; index < ${#valued[@]}; index += 2)); do
                [[ ${valued[index]} == "$word" ]] && wanted=${valued[index + 1]}
            done
        elif ((${#offers[@]})); then
            command="${command:+$command }$word"
            _docker_sandbox_declared "$command"
        else
            at=$((at + 1))
        fi
    done
    if [[ -n $cur && -z ${cur//[=:]/} ]]; then
        glued=1 cur=""
    fi
    if [[ -n $wanted ]]; then
        _docker_sandbox_offer "$wanted"
    elif [[ -n $glued ]]; then
        return
    elif [[ -z $ended && $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "${flags[*]}" -- "$cur")
    elif ((${#offers[@]})); then
        mapfile -t COMPREPLY < <(compgen -W "${offers[*]}" -- "$cur")
    else
        [[ -n $many ]] && ((at >= ${#places[@]})) && at=$((${#places[@]} - 1))
        _docker_sandbox_offer "${places[at]:-any}"
    fi
}

"""


def script(model: Model) -> str:
    words = [f"        {quote(word)}) offers=({listed(words)}) ;;\n" for word, words in model.words.items()]
    return "".join(
        (HEAD, *words, *map(arm, model.commands), TAIL, f"complete -F _docker_sandbox {' '.join(PROGRAMS)}\n")
    )


def arm(command: Command) -> str:
    """What is set for one verb."""
    offered = [name for flag in command.flags for name in long_names(flag)]
    valued = [word for flag in command.flags if flag.kind for name in flag.names for word in (name, flag.kind)]
    return (
        f"        {' | '.join(map(quote, command.names))})\n"
        f"            flags=({listed(offered)})\n"
        f"            valued=({listed(valued)})\n"
        f"            places=({listed(command.places)}) many={'1' if command.many else quote('')}\n"
        "            ;;\n"
    )


def listed(words: Iterable[str]) -> str:
    return " ".join(map(quote, words))
