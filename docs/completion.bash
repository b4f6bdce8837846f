# Completion of stroke-lesion-seg in bash, and in zsh after
# "autoload -U bashcompinit && bashcompinit":
#
#     source docs/completion.bash
#
# Written from the program by "make command-reference".
_stroke_lesion_seg() {
    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"
    local path="" part words=""
    for part in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case "$path $part" in
            " segment"|" batch"|" compare"|" adapt"|" models"|" models list"|" models verify"|" models install"|" models remove"|" info"|" demo"|" score"|" cite"|" completion") path="$path $part" ;;
        esac
    done
    case "$path $before" in
        " segment --views") words="axial triplanar" ;;
        " segment --align") words="auto mni none" ;;
        " segment --device") words="auto cpu cuda mps" ;;
        " segment --precision") words="auto float32 bfloat16 float16" ;;
        " segment --report-convention") words="radiological neurological" ;;
        " segment --progress") words="bar json none" ;;
        " batch --views") words="axial triplanar" ;;
        " batch --align") words="auto mni none" ;;
        " batch --device") words="auto cpu cuda mps" ;;
        " batch --precision") words="auto float32 bfloat16 float16" ;;
        " batch --report-convention") words="radiological neurological" ;;
        " batch --progress") words="bar json none" ;;
        " compare --report-convention") words="radiological neurological" ;;
        " compare --views") words="axial triplanar" ;;
        " compare --align") words="auto mni none" ;;
        " compare --device") words="auto cpu cuda mps" ;;
        " compare --precision") words="auto float32 bfloat16 float16" ;;
        " compare --progress") words="bar json none" ;;
        " adapt --progress") words="bar json none" ;;
        " info --device") words="auto cpu cuda mps" ;;
        " demo --progress") words="bar json none" ;;
        " score --scorer") words="atlas2022 isles2022 isles2026" ;;
        " score --progress") words="bar json none" ;;
    esac
    if [ -z "$words" ]; then
        case "$path" in
            "") words="-h --help --version -q --quiet -v --verbose segment batch compare adapt models info demo score cite completion" ;;
            " segment") words="-h --help -o --output --probability --uncertainty --table --sidecar --dicom-seg --dicom-sr --dicom-rtstruct --report --space --label --no-table --no-sidecar --overwrite --series --force --threshold --second-threshold --min-volume --min-mean-probability --model --views --tta --exact --no-mirror --align --device --precision --threads --batch-size --atlas --atlas-labels --report-convention --report-paths --no-viewer --progress -q --quiet -v --verbose" ;;
            " batch") words="-h --help --participant-label --session-label --dry-run --resume --no-resume --retry-failed --workers --scheduler --worker-timeout --dicom-seg --dicom-sr --dicom-rtstruct --reports --no-probability --title --pseudonyms --source-names --space --force --threshold --second-threshold --min-volume --min-mean-probability --model --views --tta --exact --no-mirror --align --device --precision --threads --batch-size --atlas --atlas-labels --report-convention --report-paths --no-viewer --progress -q --quiet -v --verbose" ;;
            " compare") words="-h --help -o --output --overwrite --mask-a --mask-b --input --participant-label --session-label --report-convention --force --threshold --second-threshold --min-volume --min-mean-probability --model --views --tta --exact --no-mirror --align --device --precision --threads --batch-size --progress -q --quiet -v --verbose" ;;
            " adapt") words="-h --help --name --model --minutes --seed --threads --no-shared-subjects --work --export --progress -q --quiet -v --verbose" ;;
            " models") words="-h --help list verify install remove -q --quiet -v --verbose" ;;
            " models list") words="-h --help --json -q --quiet -v --verbose" ;;
            " models verify") words="-h --help -q --quiet -v --verbose" ;;
            " models install") words="-h --help --name --configuration --folds --lesion --space --orientation --license --source -q --quiet -v --verbose" ;;
            " models remove") words="-h --help -q --quiet -v --verbose" ;;
            " info") words="-h --help --json --device -q --quiet -v --verbose" ;;
            " demo") words="-h --help --out --seed --model --overwrite --progress -q --quiet -v --verbose" ;;
            " score") words="-h --help --scorer --soft --label --threshold --distances --json -o --output --overwrite --progress -q --quiet -v --verbose" ;;
            " cite") words="-h --help --model --sidecar --json -q --quiet -v --verbose" ;;
            " completion") words="-h --help -q --quiet -v --verbose" ;;
        esac
        # Without a leading hyphen a file is meant, unless there are commands to choose from.
        case "$word" in
            -*) ;;
            *) [ -z "$path" ] || [ "$path" = " models" ] || words="" ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o default -F _stroke_lesion_seg stroke-lesion-seg
