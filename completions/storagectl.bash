# shellcheck shell=bash
# Completion for storagectl in bash.
#
# Names of pools and volumes are data, whatever they look like: nothing here evaluates them,
# and what is put on the command line is quoted.

# Written by completions/generate.py.
_storagectl_commands='apply autostart cd connect echo exit find-storage-pool-sources find-storage-pool-sources-as help import pool-autostart pool-build pool-capabilities pool-create pool-create-as pool-define pool-define-as pool-delete pool-destroy pool-dumpxml pool-edit pool-event pool-exists pool-info pool-list pool-name pool-refresh pool-start pool-stop pool-undefine pool-uuid pool-used-by pwd quit secret-define secret-dumpxml secret-get-value secret-list secret-set-value secret-undefine status uri vol-clone vol-create vol-create-as vol-create-from vol-delete vol-download vol-dumpxml vol-exists vol-info vol-key vol-list vol-name vol-path vol-pool vol-rename vol-resize vol-upload vol-used-by vol-wipe'
_storagectl_program_options='-c:text -d:text -e:text -h:flag -k:text -K:text -l:file -q:flag -r:flag -t:flag -v:flag -V:flag --connect:text --debug:text --escape:text --help:flag --json:flag --keepalive-interval:text --keepalive-count:text --log:file --no-pkttyagent:flag --quiet:flag --readonly:flag --root:folder --timing:flag --version:flag'
_storagectl_options() { # COMMAND: sets options
    case $1 in
        apply) options='file:file+ diff:flag detailed-exitcode:flag build:flag overwrite:flag resize:flag prune:prune=+ keep-going:flag json:flag' ;;
        autostart) options='timing:flag json:flag' ;;
        cd) options='dir:folder json:flag' ;;
        connect) options='name:text readonly:flag json:flag' ;;
        echo) options='shell:flag xml:flag split:flag err:flag string:text+ json:flag' ;;
        exit) options='json:flag' ;;
        find-storage-pool-sources) options='type:pool-type srcSpec:file json:flag' ;;
        find-storage-pool-sources-as) options='type:pool-type host:text port:text initiator:text json:flag' ;;
        help) options='command:text json:flag' ;;
        import) options='folder:text json:flag' ;;
        pool-autostart) options='pool:pool-all disable:flag json:flag' ;;
        pool-build) options='pool:pool-inactive no-overwrite:flag overwrite:flag if-inactive:flag json:flag' ;;
        pool-capabilities) options='json:flag' ;;
        pool-create) options='file:file build:flag no-overwrite:flag overwrite:flag json:flag' ;;
        pool-create-as) options='name:text type:pool-type print-xml:flag source-host:text source-path:text source-dev:file+ source-name:text target:folder source-format:pool-format auth-type:text auth-username:text secret-usage:text secret-uuid:text adapter-name:text adapter-wwnn:text adapter-wwpn:text adapter-parent:text adapter-parent-wwnn:text adapter-parent-wwpn:text adapter-parent-fabric-wwn:text source-protocol-ver:text source-initiator:text build:flag no-overwrite:flag overwrite:flag json:flag' ;;
        pool-define) options='file:file validate:flag json:flag' ;;
        pool-define-as) options='name:text type:pool-type print-xml:flag source-host:text source-path:text source-dev:file+ source-name:text target:folder source-format:pool-format auth-type:text auth-username:text secret-usage:text secret-uuid:text adapter-name:text adapter-wwnn:text adapter-wwpn:text adapter-parent:text adapter-parent-wwnn:text adapter-parent-wwpn:text adapter-parent-fabric-wwn:text source-protocol-ver:text source-initiator:text if-missing:flag json:flag' ;;
        pool-delete) options='pool:pool-inactive if-exists:flag json:flag' ;;
        pool-destroy) options='pool:pool-active if-active:flag json:flag' ;;
        pool-dumpxml) options='pool:pool-all inactive:flag xpath:text= wrap:flag json:flag' ;;
        pool-edit) options='pool:pool-all json:flag' ;;
        pool-event) options='pool:pool-all event:text loop:flag timeout:text list:flag timestamp:flag json:flag' ;;
        pool-exists) options='pool:pool-all json:flag' ;;
        pool-info) options='pool:pool-all bytes:flag json:flag' ;;
        pool-list) options='inactive:flag all:flag transient:flag persistent:flag autostart:flag no-autostart:flag type:pool-type details:flag uuid:flag name:flag format:pool-column= no-header:flag sort:pool-column= filter:text=+ bytes:flag json:flag' ;;
        pool-name) options='pool:pool-uuid json:flag' ;;
        pool-refresh) options='pool:pool-active if-active:flag json:flag' ;;
        pool-start) options='pool:pool-inactive build:flag no-overwrite:flag overwrite:flag if-inactive:flag json:flag' ;;
        pool-stop) options='pool:pool-active if-active:flag json:flag' ;;
        pool-undefine) options='pool:pool-inactive if-exists:flag forget:flag json:flag' ;;
        pool-uuid) options='pool:pool-all json:flag' ;;
        pool-used-by) options='pool:pool-all json:flag' ;;
        pwd) options='json:flag' ;;
        quit) options='json:flag' ;;
        secret-define) options='file:file validate:flag json:flag' ;;
        secret-dumpxml) options='secret:text xpath:text= wrap:flag json:flag' ;;
        secret-get-value) options='secret:text plain:flag json:flag' ;;
        secret-list) options='ephemeral:flag no-ephemeral:flag private:flag no-private:flag format:secret-column= no-header:flag sort:secret-column= filter:text=+ bytes:flag json:flag' ;;
        secret-set-value) options='secret:text file:file= plain:flag interactive:flag base64:text json:flag' ;;
        secret-undefine) options='secret:text json:flag' ;;
        status) options='pool:pool-all+ volumes:flag watch:flag= json:flag' ;;
        uri) options='json:flag' ;;
        vol-clone) options='vol:volume-pool newname:text pool:pool-active prealloc-metadata:flag reflink:flag print-xml:flag progress:flag no-progress:flag verify:flag capacity:text= owner:text= group:text= mode:text= linked:flag keep-backing:flag allow-backing:flag if-missing:flag json:flag' ;;
        vol-create) options='pool:pool-active file:file prealloc-metadata:flag validate:flag allow-backing:flag json:flag' ;;
        vol-create-as) options='pool:pool-active name:text capacity:text allocation:text format:volume-format backing-vol:volume-pool backing-vol-format:volume-format prealloc-metadata:flag print-xml:flag owner:text= group:text= mode:text= allow-backing:flag if-missing:flag json:flag' ;;
        vol-create-from) options='pool:pool-active file:file vol:volume-inputpool inputpool:pool-active prealloc-metadata:flag reflink:flag validate:flag progress:flag no-progress:flag verify:flag capacity:text= owner:text= group:text= mode:text= keep-backing:flag allow-backing:flag json:flag' ;;
        vol-delete) options='vol:volume-pool pool:pool-active delete-snapshots:flag if-exists:flag json:flag' ;;
        vol-download) options='vol:volume-pool file:file pool:pool-active offset:text length:text sparse:flag progress:flag no-progress:flag verify:flag json:flag' ;;
        vol-dumpxml) options='vol:volume-pool pool:pool-active xpath:text= wrap:flag json:flag' ;;
        vol-exists) options='vol:volume-pool pool:pool-active json:flag' ;;
        vol-info) options='vol:volume-pool pool:pool-active bytes:flag physical:flag json:flag' ;;
        vol-key) options='vol:volume-pool pool:pool-active json:flag' ;;
        vol-list) options='pool:pool-active details:flag format:volume-column= no-header:flag sort:volume-column= filter:text=+ bytes:flag json:flag' ;;
        vol-name) options='vol:file json:flag' ;;
        vol-path) options='vol:volume-pool pool:pool-active json:flag' ;;
        vol-pool) options='vol:file uuid:flag json:flag' ;;
        vol-rename) options='vol:volume-pool newname:text pool:pool-active json:flag' ;;
        vol-resize) options='vol:volume-pool capacity:text pool:pool-active allocate:flag delta:flag shrink:flag allow-backing:flag json:flag' ;;
        vol-upload) options='vol:volume-pool file:file pool:pool-active offset:text length:text sparse:flag progress:flag no-progress:flag verify:flag json:flag' ;;
        vol-used-by) options='vol:volume-pool pool:pool-active json:flag' ;;
        vol-wipe) options='vol:volume-pool pool:pool-active algorithm:wipe-algorithm progress:flag no-progress:flag json:flag' ;;
        *) options='' ;;
    esac
}
_storagectl_words() { # KIND: prints the words that are known beforehand
    case $1 in
        pool-type) echo 'dir fs netfs logical disk iscsi scsi mpath' ;;
        pool-format) echo 'auto ext2 ext3 ext4 ufs iso9660 udf gfs gfs2 vfat hfs+ xfs ocfs2 vmfs btrfs nfs glusterfs cifs unknown lvm2 dos dvh gpt mac bsd pc98 sun' ;;
        volume-format) echo 'none raw dir bochs cloop dmg iso vpc vdi fat vhd ploop cow qcow qcow2 qed vmdk linux fat16 fat32 linux-swap linux-lvm linux-raid extended' ;;
        wipe-algorithm) echo 'zero nnsa dod bsi gutmann schneier pfitzner7 pfitzner33 random trim' ;;
        pool-column) echo 'name uuid type state active persistent autostart capacity allocation available target source-host source-path source-dev source-name source-format' ;;
        volume-column) echo 'name path key type pool format capacity allocation physical owner group mode modified backing backing-format encryption' ;;
        secret-column) echo 'uuid usage-type usage ephemeral private description' ;;
        prune) echo 'pools volumes' ;;
    esac
}
# End of what completions/generate.py writes.

