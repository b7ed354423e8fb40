#!/bin/bash
# Capacity of all pools, for the monitoring.
#
#   capacity-report.sh [-w PERCENT] [-c PERCENT]
#
# Exit status as Nagios wants it: 0 all is well, 1 a pool is above the warning, 2 above the limit
# or not running, 3 nothing is known.
set -euo pipefail
warn=80
limit=95
while getopts w:c: option; do
    case $option in
    w) warn=$OPTARG ;;
    c) limit=$OPTARG ;;
    *) exit 3 ;;
    esac
done

details=$(virsh pool-list --all --details) || exit 3
pools=$(awk 'NR > 2 && NF { print $1 }' <<<"$details")
[ -n "$pools" ] || {
    echo "UNKNOWN: no pools"
    exit 3
}

echo "== by pool-list"
# Name State Autostart Persistent Capacity Allocation Available; sizes are number and unit
awk '
    function bytes(number, unit) {
        factor["B"] = 1; factor["KiB"] = 1024; factor["MiB"] = 1024 ^ 2
        factor["GiB"] = 1024 ^ 3; factor["TiB"] = 1024 ^ 4
        return number * factor[unit]
    }
    NR > 2 && $2 == "running" {
        running++
        capacity += bytes($5, $6); allocation += bytes($7, $8); available += bytes($9, $10)
    }
    NR > 2 && NF && $2 != "running" { stopped = stopped " " $1 }
    END {
        printf "%d running, %.1f MiB, %.1f used, %.1f free\n",
            running, capacity / 1024 ^ 2, allocation / 1024 ^ 2, available / 1024 ^ 2
        if (stopped) printf "not running:%s\n", stopped
    }' <<<"$details"

echo "== by pool-info"
status=0
printf '%-12s %8s %14s %14s %5s %s\n' pool state bytes used % autostart
for pool in $pools; do
    info=$(virsh pool-info --bytes "$pool")
    line=$(awk -F ': *' -v pool="$pool" '
        { value[$1] = $2 }
        END {
            percent = value["Capacity"] ? int(100 * value["Allocation"] / value["Capacity"]) : 0
            printf "%-12s %8s %14s %14s %5d %s\n", pool, value["State"], value["Capacity"],
                value["Allocation"], percent, value["Autostart"]
        }' <<<"$info")
    echo "$line"
    percent=$(awk '{ print $(NF - 1) }' <<<"$line")
    if ! grep -q '^State: *running$' <<<"$info" || [ "$percent" -ge "$limit" ]; then
        status=2
    elif [ "$percent" -ge "$warn" ] && [ $status -lt 1 ]; then
        status=1
    fi
done

echo "== the largest volumes"
for pool in $(virsh pool-list --name); do
    virsh vol-list "$pool" | awk -v pool="$pool" 'NR > 2 && NF { print pool, $1 }'
done | while read -r pool volume; do
    virsh vol-info --bytes "$volume" --pool "$pool" </dev/null | awk -v name="$pool/$volume" '
        /^Capacity:/ { capacity = $2 }
        /^Allocation:/ { printf "%14d %14d %s\n", $2, capacity, name }'
done | sort -k1,1nr -k3 | sed 5q

echo "== by type"
for type in dir fs disk; do
    names=$(virsh pool-list --all --type $type --name | xargs)
    echo "$type: ${names:-none}"
done
for pool in $(virsh pool-list --all --name --no-autostart); do
    echo "not started at boot: $pool ($(virsh pool-uuid "$pool" | head -n 1))"
done
exit $status
