# shellcheck shell=bash
# Completion for storagectl in bash.
#
# Names of pools and volumes are data, whatever they look like: nothing here evaluates them,
# and what is put on the command line is quoted.

# Written by completions/generate.py.
_storagectl_commands='apply autostart cd connect doctor echo exit find-storage-pool-sources find-storage-pool-sources-as help import pool-autostart pool-build pool-capabilities pool-create pool-create-as pool-define pool-define-as pool-delete pool-destroy pool-dumpxml pool-edit pool-event pool-exists pool-info pool-list pool-name pool-refresh pool-start pool-stop pool-undefine pool-uuid pool-used-by pwd quit secret-define secret-dumpxml secret-get-value secret-list secret-set-value secret-undefine status uri vol-clone vol-create vol-create-as vol-create-from vol-delete vol-download vol-dumpxml vol-exists vol-info vol-key vol-list vol-name vol-path vol-pool vol-rename vol-resize vol-upload vol-used-by vol-wipe'
_storagectl_program_options='-c:uri -d:text -e:text -h:flag -k:text -K:text -l:file -q:flag -r:flag -t:flag -v:flag -V:flag --connect:uri --debug:text --dry-run:flag --escape:text --help:flag --json:flag --keepalive-interval:text --keepalive-count:text --log:file --no-pkttyagent:flag --quiet:flag --readonly:flag --root:folder --timing:flag --verbose:flag --version:flag'
_storagectl_options() { # COMMAND: sets options
    case $1 in
        apply) options='file:file+ diff:flag detailed-exitcode:flag build:flag overwrite:flag resize:flag prune:prune=+ keep-going:flag dry-run:flag json:flag verbose:flag' ;;
        autostart) options='timing:flag dry-run:flag json:flag verbose:flag' ;;
        cd) options='dir:folder json:flag verbose:flag' ;;
        connect) options='name:uri readonly:flag json:flag verbose:flag' ;;
        doctor) options='pool:pool-all json:flag verbose:flag' ;;
        echo) options='shell:flag xml:flag split:flag err:flag string:text+ json:flag verbose:flag' ;;
        exit) options='json:flag verbose:flag' ;;
        find-storage-pool-sources) options='type:source-type srcSpec:file json:flag verbose:flag' ;;
        find-storage-pool-sources-as) options='type:source-type host:text port:text initiator:text json:flag verbose:flag' ;;
        help) options='command:command json:flag verbose:flag' ;;
        import) options='folder:folder dry-run:flag json:flag verbose:flag' ;;
        pool-autostart) options='pool:pool-persistent disable:flag dry-run:flag json:flag verbose:flag' ;;
        pool-build) options='pool:pool-inactive no-overwrite:flag overwrite:flag if-inactive:flag dry-run:flag json:flag verbose:flag' ;;
        pool-capabilities) options='json:flag verbose:flag' ;;
        pool-create) options='file:file build:flag no-overwrite:flag overwrite:flag if-inactive:flag dry-run:flag json:flag verbose:flag' ;;
        pool-create-as) options='name:text type:pool-type print-xml:flag source-host:text source-path:text source-dev:device+ source-name:text target:folder source-format:pool-format auth-type:auth-type auth-username:text secret-usage:text secret-uuid:secret adapter-name:text adapter-wwnn:text adapter-wwpn:text adapter-parent:text adapter-parent-wwnn:text adapter-parent-wwpn:text adapter-parent-fabric-wwn:text source-protocol-ver:text source-initiator:text build:flag no-overwrite:flag overwrite:flag if-inactive:flag dry-run:flag json:flag verbose:flag' ;;
        pool-define) options='file:file validate:flag if-missing:flag dry-run:flag json:flag verbose:flag' ;;
        pool-define-as) options='name:text type:pool-type print-xml:flag source-host:text source-path:text source-dev:device+ source-name:text target:folder source-format:pool-format auth-type:auth-type auth-username:text secret-usage:text secret-uuid:secret adapter-name:text adapter-wwnn:text adapter-wwpn:text adapter-parent:text adapter-parent-wwnn:text adapter-parent-wwpn:text adapter-parent-fabric-wwn:text source-protocol-ver:text source-initiator:text if-missing:flag dry-run:flag json:flag verbose:flag' ;;
        pool-delete) options='pool:pool-inactive if-exists:flag dry-run:flag json:flag verbose:flag' ;;
        pool-destroy) options='pool:pool-active if-active:flag dry-run:flag json:flag verbose:flag' ;;
        pool-dumpxml) options='pool:pool-all inactive:flag xpath:text= wrap:flag json:flag verbose:flag' ;;
        pool-edit) options='pool:pool-all dry-run:flag json:flag verbose:flag' ;;
        pool-event) options='pool:pool-all event:event loop:flag timeout:text list:flag timestamp:flag json:flag verbose:flag' ;;
        pool-exists) options='pool:pool-all json:flag verbose:flag' ;;
        pool-info) options='pool:pool-all bytes:flag json:flag verbose:flag' ;;
        pool-list) options='inactive:flag all:flag transient:flag persistent:flag autostart:flag no-autostart:flag type:pool-type details:flag uuid:flag name:flag format:column-pool= no-header:flag sort:column-pool= filter:text=+ bytes:flag json:flag verbose:flag' ;;
        pool-name) options='pool:pool-uuid json:flag verbose:flag' ;;
        pool-refresh) options='pool:pool-active if-active:flag dry-run:flag json:flag verbose:flag' ;;
        pool-start) options='pool:pool-inactive build:flag no-overwrite:flag overwrite:flag if-inactive:flag dry-run:flag json:flag verbose:flag' ;;
        pool-stop) options='pool:pool-active if-active:flag dry-run:flag json:flag verbose:flag' ;;
        pool-undefine) options='pool:pool-inactive if-exists:flag forget:flag dry-run:flag json:flag verbose:flag' ;;
        pool-uuid) options='pool:pool-all json:flag verbose:flag' ;;
        pool-used-by) options='pool:pool-all json:flag verbose:flag' ;;
        pwd) options='json:flag verbose:flag' ;;
        quit) options='json:flag verbose:flag' ;;
        secret-define) options='file:file validate:flag dry-run:flag json:flag verbose:flag' ;;
        secret-dumpxml) options='secret:secret xpath:text= wrap:flag json:flag verbose:flag' ;;
        secret-get-value) options='secret:secret plain:flag json:flag verbose:flag' ;;
        secret-list) options='ephemeral:flag no-ephemeral:flag private:flag no-private:flag format:column-secret= no-header:flag sort:column-secret= filter:text=+ bytes:flag json:flag verbose:flag' ;;
        secret-set-value) options='secret:secret file:file= plain:flag interactive:flag base64:text dry-run:flag json:flag verbose:flag' ;;
        secret-undefine) options='secret:secret if-exists:flag dry-run:flag json:flag verbose:flag' ;;
        status) options='pool:pool-all+ volumes:flag watch:flag= json:flag verbose:flag' ;;
        uri) options='json:flag verbose:flag' ;;
        vol-clone) options='vol:volume-pool newname:text pool:pool-with prealloc-metadata:flag reflink:flag print-xml:flag progress:flag no-progress:flag verify:flag capacity:text= owner:user= group:group= mode:text= linked:flag keep-backing:flag allow-backing:flag if-missing:flag dry-run:flag json:flag verbose:flag' ;;
        vol-create) options='pool:pool-active file:file prealloc-metadata:flag validate:flag allow-backing:flag if-missing:flag dry-run:flag json:flag verbose:flag' ;;
        vol-create-as) options='pool:pool-active name:text capacity:text allocation:text format:format-pool backing-vol:volume-pool backing-vol-format:format-pool prealloc-metadata:flag print-xml:flag owner:user= group:group= mode:text= allow-backing:flag if-missing:flag dry-run:flag json:flag verbose:flag' ;;
        vol-create-from) options='pool:pool-active file:file vol:volume-inputpool inputpool:pool-active prealloc-metadata:flag reflink:flag validate:flag progress:flag no-progress:flag verify:flag capacity:text= owner:user= group:group= mode:text= keep-backing:flag allow-backing:flag if-missing:flag dry-run:flag json:flag verbose:flag' ;;
        vol-delete) options='vol:volume-pool pool:pool-with delete-snapshots:flag if-exists:flag dry-run:flag json:flag verbose:flag' ;;
        vol-download) options='vol:volume-pool file:file pool:pool-with offset:text length:text sparse:flag progress:flag no-progress:flag verify:flag dry-run:flag json:flag verbose:flag' ;;
        vol-dumpxml) options='vol:volume-pool pool:pool-with xpath:text= wrap:flag json:flag verbose:flag' ;;
        vol-exists) options='vol:volume-pool pool:pool-with json:flag verbose:flag' ;;
        vol-info) options='vol:volume-pool pool:pool-with bytes:flag physical:flag json:flag verbose:flag' ;;
        vol-key) options='vol:volume-pool pool:pool-with json:flag verbose:flag' ;;
        vol-list) options='pool:pool-active details:flag format:column-volume= no-header:flag sort:column-volume= filter:text=+ bytes:flag json:flag verbose:flag' ;;
        vol-name) options='vol:file json:flag verbose:flag' ;;
        vol-path) options='vol:volume-pool pool:pool-with json:flag verbose:flag' ;;
        vol-pool) options='vol:file uuid:flag json:flag verbose:flag' ;;
        vol-rename) options='vol:volume-pool newname:text pool:pool-with dry-run:flag json:flag verbose:flag' ;;
        vol-resize) options='vol:volume-pool capacity:text pool:pool-with allocate:flag delta:flag shrink:flag allow-backing:flag dry-run:flag json:flag verbose:flag' ;;
        vol-upload) options='vol:volume-pool file:file pool:pool-with offset:text length:text sparse:flag progress:flag no-progress:flag verify:flag dry-run:flag json:flag verbose:flag' ;;
        vol-used-by) options='vol:volume-pool pool:pool-with json:flag verbose:flag' ;;
        vol-wipe) options='vol:volume-pool pool:pool-with algorithm:wipe-algorithm progress:flag no-progress:flag dry-run:flag json:flag verbose:flag' ;;
        *) options='' ;;
    esac
}
_storagectl_words() { # KIND: prints the words that are known beforehand
    case $1 in
        auth-type) echo 'chap' ;;
        uri) echo 'storage:///system storage:///session' ;;
        command) echo 'apply autostart cd connect doctor echo exit find-storage-pool-sources find-storage-pool-sources-as help import pool-autostart pool-build pool-capabilities pool-create pool-create-as pool-define pool-define-as pool-delete pool-destroy pool-dumpxml pool-edit pool-event pool-exists pool-info pool-list pool-name pool-refresh pool-start pool-stop pool-undefine pool-uuid pool-used-by pwd quit secret-define secret-dumpxml secret-get-value secret-list secret-set-value secret-undefine status uri vol-clone vol-create vol-create-as vol-create-from vol-delete vol-download vol-dumpxml vol-exists vol-info vol-key vol-list vol-name vol-path vol-pool vol-rename vol-resize vol-upload vol-used-by vol-wipe host secret pool volume storagectl' ;;
        event) echo 'lifecycle refresh volume all' ;;
        pool-type) echo 'dir fs netfs logical disk iscsi scsi mpath' ;;
        source-type) echo 'netfs logical iscsi' ;;
        pool-format) echo 'auto ext2 ext3 ext4 ufs iso9660 udf gfs gfs2 vfat hfs+ xfs ocfs2 vmfs btrfs nfs glusterfs cifs unknown lvm2 dos dvh gpt mac bsd pc98 sun' ;;
        volume-format) echo 'none raw dir bochs cloop dmg iso vpc vdi fat vhd ploop cow qcow qcow2 qed vmdk linux fat16 fat32 linux-swap linux-lvm linux-raid extended' ;;
        wipe-algorithm) echo 'zero nnsa dod bsi gutmann schneier pfitzner7 pfitzner33 random trim' ;;
        prune) echo 'pools volumes' ;;
        column-pool) echo 'name uuid type state active persistent autostart capacity allocation available target source-host source-path source-dev source-name source-format' ;;
        column-volume) echo 'name path key type pool format capacity allocation physical owner group mode modified backing backing-format encryption' ;;
        column-secret) echo 'uuid usage-type usage ephemeral private description' ;;
        pool-format-fs) echo 'auto ext2 ext3 ext4 ufs iso9660 udf gfs gfs2 vfat hfs+ xfs ocfs2 vmfs btrfs' ;;
        pool-format-netfs) echo 'auto nfs glusterfs cifs' ;;
        pool-format-logical) echo 'unknown lvm2' ;;
        pool-format-disk) echo 'unknown dos dvh gpt mac bsd pc98 sun lvm2' ;;
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

