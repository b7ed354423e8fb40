# Completion for storagectl in fish.
#
# Names of pools and volumes are data, whatever they look like: nothing here evaluates them,
# and fish quotes what it puts on the command line.

# Written by completions/generate.py.
function __storagectl_commands
    printf '%s\t%s\n' apply 'make pools and volumes what files say'
    printf '%s\t%s\n' autostart 'start every inactive pool that is marked as autostarted'
    printf '%s\t%s\n' cd 'change the current directory'
    printf '%s\t%s\n' connect '(re)connect to hypervisor'
    printf '%s\t%s\n' doctor 'tell why pools do not start, and what mends it'
    printf '%s\t%s\n' echo 'echo arguments. Used for internal testing.'
    printf '%s\t%s\n' exit 'quit this interactive terminal'
    printf '%s\t%s\n' find-storage-pool-sources 'discover potential storage pool sources'
    printf '%s\t%s\n' find-storage-pool-sources-as 'find potential storage pool sources'
    printf '%s\t%s\n' help 'print help'
    printf '%s\t%s\n' import 'take over the definitions of libvirt\'s pools'
    printf '%s\t%s\n' pool-autostart 'autostart a pool'
    printf '%s\t%s\n' pool-build 'build a pool'
    printf '%s\t%s\n' pool-capabilities 'storage pool capabilities'
    printf '%s\t%s\n' pool-create 'create a pool from an XML file'
    printf '%s\t%s\n' pool-create-as 'create a pool from a set of args'
    printf '%s\t%s\n' pool-define 'define an inactive persistent storage pool or modify an existing persistent one from an XML file'
    printf '%s\t%s\n' pool-define-as 'define a pool from a set of args'
    printf '%s\t%s\n' pool-delete 'delete a pool'
    printf '%s\t%s\n' pool-destroy 'destroy (stop) a pool'
    printf '%s\t%s\n' pool-dumpxml 'pool information in XML'
    printf '%s\t%s\n' pool-edit 'edit XML configuration for a storage pool'
    printf '%s\t%s\n' pool-event 'Storage Pool Events'
    printf '%s\t%s\n' pool-exists 'tell by the exit status whether there is a pool'
    printf '%s\t%s\n' pool-info 'storage pool information'
    printf '%s\t%s\n' pool-list 'list pools'
    printf '%s\t%s\n' pool-name 'convert a pool UUID to pool name'
    printf '%s\t%s\n' pool-refresh 'refresh a pool'
    printf '%s\t%s\n' pool-start 'start a (previously defined) inactive pool'
    printf '%s\t%s\n' pool-stop 'stop a pool; its data stays'
    printf '%s\t%s\n' pool-undefine 'undefine an inactive pool'
    printf '%s\t%s\n' pool-uuid 'convert a pool name to pool UUID'
    printf '%s\t%s\n' pool-used-by 'list what uses a pool'
    printf '%s\t%s\n' pwd 'print the current directory'
    printf '%s\t%s\n' quit 'quit this interactive terminal'
    printf '%s\t%s\n' secret-define 'define or modify a secret from an XML file'
    printf '%s\t%s\n' secret-dumpxml 'secret attributes in XML'
    printf '%s\t%s\n' secret-get-value 'Output a secret value'
    printf '%s\t%s\n' secret-list 'list secrets'
    printf '%s\t%s\n' secret-set-value 'set a secret value'
    printf '%s\t%s\n' secret-undefine 'undefine a secret'
    printf '%s\t%s\n' status 'show all pools on one screen'
    printf '%s\t%s\n' uri 'print the hypervisor canonical URI'
    printf '%s\t%s\n' vol-clone 'clone a volume.'
    printf '%s\t%s\n' vol-create 'create a vol from an XML file'
    printf '%s\t%s\n' vol-create-as 'create a volume from a set of args'
    printf '%s\t%s\n' vol-create-from 'create a vol, using another volume as input'
    printf '%s\t%s\n' vol-delete 'delete a vol'
    printf '%s\t%s\n' vol-download 'download volume contents to a file'
    printf '%s\t%s\n' vol-dumpxml 'vol information in XML'
    printf '%s\t%s\n' vol-exists 'tell by the exit status whether there is a vol'
    printf '%s\t%s\n' vol-info 'storage vol information'
    printf '%s\t%s\n' vol-key 'returns the volume key for a given volume name or path'
    printf '%s\t%s\n' vol-list 'list vols'
    printf '%s\t%s\n' vol-name 'returns the volume name for a given volume key or path'
    printf '%s\t%s\n' vol-path 'returns the volume path for a given volume name or key'
    printf '%s\t%s\n' vol-pool 'returns the storage pool for a given volume key or path'
    printf '%s\t%s\n' vol-rename 'rename a vol'
    printf '%s\t%s\n' vol-resize 'resize a vol'
    printf '%s\t%s\n' vol-upload 'upload file contents to a volume'
    printf '%s\t%s\n' vol-used-by 'list what uses a vol'
    printf '%s\t%s\n' vol-wipe 'wipe a vol'
