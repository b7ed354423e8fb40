#compdef storagectl
# Completion for storagectl in zsh.
#
# Names of pools and volumes are data, whatever they look like: nothing here evaluates them,
# and compadd quotes what it puts on the command line.

# Written by completions/generate.py.
_storagectl_tables() {
    command_list=(
        'apply:make pools and volumes what files say'
        'autostart:start every inactive pool that is marked as autostarted'
        'cd:change the current directory'
        'connect:(re)connect to hypervisor'
        'doctor:tell why pools do not start, and what mends it'
        'echo:echo arguments. Used for internal testing.'
        'exit:quit this interactive terminal'
        'find-storage-pool-sources:discover potential storage pool sources'
        'find-storage-pool-sources-as:find potential storage pool sources'
        'help:print help'
        'import:take over the definitions of libvirt'\''s pools'
        'pool-autostart:autostart a pool'
        'pool-build:build a pool'
        'pool-capabilities:storage pool capabilities'
        'pool-create:create a pool from an XML file'
        'pool-create-as:create a pool from a set of args'
        'pool-define:define an inactive persistent storage pool or modify an existing persistent one from an XML file'
        'pool-define-as:define a pool from a set of args'
        'pool-delete:delete a pool'
        'pool-destroy:destroy (stop) a pool'
        'pool-dumpxml:pool information in XML'
        'pool-edit:edit XML configuration for a storage pool'
        'pool-event:Storage Pool Events'
        'pool-exists:tell by the exit status whether there is a pool'
        'pool-info:storage pool information'
        'pool-list:list pools'
        'pool-name:convert a pool UUID to pool name'
        'pool-refresh:refresh a pool'
        'pool-start:start a (previously defined) inactive pool'
        'pool-stop:stop a pool; its data stays'
        'pool-undefine:undefine an inactive pool'
        'pool-uuid:convert a pool name to pool UUID'
        'pool-used-by:list what uses a pool'
        'pwd:print the current directory'
        'quit:quit this interactive terminal'
        'secret-define:define or modify a secret from an XML file'
        'secret-dumpxml:secret attributes in XML'
        'secret-get-value:Output a secret value'
        'secret-list:list secrets'
        'secret-set-value:set a secret value'
        'secret-undefine:undefine a secret'
        'status:show all pools on one screen'
        'uri:print the hypervisor canonical URI'
        'vol-clone:clone a volume.'
        'vol-create:create a vol from an XML file'
        'vol-create-as:create a volume from a set of args'
        'vol-create-from:create a vol, using another volume as input'
        'vol-delete:delete a vol'
        'vol-download:download volume contents to a file'
        'vol-dumpxml:vol information in XML'
        'vol-exists:tell by the exit status whether there is a vol'
        'vol-info:storage vol information'
        'vol-key:returns the volume key for a given volume name or path'
        'vol-list:list vols'
        'vol-name:returns the volume name for a given volume key or path'
        'vol-path:returns the volume path for a given volume name or key'
        'vol-pool:returns the storage pool for a given volume key or path'
        'vol-rename:rename a vol'
        'vol-resize:resize a vol'
        'vol-upload:upload file contents to a volume'
        'vol-used-by:list what uses a vol'
        'vol-wipe:wipe a vol'
    )
    program_options=(-c:uri -d:text -e:text -h:flag -k:text -K:text -l:file -q:flag -r:flag -t:flag -v:flag -V:flag --connect:uri --debug:text --dry-run:flag --escape:text --help:flag --json:flag --keepalive-interval:text --keepalive-count:text --log:file --no-pkttyagent:flag --quiet:flag --readonly:flag --root:folder --timing:flag --verbose:flag --version:flag)
    options_of=(
        apply 'file:file+ diff:flag detailed-exitcode:flag build:flag overwrite:flag resize:flag prune:prune=+ keep-going:flag dry-run:flag json:flag verbose:flag'
        autostart 'timing:flag dry-run:flag json:flag verbose:flag'
        cd 'dir:folder json:flag verbose:flag'
        connect 'name:uri readonly:flag json:flag verbose:flag'
        doctor 'pool:pool-all json:flag verbose:flag'
        echo 'shell:flag xml:flag split:flag err:flag string:text+ json:flag verbose:flag'
        exit 'json:flag verbose:flag'
        find-storage-pool-sources 'type:source-type srcSpec:file json:flag verbose:flag'
        find-storage-pool-sources-as 'type:source-type host:text port:text initiator:text json:flag verbose:flag'
        help 'command:command json:flag verbose:flag'
        import 'folder:folder dry-run:flag json:flag verbose:flag'
        pool-autostart 'pool:pool-persistent disable:flag dry-run:flag json:flag verbose:flag'
        pool-build 'pool:pool-inactive no-overwrite:flag overwrite:flag if-inactive:flag dry-run:flag json:flag verbose:flag'
        pool-capabilities 'json:flag verbose:flag'
        pool-create 'file:file build:flag no-overwrite:flag overwrite:flag if-inactive:flag dry-run:flag json:flag verbose:flag'
        pool-create-as 'name:text type:pool-type print-xml:flag source-host:text source-path:text source-dev:device+ source-name:text target:folder source-format:pool-format auth-type:auth-type auth-username:text secret-usage:text secret-uuid:secret adapter-name:text adapter-wwnn:text adapter-wwpn:text adapter-parent:text adapter-parent-wwnn:text adapter-parent-wwpn:text adapter-parent-fabric-wwn:text source-protocol-ver:text source-initiator:text build:flag no-overwrite:flag overwrite:flag if-inactive:flag dry-run:flag json:flag verbose:flag'
        pool-define 'file:file validate:flag if-missing:flag dry-run:flag json:flag verbose:flag'
        pool-define-as 'name:text type:pool-type print-xml:flag source-host:text source-path:text source-dev:device+ source-name:text target:folder source-format:pool-format auth-type:auth-type auth-username:text secret-usage:text secret-uuid:secret adapter-name:text adapter-wwnn:text adapter-wwpn:text adapter-parent:text adapter-parent-wwnn:text adapter-parent-wwpn:text adapter-parent-fabric-wwn:text source-protocol-ver:text source-initiator:text if-missing:flag dry-run:flag json:flag verbose:flag'
        pool-delete 'pool:pool-inactive if-exists:flag dry-run:flag json:flag verbose:flag'
        pool-destroy 'pool:pool-active if-active:flag dry-run:flag json:flag verbose:flag'
        pool-dumpxml 'pool:pool-all inactive:flag xpath:text= wrap:flag json:flag verbose:flag'
        pool-edit 'pool:pool-all dry-run:flag json:flag verbose:flag'
        pool-event 'pool:pool-all event:event loop:flag timeout:text list:flag timestamp:flag json:flag verbose:flag'
        pool-exists 'pool:pool-all json:flag verbose:flag'
        pool-info 'pool:pool-all bytes:flag json:flag verbose:flag'
        pool-list 'inactive:flag all:flag transient:flag persistent:flag autostart:flag no-autostart:flag type:pool-type details:flag uuid:flag name:flag format:column-pool= no-header:flag sort:column-pool= filter:text=+ bytes:flag json:flag verbose:flag'
        pool-name 'pool:pool-uuid json:flag verbose:flag'
        pool-refresh 'pool:pool-active if-active:flag dry-run:flag json:flag verbose:flag'
        pool-start 'pool:pool-inactive build:flag no-overwrite:flag overwrite:flag if-inactive:flag dry-run:flag json:flag verbose:flag'
        pool-stop 'pool:pool-active if-active:flag dry-run:flag json:flag verbose:flag'
        pool-undefine 'pool:pool-inactive if-exists:flag forget:flag dry-run:flag json:flag verbose:flag'
        pool-uuid 'pool:pool-all json:flag verbose:flag'
        pool-used-by 'pool:pool-all json:flag verbose:flag'
        pwd 'json:flag verbose:flag'
        quit 'json:flag verbose:flag'
        secret-define 'file:file validate:flag dry-run:flag json:flag verbose:flag'
        secret-dumpxml 'secret:secret xpath:text= wrap:flag json:flag verbose:flag'
        secret-get-value 'secret:secret plain:flag json:flag verbose:flag'
        secret-list 'ephemeral:flag no-ephemeral:flag private:flag no-private:flag format:column-secret= no-header:flag sort:column-secret= filter:text=+ bytes:flag json:flag verbose:flag'
        secret-set-value 'secret:secret file:file= plain:flag interactive:flag base64:text dry-run:flag json:flag verbose:flag'
        secret-undefine 'secret:secret if-exists:flag dry-run:flag json:flag verbose:flag'
        status 'pool:pool-all+ volumes:flag watch:flag= json:flag verbose:flag'
        uri 'json:flag verbose:flag'
        vol-clone 'vol:volume-pool newname:text pool:pool-with prealloc-metadata:flag reflink:flag print-xml:flag progress:flag no-progress:flag verify:flag capacity:text= owner:user= group:group= mode:text= linked:flag keep-backing:flag allow-backing:flag if-missing:flag dry-run:flag json:flag verbose:flag'
        vol-create 'pool:pool-active file:file prealloc-metadata:flag validate:flag allow-backing:flag if-missing:flag dry-run:flag json:flag verbose:flag'
        vol-create-as 'pool:pool-active name:text capacity:text allocation:text format:format-pool backing-vol:volume-pool backing-vol-format:format-pool prealloc-metadata:flag print-xml:flag owner:user= group:group= mode:text= allow-backing:flag if-missing:flag dry-run:flag json:flag verbose:flag'
        vol-create-from 'pool:pool-active file:file vol:volume-inputpool inputpool:pool-active prealloc-metadata:flag reflink:flag validate:flag progress:flag no-progress:flag verify:flag capacity:text= owner:user= group:group= mode:text= keep-backing:flag allow-backing:flag if-missing:flag dry-run:flag json:flag verbose:flag'
        vol-delete 'vol:volume-pool pool:pool-with delete-snapshots:flag if-exists:flag dry-run:flag json:flag verbose:flag'
        vol-download 'vol:volume-pool file:file pool:pool-with offset:text length:text sparse:flag progress:flag no-progress:flag verify:flag dry-run:flag json:flag verbose:flag'
        vol-dumpxml 'vol:volume-pool pool:pool-with xpath:text= wrap:flag json:flag verbose:flag'
        vol-exists 'vol:volume-pool pool:pool-with json:flag verbose:flag'
        vol-info 'vol:volume-pool pool:pool-with bytes:flag physical:flag json:flag verbose:flag'
        vol-key 'vol:volume-pool pool:pool-with json:flag verbose:flag'
        vol-list 'pool:pool-active details:flag format:column-volume= no-header:flag sort:column-volume= filter:text=+ bytes:flag json:flag verbose:flag'
        vol-name 'vol:file json:flag verbose:flag'
        vol-path 'vol:volume-pool pool:pool-with json:flag verbose:flag'
        vol-pool 'vol:file uuid:flag json:flag verbose:flag'
        vol-rename 'vol:volume-pool newname:text pool:pool-with dry-run:flag json:flag verbose:flag'
        vol-resize 'vol:volume-pool capacity:text pool:pool-with allocate:flag delta:flag shrink:flag allow-backing:flag dry-run:flag json:flag verbose:flag'
        vol-upload 'vol:volume-pool file:file pool:pool-with offset:text length:text sparse:flag progress:flag no-progress:flag verify:flag dry-run:flag json:flag verbose:flag'
        vol-used-by 'vol:volume-pool pool:pool-with json:flag verbose:flag'
        vol-wipe 'vol:volume-pool pool:pool-with algorithm:wipe-algorithm progress:flag no-progress:flag dry-run:flag json:flag verbose:flag'
    )
    words_of=(
        auth-type 'chap'
        uri 'storage:///system storage:///session'
        command 'apply autostart cd connect doctor echo exit find-storage-pool-sources find-storage-pool-sources-as help import pool-autostart pool-build pool-capabilities pool-create pool-create-as pool-define pool-define-as pool-delete pool-destroy pool-dumpxml pool-edit pool-event pool-exists pool-info pool-list pool-name pool-refresh pool-start pool-stop pool-undefine pool-uuid pool-used-by pwd quit secret-define secret-dumpxml secret-get-value secret-list secret-set-value secret-undefine status uri vol-clone vol-create vol-create-as vol-create-from vol-delete vol-download vol-dumpxml vol-exists vol-info vol-key vol-list vol-name vol-path vol-pool vol-rename vol-resize vol-upload vol-used-by vol-wipe host secret pool volume storagectl'
        event 'lifecycle refresh volume all'
        pool-type 'dir fs netfs logical disk iscsi scsi mpath'
        source-type 'netfs logical iscsi'
        pool-format 'auto ext2 ext3 ext4 ufs iso9660 udf gfs gfs2 vfat hfs+ xfs ocfs2 vmfs btrfs nfs glusterfs cifs unknown lvm2 dos dvh gpt mac bsd pc98 sun'
        volume-format 'none raw dir bochs cloop dmg iso vpc vdi fat vhd ploop cow qcow qcow2 qed vmdk linux fat16 fat32 linux-swap linux-lvm linux-raid extended'
        wipe-algorithm 'zero nnsa dod bsi gutmann schneier pfitzner7 pfitzner33 random trim'
        prune 'pools volumes'
        column-pool 'name uuid type state active persistent autostart capacity allocation available target source-host source-path source-dev source-name source-format'
        column-volume 'name path key type pool format capacity allocation physical owner group mode modified backing backing-format encryption'
        column-secret 'uuid usage-type usage ephemeral private description'
        pool-format-fs 'auto ext2 ext3 ext4 ufs iso9660 udf gfs gfs2 vfat hfs+ xfs ocfs2 vmfs btrfs'
        pool-format-netfs 'auto nfs glusterfs cifs'
        pool-format-logical 'unknown lvm2'
        pool-format-disk 'unknown dos dvh gpt mac bsd pc98 sun lvm2'
    )
}
# End of what completions/generate.py writes.

