/*
 * The floor of a check: what a hand-written static C program needs to read the request, log in over the Unix socket, run
 * one statement and answer. No library of the server, no allocation, no formatted output, three waits for the server.
 *
 *     floor SOCKET ACCOUNT STATEMENT...
 *
 * The account has no password (`unix_socket`, `auth_socket`). The words of the statement are joined by blanks: xinetd
 * splits `server_args` there and knows no quotes. The body of the answer is the last value of the first row.
 *
 * Written from the protocol's documentation: "Client/Server Protocol" in MariaDB's knowledge base, "Connection Phase" and
 * "Text Protocol" in MySQL's source code documentation.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	CLIENT_LONG_PASSWORD = 0x1,
	CLIENT_PROTOCOL_41 = 0x200,
	CLIENT_SECURE_CONNECTION = 0x8000,
	CLIENT_MULTI_STATEMENTS = 0x10000,
	CLIENT_MULTI_RESULTS = 0x20000,
	CLIENT_PLUGIN_AUTH = 0x80000,
	UTF8MB4_GENERAL_CI = 45,
	SERVER_MORE_RESULTS_EXISTS = 0x8,
	COM_QUIT = 1,
	COM_QUERY = 3,
	NULL_VALUE = 0xfb,
	LENGTH_2 = 0xfc,
	LENGTH_3 = 0xfd,
	END = 0xfe,
	ERROR = 0xff,
	HEAD = 4,
};

static unsigned char in[64 * 1024], out[16 * 1024];
/* What of `in` is filled and read. */
static size_t filled, done;
static int server;

/* Ends the program with an answer, in one write. */
static void answer(const char *status, const char *body, size_t length, int code)
{
	static char text[1024];
	const char *head = "\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: ";
	char digits[8], *digit = digits + sizeof digits;
	size_t rest = length + 1;
	char *to;

	if (length > 512)
		length = 512, rest = 513;
	do
		*--digit = (char)('0' + rest % 10);
	while (rest /= 10);
	to = stpcpy(stpcpy(text, status), head);
	to = mempcpy(to, digit, (size_t)(digits + sizeof digits - digit));
	to = mempcpy(stpcpy(to, "\r\n\r\n"), body, length);
	*to++ = '\n';
	if (write(STDOUT_FILENO, text, (size_t)(to - text)) < 0)
		code = 1;
	if (server > 0) {
		static const unsigned char quit[] = { 1, 0, 0, 0, COM_QUIT };
		if (write(server, quit, sizeof quit) < 0)
			code = 1;
	}
	_exit(code);
}

static void fail(const char *why)
{
	answer("HTTP/1.1 503 Service Unavailable", why, strlen(why), 1);
}

static void read_request(void)
{
	size_t have = 0;
	ssize_t count;

	while ((count = read(STDIN_FILENO, in + have, sizeof in - have)) > 0) {
		have += (size_t)count;
		if (memmem(in, have, "\r\n\r\n", 4))
			return;
	}
}

/* The next packet's payload; the server is asked to send more only when the buffer holds no whole packet. */
static unsigned char *packet(size_t *length)
{
	for (;;) {
		unsigned char *at = in + done;
		ssize_t count;

		if (filled - done >= HEAD) {
			*length = at[0] | (size_t)at[1] << 8 | (size_t)at[2] << 16;
			if (filled - done >= HEAD + *length) {
				done += HEAD + *length;
				return at + HEAD;
			}
		}
		count = read(server, in + filled, sizeof in - filled);
		if (count <= 0)
			fail("the server went away, or sent too much");
		filled += (size_t)count;
	}
}

/* The end of a phase: the next packet may overwrite what was read. */
static void forget(void)
{
	filled = done = 0;
}

static void send_packet(size_t length, int sequence)
{
	out[0] = (unsigned char)length;
	out[1] = (unsigned char)(length >> 8);
	out[2] = (unsigned char)(length >> 16);
	out[3] = (unsigned char)sequence;
	if (write(server, out, HEAD + length) != (ssize_t)(HEAD + length))
		fail("the server does not listen");
}

