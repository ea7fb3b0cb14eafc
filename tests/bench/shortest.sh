#!/bin/sh
# The shortest shell check there can be: one call of the client, one answer. It does not read the request.
#
#     shortest.sh SOCKET ACCOUNT
if test "$(mariadb --no-defaults -S "$1" -u "$2" -Nse 'SELECT 1')" = 1; then
	printf 'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: 3\r\n\r\nup\n'
else
	printf 'HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: 5\r\n\r\ndown\n'
	exit 1
fi
