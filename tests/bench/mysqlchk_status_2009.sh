#!/bin/bash
# What the checks of 2009 did, in our own words: list the databases into a file, call any output healthy, answer with one
# program a line. They asked without reading the request, gave no length, and exited 0 whatever they found.
#
#     mysqlchk_status_2009.sh SOCKET ACCOUNT FILE
mariadb --no-defaults --socket="$1" --user="$2" -e 'show databases;' >"$3.out" 2>"$3.err"
if [ "$(/bin/cat "$3.out")" != "" ]; then
	/bin/echo -e "HTTP/1.1 200 OK\r"
	/bin/echo -e "Content-Type: text/plain\r"
	/bin/echo -e "\r"
	/bin/echo -e "the server runs\r"
else
	/bin/echo -e "HTTP/1.1 503 Service Unavailable\r"
	/bin/echo -e "Content-Type: text/plain\r"
	/bin/echo -e "\r"
	/bin/echo -e "the server does not run\r"
fi
