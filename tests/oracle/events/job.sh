#!/bin/bash
# What pool-event hears while others work.
# shellcheck source=tests/oracle/record.sh
. "$(dirname "$0")/record.sh"
# shellcheck disable=SC2086  # V is words
quietly() { $V "$@" >/dev/null 2>&1; }
again_and_again() { # COMMAND...: until `heard`
    while [ ! -e "$W/heard" ]; do
        quietly "$@"
        sleep 0.2
    done &
}
heard() {
    touch "$W/heard"
    wait
    rm "$W/heard"
}

t pool-event --list
t pool-event --list --event nosuch --pool nosuch --loop --timestamp --timeout 1
t pool-event
t pool-event lifecycle
t pool-event --event nosuch
t pool-event --loop --timestamp
t pool-event --event lifecycle --timeout 0
t pool-event --event lifecycle --timeout -1
t pool-event --event lifecycle --timeout x
t pool-event --event lifecycle --timeout 2147484
t pool-event --event lifecycle --timeout 1
t pool-event --event refresh --timeout 1 --loop --timestamp
t -q pool-event --event refresh --timeout 1
t pool-event --pool nosuch
t pool-event --pool nosuch --event nosuch

quietly pool-create-as orc-e dir --target "$W"
quietly pool-create-as orc-other dir --target "$X"
again_and_again pool-refresh orc-e
t pool-event --event refresh
t pool-event --event refresh --timeout 50
t pool-event --event refresh --timestamp
t pool-event --event refresh --pool orc-e
t pool-event orc-e refresh
t -q pool-event orc-e refresh
t pool-event --event refresh --pool orc-other --timeout 1
t pool-event --event lifecycle --timeout 1
heard
quietly pool-destroy orc-e
quietly pool-destroy orc-other

life() { # what a pool can live through
    sleep 3
    quietly pool-define-as orc-e dir --target "$W/e"
    quietly pool-build orc-e
    quietly pool-start orc-e --build
    quietly pool-refresh orc-e
    quietly vol-create-as orc-e v 4096
    quietly vol-upload v "$HERE/record.sh" orc-e
    settle
    quietly pool-autostart orc-e
    quietly vol-delete v orc-e
    quietly pool-destroy orc-e
    quietly pool-start nosuch
    quietly pool-delete orc-e
    quietly pool-undefine orc-e
    quietly pool-create-as orc-t dir --target "$W/t" --build
    quietly pool-destroy orc-t
}
life &
t pool-event --event lifecycle --loop --timeout 15
wait
life &
t pool-event --event refresh --loop --timeout 15
wait
exit 0