_storagectl_unquote() { # RAW: sets plain, the word as the shell would read it; quote, the open one;
    # live where the shell would put something in for a $ or a `
    local raw=$1 i c
    plain='' quote='' live=''
    for ((i = 0; i < ${#raw}; i++)); do
        c=${raw:i:1}
        case $quote$c in
            "'" | '"') quote=$c ;;
            "''" | '""') quote='' ;;
            "\\")
                i=$((i + 1))
                plain+=${raw:i:1}
                ;;
            '"'\\)
                case ${raw:i+1:1} in
                    [\\\"\$\`])
                        i=$((i + 1))
                        plain+=${raw:i:1}
                        ;;
                    *) plain+=$c ;;
                esac
                ;;
            *)
                plain+=$c
                [[ $c != [\$\`] || $quote == "'" ]] || live=yes
                ;;
        esac
    done
}

_storagectl_split() { # sets raw, the words up to the cursor, and replaced, the part readline replaces
    # readline also splits at = and : (COMP_WORDBREAKS); such words are joined again
    local line=${COMP_LINE:0:COMP_POINT} i word blank
    raw=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        blank=${line%%[![:space:]]*}
        line=${line#"$blank"}
        word=${COMP_WORDS[i]}
        ((i < COMP_CWORD)) || word=$line
        if [[ $i -gt 0 && -z $blank ]]; then
            raw[-1]+=$word
        else
            raw+=("$word")
        fi
        line=${line#"$word"}
    done
    replaced=$word
    while [[ $replaced == [=:]* ]]; do
        replaced=${replaced:1}
    done
}

_storagectl_kind_of() { # NAME: sets kind to that of the option in options, '' where there is none
    local option
    kind=''
    for option in $options; do
        if [[ ${option%%:*} == "$1" ]]; then
            kind=${option#*:}
            return
        fi
    done
}

_storagectl_run() { # ARGUMENT...: prints what storagectl says
    command "$program" "${root[@]}" -q "$@" </dev/null 2>/dev/null
}

_storagectl_pools() { # FILTER...: adds the names of pools to found
    local line
    while IFS= read -r line; do
        line=${line%"${line##*[! ]}"}
        [[ -z $line ]] || found+=("$line")
    done < <(_storagectl_run pool-list "$@")
}

_storagectl_volumes() { # POOL: adds the names of its volumes to found
    # a line is ` NAME   PATH`, and no name has a slash
    local line
    while IFS= read -r line; do
        line=${line%%/*}
        line=${line# }
        line=${line%"${line##*[! ]}"}
        [[ -z $line ]] || found+=("$line")
    done < <(_storagectl_run vol-list --pool="$1")
}

_storagectl_offer() { # BEFORE RAW: offers what of found begins as RAW does; BEFORE stays in front
    local before=$1 plain quote live name shown keep
    _storagectl_unquote "$2"
    [[ -z $live ]] || return
    keep=${current%"$replaced"}
    for name in "${found[@]}"; do
        [[ $name == "$plain"* ]] || continue
        case $quote in
            "'") shown=${name//\'/\'\\\'\'} ;;
            '"')
                shown=${name//\\/\\\\}
                shown=${shown//\"/\\\"}
                shown=${shown//\$/\\\$}
                shown=${shown//\`/\\\`}
                shown=${shown//!/\"\'!\'\"}
                ;;
            *) printf -v shown %q "$name" ;;
        esac
        # readline closes the quote unless the word seems to end with it
        [[ -z $quote || $shown != *"$quote" ]] || shown+=$quote
        shown=$before$shown
        [[ $shown == "$keep"* ]] && COMPREPLY+=("${shown#"$keep"}")
    done
}

_storagectl_value() { # KIND BEFORE RAW: offers values of a kind
    local found=() pool
    case ${1%%[=+]*} in
        pool-all) _storagectl_pools --all --name ;;
        pool-active) _storagectl_pools --name ;;
        pool-inactive) _storagectl_pools --inactive --name ;;
        pool-uuid) _storagectl_pools --all --uuid ;;
        volume-*)
            pool=${1#volume-}
            if [[ -z ${given[${pool}]+set} ]]; then
                compopt -o default 2>/dev/null
                return
            fi
            _storagectl_volumes "${given[${pool}]}"
            ;;
        file)
            compopt -o default 2>/dev/null
            return
            ;;
        folder)
            compopt -o dirnames 2>/dev/null
            return
            ;;
        *) read -r -a found <<<"$(_storagectl_words "${1%%[=+]*}")" ;;
    esac
    _storagectl_offer "$2" "$3"
}

_storagectl() {
    local raw=() replaced current plain quote live options kind name option
    local program root=() command='' expected='' only_data='' found=() positional
    local -A given=()
    local i last
    COMPREPLY=()
    _storagectl_split
    last=$((${#raw[@]} - 1))
    current=${raw[last]}
    _storagectl_unquote "${raw[0]}"
    program=$plain
    type -P -- "$program" >/dev/null || program=storagectl

    # up to the command
    options=$_storagectl_program_options
    for ((i = 1; i < last; i++)); do
        _storagectl_unquote "${raw[i]}"
        if [[ -n $expected ]]; then
            [[ $expected != --root ]] || root=(--root "$plain")
            expected=''
        elif [[ $plain == --root=* ]]; then
            root=("$plain")
        elif [[ $plain == -* ]]; then
            _storagectl_kind_of "$plain"
            [[ $kind == flag || -z $kind ]] || expected=$plain
        else
            command=$plain
            i=$((i + 1))
            break
        fi
    done
    if [[ -z $command ]]; then
        if [[ -n $expected ]]; then
            _storagectl_kind_of "$expected"
            _storagectl_value "$kind" '' "$current"
        elif [[ $current == --?*=* ]]; then
            _storagectl_kind_of "${current%%=*}"
            _storagectl_value "$kind" "${current%%=*}=" "${current#*=}"
        elif [[ $current == -* ]]; then
            for option in $options; do
                found+=("${option%%:*}")
            done
            _storagectl_offer '' "$current"
        else
            read -r -a found <<<"$_storagectl_commands"
            _storagectl_offer '' "$current"
        fi
        return
    fi

    # the command's own arguments
    _storagectl_options "$command"
    for (( ; i < last; i++)); do
        _storagectl_unquote "${raw[i]}"
        if [[ -n $expected ]]; then
            given[$expected]=$plain
            expected=''
        elif [[ $plain == -- && -z $only_data ]]; then
            only_data=yes
        elif [[ $plain == --?*=* && -z $only_data ]]; then
            name=${plain%%=*}
            given[${name#--}]=${plain#*=}
        elif [[ $plain == --?* && -z $only_data ]]; then
            name=${plain#--}
            _storagectl_kind_of "$name"
            case $kind in
                '' | flag) given[$name]='' ;;
                *) expected=$name ;;
            esac
        else
            _storagectl_next_positional
            [[ -z $positional ]] || given[$positional]=$plain
        fi
    done

    if [[ -n $expected ]]; then
        _storagectl_kind_of "$expected"
        _storagectl_value "$kind" '' "$current"
        return
    fi
    if [[ $current == --?*=* && -z $only_data ]]; then
        name=${current%%=*}
        _storagectl_kind_of "${name#--}"
        _storagectl_value "$kind" "$name=" "${current#*=}"
        return
    fi
    if [[ $current != -* || -n $only_data ]]; then
        _storagectl_next_positional
        if [[ -n $positional ]]; then
            _storagectl_kind_of "$positional"
            _storagectl_value "$kind" '' "$current"
            [[ $kind != file* && $kind != folder* ]] || return
        fi
        [[ ${#COMPREPLY[@]} -eq 0 && -z $current && -z $only_data ]] || return
    fi
    for option in $options --help:flag; do
        name=${option%%:*}
        name=${name#--}
        [[ -n ${given[$name]+set} && $option != *+ ]] || found+=("--$name")
    done
    _storagectl_offer '' "$current"
}

_storagectl_next_positional() { # sets positional to the option that the next bare word is for
    local option
    for option in $options; do
        positional=${option%%:*}
        case $option in
            *:flag | *=) continue ;;
        esac
        [[ -n ${given[$positional]+set} ]] || return
    done
    positional=''
}

complete -F _storagectl storagectl
