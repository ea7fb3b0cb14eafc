#!/bin/bash
# What percona-clustercheck does, in our own words: ask for the state of the node, for read_only only where a node that is
# read-only shall not serve, answer line by line, and sleep so that the last line is out before the connection closes.
#
#     clustercheck_like.sh SOCKET ACCOUNT [AVAILABLE_WHEN_DONOR [AVAILABLE_WHEN_READONLY]]
socket=$1
account=$2
donor=${3:-0}
readonly_ok=${4:-1}

ask() {
	row=$(mariadb --no-defaults --connect-timeout=10 --socket="$socket" --user="$account" -Nse "$1" 2>/dev/null)
	value=${row##*$'\t'}
}

answer() {
	echo -en "HTTP/1.1 $1\r\n"
	echo -en "Content-Type: text/plain\r\n"
	echo -en "Connection: close\r\n"
	echo -en "Content-Length: $((${#2} + 2))\r\n"
	echo -en "\r\n"
	echo -en "$2\r\n"
	sleep 0.1
	exit "$3"
}

ask "SHOW STATUS LIKE 'wsrep_local_state'"
if [ "$value" = 4 ] || { [ "$value" = 2 ] && [ "$donor" = 1 ]; }; then
	if [ "$readonly_ok" = 0 ]; then
		ask "SHOW GLOBAL VARIABLES LIKE 'read_only'"
		[ "$value" = ON ] && answer "503 Service Unavailable" "the node is read-only" 1
	fi
	answer "200 OK" "the node is synced" 0
fi
answer "503 Service Unavailable" "the node is not synced" 1
