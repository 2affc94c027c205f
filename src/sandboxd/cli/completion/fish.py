"""The completion script for fish, which may lie in ~/.config/fish/completions."""

from collections.abc import Iterable

from sandboxd.cli.completion.model import PROGRAMS, Command, Model, long_names

HEAD = """\
# Completes docker-sandbox in fish. To use it: docker-sandbox completion fish | source

# What may follow the words that were typed so far. Each list has a word, and then what it is about or of which kind.
function __docker_sandbox_declared --no-scope-shadowing
    set offers
    set flags
    set valued
    set places
    set many ''
    switch $argv[1]
"""
TAIL = r"""    end
end

# Prints what completes a word of one kind; `prefix` is what stands before it in the same word.
function __docker_sandbox_offer --argument-names kind prefix word
    switch $kind
        case sandbox
            timeout 5 docker-sandbox list --json 2>/dev/null |
                string replace --regex --filter '^    "sandboxID": "([0-9a-f]*)".*' '$1' |
                string replace --regex -- '^' $prefix
        case file
            __fish_complete_path $word
        case 'words:*'
            string replace words: '' -- $kind | string split ' ' | string replace --regex -- '^' $prefix
    end
end

function __docker_sandbox_pairs
    while set --query argv[2]
        printf '%s\t%s\n' $argv[1] $argv[2]
        set --erase argv[1..2]
    end
end

function __docker_sandbox
    set --local words (commandline --current-process --tokenize --cut-at-cursor)
    set --local word (commandline --current-token --cut-at-cursor)
    set --local command ''
    set --local wanted ''
    set --local ended ''
    set --local prefix ''
    set --local at 1
    set --local offers
    set --local flags
    set --local valued
    set --local places
    set --local many
    set --local found
    __docker_sandbox_declared ''
    set --erase words[1]
    for typed in $words
        if test -n "$wanted"
            set wanted ''
        else if test -z "$ended" -a "x$typed" = x--
            set ended 1
        else if test -z "$ended"; and string match --quiet -- '-*' $typed
            if set found (contains --index -- $typed $valued)
                set wanted $valued[(math $found + 1)]
            end
        else if set --query offers[1]
            set command (string trim -- "$command $typed")
            __docker_sandbox_declared $command
        else
            set at (math $at + 1)
        end
    end
    if test -z "$wanted$ended"; and string match --quiet -- '--*=*' $word
        set prefix (string replace --regex '=.*' '=' -- $word)
        set found (contains --index -- (string trim --right --chars '=' -- $prefix) $valued)
        and set wanted $valued[(math $found + 1)]
        or return
    end
    if test -n "$wanted"
        __docker_sandbox_offer $wanted "$prefix" $word
    else if test -z "$ended"; and string match --quiet -- '-*' $word
        __docker_sandbox_pairs $flags
    else if set --query offers[1]
        __docker_sandbox_pairs $offers
    else if set --query places[1]
        if test -n "$many" -a $at -gt (count $places)
            set at (count $places)
        end
        set --query places[$at]
        and __docker_sandbox_offer $places[$at] '' $word
    end
end

"""


def script(model: Model) -> str:
    words = [f"        case {quote(word)}\n{assigned('offers', words.items())}" for word, words in model.words.items()]
    complete = (f"complete --command {program} --no-files --arguments '(__docker_sandbox)'\n" for program in PROGRAMS)
    return "".join((HEAD, *words, *map(arm, model.commands), TAIL, *complete))


def arm(command: Command) -> str:
    """What is set for one verb."""
    flags = [(name, flag.about) for flag in command.flags for name in long_names(flag)]
    valued = [(name, flag.kind) for flag in command.flags if flag.kind for name in flag.names]
    return (
        f"        case {' '.join(map(quote, command.names))}\n"
        f"{assigned('flags', flags)}{assigned('valued', valued)}"
        f"{assigned('places', [command.places])}{assigned('many', [('1',)] if command.many else [('',)])}"
    )


def assigned(name: str, rows: Iterable[Iterable[str]]) -> str:
    """The command that makes one list of the words of all rows."""
    return f"            {' '.join(('set', name, *(quote(word) for row in rows for word in row)))}\n"


def quote(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