end
function __storagectl_program_options
    printf '%s\n' -c:uri -d:text -e:text -h:flag -k:text -K:text -l:file -q:flag -r:flag -t:flag -v:flag -V:flag --connect:uri --debug:text --dry-run:flag --escape:text --help:flag --json:flag --keepalive-interval:text --keepalive-count:text --log:file --no-pkttyagent:flag --quiet:flag --readonly:flag --root:folder --timing:flag --verbose:flag --version:flag
end
function __storagectl_options --argument-names command
    switch $command
        case apply
            printf '%s\n' file:file+ diff:flag detailed-exitcode:flag build:flag overwrite:flag resize:flag prune:prune=+ keep-going:flag dry-run:flag json:flag verbose:flag
        case autostart
            printf '%s\n' timing:flag dry-run:flag json:flag verbose:flag
        case cd
            printf '%s\n' dir:folder json:flag verbose:flag
        case connect
            printf '%s\n' name:uri readonly:flag json:flag verbose:flag
        case doctor
            printf '%s\n' pool:pool-all json:flag verbose:flag
        case echo
            printf '%s\n' shell:flag xml:flag split:flag err:flag string:text+ json:flag verbose:flag
        case exit
            printf '%s\n' json:flag verbose:flag
        case find-storage-pool-sources
            printf '%s\n' type:source-type srcSpec:file json:flag verbose:flag
        case find-storage-pool-sources-as
            printf '%s\n' type:source-type host:text port:text initiator:text json:flag verbose:flag
        case help
            printf '%s\n' command:command json:flag verbose:flag
        case import
            printf '%s\n' folder:folder dry-run:flag json:flag verbose:flag
        case pool-autostart
            printf '%s\n' pool:pool-persistent disable:flag dry-run:flag json:flag verbose:flag
        case pool-build
            printf '%s\n' pool:pool-inactive no-overwrite:flag overwrite:flag if-inactive:flag dry-run:flag json:flag verbose:flag
        case pool-capabilities
            printf '%s\n' json:flag verbose:flag
        case pool-create
            printf '%s\n' file:file build:flag no-overwrite:flag overwrite:flag if-inactive:flag dry-run:flag json:flag verbose:flag
        case pool-create-as
            printf '%s\n' name:text type:pool-type print-xml:flag source-host:text source-path:text source-dev:device+ source-name:text target:folder source-format:pool-format auth-type:auth-type auth-username:text secret-usage:text secret-uuid:secret adapter-name:text adapter-wwnn:text adapter-wwpn:text adapter-parent:text adapter-parent-wwnn:text adapter-parent-wwpn:text adapter-parent-fabric-wwn:text source-protocol-ver:text source-initiator:text build:flag no-overwrite:flag overwrite:flag if-inactive:flag dry-run:flag json:flag verbose:flag
        case pool-define
            printf '%s\n' file:file validate:flag if-missing:flag dry-run:flag json:flag verbose:flag
        case pool-define-as
            printf '%s\n' name:text type:pool-type print-xml:flag source-host:text source-path:text source-dev:device+ source-name:text target:folder source-format:pool-format auth-type:auth-type auth-username:text secret-usage:text secret-uuid:secret adapter-name:text adapter-wwnn:text adapter-wwpn:text adapter-parent:text adapter-parent-wwnn:text adapter-parent-wwpn:text adapter-parent-fabric-wwn:text source-protocol-ver:text source-initiator:text if-missing:flag dry-run:flag json:flag verbose:flag
        case pool-delete
            printf '%s\n' pool:pool-inactive if-exists:flag dry-run:flag json:flag verbose:flag
        case pool-destroy
            printf '%s\n' pool:pool-active if-active:flag dry-run:flag json:flag verbose:flag
        case pool-dumpxml
            printf '%s\n' pool:pool-all inactive:flag xpath:text= wrap:flag json:flag verbose:flag
        case pool-edit
            printf '%s\n' pool:pool-all dry-run:flag json:flag verbose:flag
        case pool-event
            printf '%s\n' pool:pool-all event:event loop:flag timeout:text list:flag timestamp:flag json:flag verbose:flag
        case pool-exists
            printf '%s\n' pool:pool-all json:flag verbose:flag
        case pool-info
            printf '%s\n' pool:pool-all bytes:flag json:flag verbose:flag
        case pool-list
            printf '%s\n' inactive:flag all:flag transient:flag persistent:flag autostart:flag no-autostart:flag type:pool-type details:flag uuid:flag name:flag format:column-pool= no-header:flag sort:column-pool= filter:text=+ bytes:flag json:flag verbose:flag
        case pool-name
            printf '%s\n' pool:pool-uuid json:flag verbose:flag
        case pool-refresh
            printf '%s\n' pool:pool-active if-active:flag dry-run:flag json:flag verbose:flag
        case pool-start
            printf '%s\n' pool:pool-inactive build:flag no-overwrite:flag overwrite:flag if-inactive:flag dry-run:flag json:flag verbose:flag
        case pool-stop
            printf '%s\n' pool:pool-active if-active:flag dry-run:flag json:flag verbose:flag
        case pool-undefine
            printf '%s\n' pool:pool-inactive if-exists:flag forget:flag dry-run:flag json:flag verbose:flag
        case pool-uuid
            printf '%s\n' pool:pool-all json:flag verbose:flag
        case pool-used-by
            printf '%s\n' pool:pool-all json:flag verbose:flag
        case pwd
            printf '%s\n' json:flag verbose:flag
        case quit
            printf '%s\n' json:flag verbose:flag
        case secret-define
            printf '%s\n' file:file validate:flag dry-run:flag json:flag verbose:flag
        case secret-dumpxml
            printf '%s\n' secret:secret xpath:text= wrap:flag json:flag verbose:flag
        case secret-get-value
            printf '%s\n' secret:secret plain:flag json:flag verbose:flag
        case secret-list
            printf '%s\n' ephemeral:flag no-ephemeral:flag private:flag no-private:flag format:column-secret= no-header:flag sort:column-secret= filter:text=+ bytes:flag json:flag verbose:flag
        case secret-set-value
            printf '%s\n' secret:secret file:file= plain:flag interactive:flag base64:text dry-run:flag json:flag verbose:flag
        case secret-undefine
            printf '%s\n' secret:secret if-exists:flag dry-run:flag json:flag verbose:flag
        case status
            printf '%s\n' pool:pool-all+ volumes:flag watch:flag= json:flag verbose:flag
        case uri
            printf '%s\n' json:flag verbose:flag
        case vol-clone
            printf '%s\n' vol:volume-pool newname:text pool:pool-with prealloc-metadata:flag reflink:flag print-xml:flag progress:flag no-progress:flag verify:flag capacity:text= owner:user= group:group= mode:text= linked:flag keep-backing:flag allow-backing:flag if-missing:flag dry-run:flag json:flag verbose:flag
        case vol-create
            printf '%s\n' pool:pool-active file:file prealloc-metadata:flag validate:flag allow-backing:flag if-missing:flag dry-run:flag json:flag verbose:flag
        case vol-create-as
            printf '%s\n' pool:pool-active name:text capacity:text allocation:text format:format-pool backing-vol:volume-pool backing-vol-format:format-pool prealloc-metadata:flag print-xml:flag owner:user= group:group= mode:text= allow-backing:flag if-missing:flag dry-run:flag json:flag verbose:flag
        case vol-create-from
            printf '%s\n' pool:pool-active file:file vol:volume-inputpool inputpool:pool-active prealloc-metadata:flag reflink:flag validate:flag progress:flag no-progress:flag verify:flag capacity:text= owner:user= group:group= mode:text= keep-backing:flag allow-backing:flag if-missing:flag dry-run:flag json:flag verbose:flag
        case vol-delete
            printf '%s\n' vol:volume-pool pool:pool-with delete-snapshots:flag if-exists:flag dry-run:flag json:flag verbose:flag
        case vol-download
            printf '%s\n' vol:volume-pool file:file pool:pool-with offset:text length:text sparse:flag progress:flag no-progress:flag verify:flag dry-run:flag json:flag verbose:flag
        case vol-dumpxml
            printf '%s\n' vol:volume-pool pool:pool-with xpath:text= wrap:flag json:flag verbose:flag
        case vol-exists
            printf '%s\n' vol:volume-pool pool:pool-with json:flag verbose:flag
        case vol-info
            printf '%s\n' vol:volume-pool pool:pool-with bytes:flag physical:flag json:flag verbose:flag
        case vol-key
            printf '%s\n' vol:volume-pool pool:pool-with json:flag verbose:flag
        case vol-list
            printf '%s\n' pool:pool-active details:flag format:column-volume= no-header:flag sort:column-volume= filter:text=+ bytes:flag json:flag verbose:flag
        case vol-name
            printf '%s\n' vol:file json:flag verbose:flag
        case vol-path
            printf '%s\n' vol:volume-pool pool:pool-with json:flag verbose:flag
        case vol-pool
            printf '%s\n' vol:file uuid:flag json:flag verbose:flag
        case vol-rename
            printf '%s\n' vol:volume-pool newname:text pool:pool-with dry-run:flag json:flag verbose:flag
        case vol-resize
            printf '%s\n' vol:volume-pool capacity:text pool:pool-with allocate:flag delta:flag shrink:flag allow-backing:flag dry-run:flag json:flag verbose:flag
        case vol-upload
            printf '%s\n' vol:volume-pool file:file pool:pool-with offset:text length:text sparse:flag progress:flag no-progress:flag verify:flag dry-run:flag json:flag verbose:flag
        case vol-used-by
            printf '%s\n' vol:volume-pool pool:pool-with json:flag verbose:flag
        case vol-wipe
            printf '%s\n' vol:volume-pool pool:pool-with algorithm:wipe-algorithm progress:flag no-progress:flag dry-run:flag json:flag verbose:flag
    end