static void log_in(const char *path, const char *account)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	unsigned capabilities = CLIENT_LONG_PASSWORD | CLIENT_PROTOCOL_41 | CLIENT_SECURE_CONNECTION |
				CLIENT_MULTI_STATEMENTS | CLIENT_MULTI_RESULTS | CLIENT_PLUGIN_AUTH;
	unsigned char *said, *to = out + HEAD;
	size_t length;

	if (strlen(path) >= sizeof address.sun_path || strlen(account) > 128)
		fail("the arguments are too long");
	strcpy(address.sun_path, path);
	server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(server, (struct sockaddr *)&address, sizeof address) != 0)
		fail("cannot connect");

	said = packet(&length);
	if (said[0] != 10)
		fail("no greeting");
	forget();

	/* Little-endian, as the protocol. Then the largest packet, the collation and 23 zeros. */
	to = mempcpy(to, &capabilities, 4);
	to = mempcpy(to, "\0\0\0\1", 4);
	*to++ = UTF8MB4_GENERAL_CI;
	to = (unsigned char *)memset(to, 0, 23) + 23;
	to = (unsigned char *)stpcpy((char *)to, account) + 1;
	*to++ = 0;
	to = (unsigned char *)stpcpy((char *)to, "mysql_native_password") + 1;
	send_packet((size_t)(to - out) - HEAD, 1);

	said = packet(&length);
	if (said[0] == END) {
		/* Another plugin than the one we named: those for accounts without a password want nothing of us. */
		forget();
		send_packet(0, 3);
		said = packet(&length);
	}
	if (said[0] != 0)
		fail("no login");
	forget();
}

/* The bytes of the value at `*at`, which moves behind it. */
static const unsigned char *value(const unsigned char **at, size_t *length)
{
	const unsigned char *from = *at;

	switch (from[0]) {
	case NULL_VALUE:
		*length = 0;
		from += 1;
		break;
	case LENGTH_2:
		*length = from[1] | (size_t)from[2] << 8;
		from += 3;
		break;
	case LENGTH_3:
		*length = from[1] | (size_t)from[2] << 8 | (size_t)from[3] << 16;
		from += 4;
		break;
	default:
		*length = from[0];
		from += 1;
	}
	*at = from + *length;
	return from;
}

static int is_end(const unsigned char *said, size_t length)
{
	return said[0] == END && length < 9;
}

int main(int argc, char **argv)
{
	const unsigned char *last = (const unsigned char *)"no row";
	size_t length, last_length = 6;
	unsigned char *said, *to = out + HEAD;
	int rows = 0;

	if (argc < 4)
		fail("usage: floor SOCKET ACCOUNT STATEMENT...");
	read_request();
	log_in(argv[1], argv[2]);

	*to++ = COM_QUERY;
	for (int word = 3; word < argc; word++) {
		if (strlen(argv[word]) + 1 > (size_t)(out + sizeof out - to))
			fail("the statement is too long");
		to = (unsigned char *)stpcpy((char *)to, argv[word]);
		if (word + 1 < argc)
			*to++ = ' ';
	}
	send_packet((size_t)(to - out) - HEAD, 0);

	/* For each statement: the number of columns, their definitions, an end; rows, an end with the status of the server. */
	do {
		rows = 0;
		said = packet(&length);
		if (said[0] == ERROR || said[0] == 0)
			fail("the statement has no answer");
		while (said = packet(&length), !is_end(said, length))
			;
		while (said = packet(&length), !is_end(said, length)) {
			const unsigned char *at = said;

			if (said[0] == ERROR)
				fail("the answer ends in an error");
			if (rows++ == 0)
				while (at < said + length)
					last = value(&at, &last_length);
		}
	} while (said[3] & SERVER_MORE_RESULTS_EXISTS);
	answer("HTTP/1.1 200 OK", (const char *)last, last_length, 0);
}