_storagectl_ask() { # KIND [WORD]: adds what storagectl knows of to found
    local lines=()
    mapfile -t lines < <(command "$program" --complete "${place[@]}" "$@" </dev/null 2>/dev/null)
    found+=("${lines[@]}")
}

_storagectl_offer() { # BEFORE RAW: offers what of found begins as RAW does; BEFORE stays in front
    local before=$1 plain quote live name shown keep
    _storagectl_unquote "$2"
    [[ -z $live ]] || return
    keep=${current%"$replaced"}
    for name in "${found[@]}"; do
        [[ $name == "$plain"* ]] || continue
        if [[ $name == *[!A-Za-z0-9_./:=@%+,-]* ]]; then
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
        else
            shown=$name
        fi
        shown=$before$shown
        [[ $shown == "$keep"* ]] && COMPREPLY+=("${shown#"$keep"}")
    done
}

_storagectl_value() { # KIND BEFORE RAW: offers values of a kind
    local found=() option known kind=${1%%[=+]*}
    case $kind in
        '' | text) return ;;
        file)
            compopt -o default 2>/dev/null
            return
            ;;
        folder)
            compopt -o dirnames 2>/dev/null
            return
            ;;
        volume-*)
            compopt -o default 2>/dev/null # a path is as good as a name
            option=${kind#volume-}
            _storagectl_ask volume "${given[$option]-}"
            ;;
        format-*)
            option=${kind#format-}
            if [[ -n ${given[$option]-} ]]; then
                _storagectl_ask volume-format "${given[$option]}"
            else
                read -r -a found <<<"$(_storagectl_words volume-format)"
            fi
            ;;
        pool-with)
            if [[ -n ${given[vol]-} ]]; then
                _storagectl_ask pool-with "${given[vol]}"
            else
                _storagectl_ask pool-active
            fi
            ;;
        pool-format)
            [[ -z ${given[type]-} ]] || kind+=-${given[type]}
            read -r -a found <<<"$(_storagectl_words "$kind")"
            ;;
        device)
            compopt -o default 2>/dev/null
            _storagectl_ask device
            ;;
        *)
            known=$(_storagectl_words "$kind")
            if [[ -n $known ]]; then
                read -r -a found <<<"$known"
            else
                _storagectl_ask "$kind"
            fi
            ;;
    esac
    _storagectl_offer "$2" "$3"
}

_storagectl() {
    local raw=() replaced current plain quote live options kind name option
    local program place=() command='' expected='' only_data='' found=() positional
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
            case $expected in
                --root | --connect) place+=("$expected" "$plain") ;;
                -c) place+=(--connect "$plain") ;;
            esac
            expected=''
        elif [[ $plain == --root=* || $plain == --connect=* ]]; then
            place+=("${plain%%=*}" "${plain#*=}")
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
            case $kind in
                file* | folder* | device*) return ;;
                volume-*) [[ -z $current ]] || return ;;
            esac
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