end
function __storagectl_words --argument-names kind
    switch $kind
        case auth-type
            printf '%s\n' chap
        case uri
            printf '%s\n' storage:///system storage:///session
        case command
            printf '%s\n' apply autostart cd connect doctor echo exit find-storage-pool-sources find-storage-pool-sources-as help import pool-autostart pool-build pool-capabilities pool-create pool-create-as pool-define pool-define-as pool-delete pool-destroy pool-dumpxml pool-edit pool-event pool-exists pool-info pool-list pool-name pool-refresh pool-start pool-stop pool-undefine pool-uuid pool-used-by pwd quit secret-define secret-dumpxml secret-get-value secret-list secret-set-value secret-undefine status uri vol-clone vol-create vol-create-as vol-create-from vol-delete vol-download vol-dumpxml vol-exists vol-info vol-key vol-list vol-name vol-path vol-pool vol-rename vol-resize vol-upload vol-used-by vol-wipe host secret pool volume storagectl
        case event
            printf '%s\n' lifecycle refresh volume all
        case pool-type
            printf '%s\n' dir fs netfs logical disk iscsi scsi mpath
        case source-type
            printf '%s\n' netfs logical iscsi
        case pool-format
            printf '%s\n' auto ext2 ext3 ext4 ufs iso9660 udf gfs gfs2 vfat hfs+ xfs ocfs2 vmfs btrfs nfs glusterfs cifs unknown lvm2 dos dvh gpt mac bsd pc98 sun
        case volume-format
            printf '%s\n' none raw dir bochs cloop dmg iso vpc vdi fat vhd ploop cow qcow qcow2 qed vmdk linux fat16 fat32 linux-swap linux-lvm linux-raid extended
        case wipe-algorithm
            printf '%s\n' zero nnsa dod bsi gutmann schneier pfitzner7 pfitzner33 random trim
        case prune
            printf '%s\n' pools volumes
        case column-pool
            printf '%s\n' name uuid type state active persistent autostart capacity allocation available target source-host source-path source-dev source-name source-format
        case column-volume
            printf '%s\n' name path key type pool format capacity allocation physical owner group mode modified backing backing-format encryption
        case column-secret
            printf '%s\n' uuid usage-type usage ephemeral private description
        case pool-format-fs
            printf '%s\n' auto ext2 ext3 ext4 ufs iso9660 udf gfs gfs2 vfat hfs+ xfs ocfs2 vmfs btrfs
        case pool-format-netfs
            printf '%s\n' auto nfs glusterfs cifs
        case pool-format-logical
            printf '%s\n' unknown lvm2
        case pool-format-disk
            printf '%s\n' unknown dos dvh gpt mac bsd pc98 sun lvm2
    end
