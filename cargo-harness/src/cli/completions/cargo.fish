
# `cargo harness …` is completed like `cargo-harness …`.
function __fish_cargo_harness_is_subcommand
    set -l words (commandline -opc)
    set -e words[1]
    if string match -q -- '+*' $words[1]
        set -e words[1]
    end
    test "$words[1]" = harness
end

function __fish_cargo_harness_below_cargo
    set -l words (commandline -opc)
    set -l at (contains -i -- harness $words)
    set -l rest (string escape -- $words[(math $at + 1)..-1])
    complete -C (string join ' ' -- cargo-harness $rest (commandline -ct))
end

complete -c cargo -n __fish_cargo_harness_is_subcommand -f -a '(__fish_cargo_harness_below_cargo)'
