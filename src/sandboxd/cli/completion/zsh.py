"""The completion script for zsh: to be read with `source`, or to lie as `_docker-sandbox` in a directory of $fpath."""

from collections.abc import Iterable
from shlex import quote

from sandboxd.cli.completion.model import PROGRAMS, Command, Model, long_names

HEAD = f"""\
#compdef {" ".join(PROGRAMS)}
# Completes docker-sandbox in zsh. To use it: source <(docker-sandbox completion zsh)

# What may follow the words that were typed so far.
_docker_sandbox_declared() {{
    offers=() flags=() valued=() places=() many=''
    case $1 in
"""
TAIL = r"""    esac
}

# Completes a word of one kind.
_docker_sandbox_offer() {
    case $1 in
        sandbox)
            compadd -- ${(f)"$(timeout 5 docker-sandbox list --json 2> /dev/null |
                sed -n 's/^    "sandboxID": "\([0-9a-f]*\)".*/\1/p')"}
            ;;
        file) _files ;;
        words:*) compadd -- ${(s: :)1#words:} ;;
    esac
}

_docker_sandbox() {
    local command='' wanted='' ended='' many='' word
    local -i at=1
    local -a offers flags places
    local -A valued
    _docker_sandbox_declared ''
    for word in "${(@)words[2,CURRENT-1]}"; do
        if [[ -n $wanted ]]; then
            wanted=''
        elif [[ -z $ended && $word == -- ]]; then
            ended=1
        elif [[ -z $ended && $word == -* ]]; then
            wanted=${valued[$word]}
        elif (( ${#offers} )); then
            command=${command:+$command }$word
            _docker_sandbox_declared $command
        else
            (( at += 1 ))
        fi
    done
    word=${words[CURRENT]}
    if [[ -z $wanted && -z $ended && $word == --*=* ]]; then
        wanted=${valued[${word%%=*}]}
        compset -P '*='
    fi
    if [[ -n $wanted ]]; then
        _docker_sandbox_offer $wanted
    elif [[ -z $ended && $word == -* ]]; then
        _describe -o flag flags
    elif (( ${#offers} )); then
        _describe verb offers
    else
        [[ -n $many ]] && (( at > ${#places} )) && at=${#places}
        _docker_sandbox_offer ${places[at]:-any}
    fi
}

if [[ ${funcstack[1]} == _docker-sandbox ]]; then
    _docker_sandbox "$@"
else
    compdef _docker_sandbox PROGRAMS
fi
"""


def script(model: Model) -> str:
    words = [f"        {quote(word)}) offers=({described(words.items())}) ;;\n" for word, words in model.words.items()]
    return "".join((HEAD, *words, *map(arm, model.commands), TAIL.replace("PROGRAMS", " ".join(PROGRAMS))))


def arm(command: Command) -> str:
    """What is set for one verb."""
    flags = [(name, flag.about) for flag in command.flags for name in long_names(flag)]
    valued = [word for flag in command.flags if flag.kind for name in flag.names for word in (name, flag.kind)]
    return (
        f"        {' | '.join(map(quote, command.names))})\n"
        f"            flags=({described(flags)})\n"
        f"            valued=({' '.join(map(quote, valued))})\n"
        f"            places=({' '.join(map(quote, command.places))}) many={'1' if command.many else quote('')}\n"
        "            ;;\n"
    )


def described(words: Iterable[tuple[str, str]]) -> str:
    """Each as `word:what it is about`, which is the form that _describe takes."""
    return " ".join(quote(f"{word}:{about}") for word, about in words)