_storagectl_ask() { # KIND [WORD]: offers what storagectl knows of
    local -a lines
    lines=("${(@f)$(command $program --complete $place "$@" </dev/null 2>/dev/null)}")
    lines=("${(@)lines:#}")
    compadd -a lines
}

_storagectl_kind_of() { # OPTION NAME:KIND...: sets kind, '' where there is no such option
    local name=$1 entry
    shift
    kind=''
    for entry; do
        if [[ ${entry%%:*} == $name ]]; then
            kind=${entry#*:}
            return
        fi
    done
}

_storagectl_value() { # KIND: offers values of a kind
    local kind=${1%%[=+]*}
    local -a found
    case $kind in
        '' | text) return 1 ;;
        file) _files ;;
        folder) _files -/ ;;
        volume-*) _storagectl_ask volume "${given[${kind#volume-}]}" || _files ;;
        format-*)
            if [[ -n ${given[${kind#format-}]} ]]; then
                _storagectl_ask volume-format "${given[${kind#format-}]}"
            else
                found=(${=words_of[volume-format]})
                compadd -a found
            fi
            ;;
        pool-with)
            if [[ -n ${given[vol]} ]]; then
                _storagectl_ask pool-with "${given[vol]}"
            else
                _storagectl_ask pool-active
            fi
            ;;
        pool-format)
            [[ -z ${given[type]} ]] || kind+=-${given[type]}
            found=(${=words_of[$kind]})
            compadd -a found
            ;;
        device) _storagectl_ask device || _files ;;
        *)
            if (( ${+words_of[$kind]} )); then
                found=(${=words_of[$kind]})
                compadd -a found
            else
                _storagectl_ask $kind
            fi
            ;;
    esac
}