end
# End of what completions/generate.py writes.

function __storagectl_kind_of --argument-names name # NAME NAME:KIND...: prints the kind
    for entry in $argv[2..]
        if test (string split --max 1 : -- $entry)[1] = $name
            string split --max 1 : -- $entry | tail -n 1
            return
        end
    end
    return 1
end

function __storagectl_ask # PROGRAM...: prints what storagectl knows of
    command $argv </dev/null 2>/dev/null
end

function __storagectl_next_positional # NAME:KIND... -- NAME...: prints what the next bare word is for
    set -l end (contains --index -- -- $argv)
    set -l given $argv[$end..]
    for entry in $argv[..$end]
        test $entry = --; and return
        set -l name (string split : -- $entry)[1]
        if not string match --quiet --regex -- '(:flag|=)$' $entry; and not contains -- $name $given
            echo $name
            return
        end
    end
end

function __storagectl_complete
    set -l tokens (commandline --current-process --tokenize --cut-at-cursor)
    set -l current (commandline --current-token --cut-at-cursor)
    set -l program $tokens[1]
    command --query -- $tokens[1]; or set program storagectl
    set -a program --complete
    set -l options (__storagectl_program_options)
    set -l dashes # program options are listed with their dashes
    set -l chosen
    set -l expected
    set -l only_data
    set -l names
    set -l values

    for token in $tokens[2..]
        if set -q expected[1]
            if test -z "$chosen"
                switch $expected
                    case --root --connect
                        set -a program $expected $token
                    case -c
                        set -a program --connect $token
                end
            end
            set -a names $expected
            set -a values $token
            set expected
        else if test "$token" = -- -a -z "$only_data"
            set only_data yes
        else if string match --quiet --regex -- '^--[^=]+=' $token; and test -z "$only_data"
            set -l parts (string split --max 1 = -- $token)
            if test -z "$chosen"; and contains -- $parts[1] --root --connect
                set -a program $parts[1] "$parts[2]"
            end
            set -a names (string replace --regex -- '^--' '' $parts[1])
            set -a values $parts[2]
        else if string match --quiet --regex -- '^-.' $token; and test -z "$only_data"
            set -l name $token
            test -n "$chosen"; and set name (string replace --regex -- '^--' '' $token)
            set -l kind (__storagectl_kind_of $name $options)
            if test "$kind" = flag -o -z "$kind"
                set -a names $name
                set -a values ''
            else
                set expected $name
            end
        else if test -z "$chosen"
            set chosen $token
            set options (__storagectl_options $chosen)
            set names
            set values
        else
            set -l name (__storagectl_next_positional $options -- $names)
            if test -n "$name"
                set -a names $name
                set -a values $token
            end
        end
    end

    set -l before ''
    set -l kind
    if set -q expected[1]
        set kind (__storagectl_kind_of $expected $options)
    else if string match --quiet --regex -- '^--[^=]+=' $current; and test -z "$only_data"
        set -l parts (string split --max 1 = -- $current)
        set before $parts[1]=
        set current $parts[2]
        set -l name $parts[1]
        test -n "$chosen"; and set name (string replace --regex -- '^--' '' $name)
        set kind (__storagectl_kind_of $name $options)
    else if string match --quiet -- '-*' $current; and test -z "$only_data"
        set kind options
    else if test -z "$chosen"
        __storagectl_commands
        return
    else
        set -l name (__storagectl_next_positional $options -- $names)
        test -n "$name"; and set kind (__storagectl_kind_of $name $options)
        if test -z "$current" -a -z "$only_data"
            test -z "$kind" -o "$kind" = text; and set kind options
        end
    end

    set kind (string replace --regex -- '[=+]$' '' "$kind")
    set -l found
    switch "$kind"
        case options
            if test -z "$chosen"
                set found (string replace --regex -- ':.*' '' $options)
            else
                for entry in $options help:flag
                    set -l name (string split : -- $entry)[1]
                    if string match --quiet -- '*+' $entry; or not contains -- $name $names
                        set -a found --$name
                    end
                end
            end
        case '' text
        case file
            set found (__fish_complete_path $current)
        case folder
            set found (__fish_complete_directories $current '')
        case 'volume-*'
            if string match --quiet -- '*/*' $current
                set found (__fish_complete_path $current)
            else
                set -l index (contains --index -- (string replace volume- '' $kind) $names)
                set found (__storagectl_ask $program volume $values[$index])
            end
        case 'format-*'
            set -l index (contains --index -- (string replace format- '' $kind) $names)
            if test -n "$index"
                set found (__storagectl_ask $program volume-format $values[$index])
            else
                set found (__storagectl_words volume-format)
            end
        case pool-with
            set -l index (contains --index -- vol $names)
            if test -n "$index"
                set found (__storagectl_ask $program pool-with $values[$index])
            else
                set found (__storagectl_ask $program pool-active)
            end
        case pool-format
            set -l index (contains --index -- type $names)
            if test -n "$index"
                set kind pool-format-$values[$index]
            end
            set found (__storagectl_words $kind)
        case device
            set found (__storagectl_ask $program device)
            if not string match --quiet -- "$current*" $found
                set found (__fish_complete_path $current)
            end
        case '*'
            set found (__storagectl_words $kind)
            if not set -q found[1]
                set found (__storagectl_ask $program $kind)
            end
    end
    test (count $found) -eq 0; or printf '%s\n' $before$found
end

complete --command storagectl --no-files --arguments '(__storagectl_complete)'
