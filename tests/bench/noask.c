/*
 * The program that answers without asking anybody: reads the request, writes 200. What remains is the price of a process
 * and of xinetd, which no check can go below.
 */
#define _GNU_SOURCE
#include <string.h>
#include <unistd.h>

int main(void)
{
	static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: 3\r\n\r\nup\n";
	static char request[8 * 1024];
	size_t have = 0;
	ssize_t count;

	while ((count = read(STDIN_FILENO, request + have, sizeof request - have)) > 0) {
		have += (size_t)count;
		if (memmem(request, have, "\r\n\r\n", 4))
			break;
	}
	_exit(write(STDOUT_FILENO, answer, sizeof answer - 1) < 0);
}
