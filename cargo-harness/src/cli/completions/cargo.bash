
# `cargo harness …` is completed like `cargo-harness …`, and the rest by what completed cargo before.
_cargo_harness_below_cargo() {
    local at=1
    if [[ ${COMP_WORDS[1]-} == +* ]]; then
        at=2
    fi
    if [[ ${COMP_WORDS[at]-} == harness && $COMP_CWORD -gt $at ]]; then
        COMP_WORDS=(cargo-harness "${COMP_WORDS[@]:at+1}")
        COMP_CWORD=$((COMP_CWORD - at))
        _cargo_harness cargo-harness "$2" "$3"
    elif [[ -n ${_cargo_harness_before-} ]]; then
        "$_cargo_harness_before" "$@"
    fi
}

# bash-completion loads the completion of a command when it is first needed.
if declare -F _comp_load > /dev/null; then
    _comp_load cargo > /dev/null 2>&1
elif declare -F _completion_loader > /dev/null; then
    _completion_loader cargo > /dev/null 2>&1
fi
if [[ $(complete -p cargo 2> /dev/null) =~ \ -F\ ([^\ ]+) &&
    ${BASH_REMATCH[1]} != _cargo_harness_below_cargo ]]; then
    _cargo_harness_before=${BASH_REMATCH[1]}
fi
complete -F _cargo_harness_below_cargo -o bashdefault -o default cargo
