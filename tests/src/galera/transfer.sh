#!/bin/sh
# State transfer between nodes on one machine: the donor copies its files into the joiner's directory.
# It speaks the protocol of the server's own scripts (MariaDB manual, "Introduction to State Snapshot Transfers"),
# takes no time of its own, and waits while ../tmp/hold-open (tables still open) or ../tmp/hold-locked exists.
set -eu

role='' address='' data='' gtid='' domain='' parent='' bypass=''
while [ $# -gt 0 ]; do
    case $1 in
        --role) role=$2; shift ;;
        --address) address=$2; shift ;;
        --datadir) data=${2%/}; shift ;;
        --gtid) gtid=$2; shift ;;
        --gtid-domain-id) domain=$2; shift ;;
        --parent) parent=$2; shift ;;
        --bypass) bypass=yes ;;
        --mysqld-args) break ;;
    esac
    shift
done
parent=${parent:-$PPID}

# Waits while a condition holds; ends with the server, or when its directory is gone.
wait_while() {
    while "$@"; do
        kill -0 "$parent" 2>/dev/null && [ -d "$data" ] || exit 32
        sleep 0.02
    done
}
missing() { ! [ -s "$1" ]; }

case $role in
    joiner)
        rm -f "$data/transferred"
        echo "ready ${address%%:*}:4444/$data"
        wait_while missing "$data/transferred"
        cat "$data/transferred"
        ;;
    donor)
        target=${address#*/}
        if [ "$bypass" ]; then
            state="$gtid $domain"
        else
            wait_while test -e "$data/../tmp/hold-open"
            rm -f "$data/tables_flushed"
            echo 'flush tables'
            wait_while missing "$data/tables_flushed"
            state=$(cat "$data/tables_flushed")
            rm -f "$data/tables_flushed"
            : >"$data/../tmp/locked"
            wait_while test -e "$data/../tmp/hold-locked"
            rm -f "$data/../tmp/locked"
            for file in "$data"/*; do
                case ${file##*/} in
                    galera.* | grastate.dat | gvwstate.dat | transferred) ;;
                    *) rm -rf "${target:?}/${file##*/}" && cp -a "$file" "$target/" ;;
                esac
            done
        fi
        echo continue
        echo "$state" >"$target/transferred.new"
        mv "$target/transferred.new" "$target/transferred"
        echo "done $state"
        ;;
esac