_storagectl_next_positional() { # sets positional to the option that the next bare word is for
    local entry
    for entry in $options; do
        positional=${entry%%:*}
        [[ $entry == *:flag || $entry == *= ]] && continue
        (( ${+given[$positional]} )) || return
    done
    positional=''
}

_storagectl() {
    setopt local_options extended_glob no_sh_word_split
    local program=${(Q)words[1]} chosen='' expected='' only_data='' word kind positional
    local -a place command_list program_options options found
    local -A options_of words_of given
    local entry
    integer i
    _storagectl_tables
    whence -p -- $program >/dev/null || program=storagectl

    # up to the command
    for (( i = 2; i < CURRENT; i++ )); do
        word=${(Q)words[i]}
        if [[ -n $expected ]]; then
            case $expected in
                --root|--connect) place+=($expected $word) ;;
                -c) place+=(--connect $word) ;;
            esac
            expected=''
        elif [[ $word == --root=* || $word == --connect=* ]]; then
            place+=(${word%%=*} ${word#*=})
        elif [[ $word == -* ]]; then
            _storagectl_kind_of $word $program_options
            [[ $kind == flag || -z $kind ]] || expected=$word
        else
            chosen=$word
            (( i++ ))
            break
        fi
    done
    if [[ -z $chosen ]]; then
        if [[ -n $expected ]]; then
            _storagectl_kind_of $expected $program_options
            _storagectl_value $kind
        elif [[ $PREFIX == --*=* ]]; then
            _storagectl_kind_of ${PREFIX%%=*} $program_options
            compset -P 1 '*='
            _storagectl_value $kind
        elif [[ $PREFIX == -* ]]; then
            found=(${program_options%%:*})
            compadd -a found
        else
            _describe -t commands command command_list
        fi
        return
    fi

    # the command's own arguments
    options=(${=options_of[$chosen]})
    for (( ; i < CURRENT; i++ )); do
        word=${(Q)words[i]}
        if [[ -n $expected ]]; then
            given[$expected]=$word
            expected=''
        elif [[ $word == -- && -z $only_data ]]; then
            only_data=yes
        elif [[ $word == --?*=* && -z $only_data ]]; then
            given[${${word%%=*}#--}]=${word#*=}
        elif [[ $word == --?* && -z $only_data ]]; then
            _storagectl_kind_of ${word#--} $options
            if [[ $kind == flag || -z $kind ]]; then
                given[${word#--}]=''
            else
                expected=${word#--}
            fi
        else
            _storagectl_next_positional
            [[ -n $positional ]] && given[$positional]=$word
        fi
    done

    if [[ -n $expected ]]; then
        _storagectl_kind_of $expected $options
        _storagectl_value $kind
        return
    fi
    if [[ $PREFIX == --?*=* && -z $only_data ]]; then
        _storagectl_kind_of ${${PREFIX%%=*}#--} $options
        compset -P 1 '*='
        _storagectl_value $kind
        return
    fi
    if [[ $PREFIX != -* || -n $only_data ]]; then
        _storagectl_next_positional
        if [[ -n $positional ]]; then
            _storagectl_kind_of $positional $options
            _storagectl_value $kind && return
        fi
        [[ -z $PREFIX && -z $only_data ]] || return
    fi
    for entry in $options help:flag; do
        [[ $entry != *+ ]] && (( ${+given[${entry%%:*}]} )) || found+=(--${entry%%:*})
    done
    compadd -a found
}

_storagectl "$@"
