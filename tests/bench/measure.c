/*
 * Runs programs in turn and says what each run cost. In C because what it needs is unsafe in Rust.
 *
 *     measure alone REQUEST ROUNDS       -- N PROGRAM ARGUMENT... [-- N PROGRAM ARGUMENT...]...
 *     measure peak REQUEST ROUNDS        -- N PROGRAM ARGUMENT... [-- ...]
 *     measure server REQUEST ROUNDS PID  -- N PROGRAM ARGUMENT... [-- ...]
 *
 * `alone` runs each program once a round, or every N-th round, and prints a line for each run:
 *     ROUND PROGRAM STATUS WALL_ns CPU_us MINOR_FAULTS
 * `peak` does the same, started in another way, and prints the largest memory of any of its processes:
 *     ROUND PROGRAM STATUS PEAK_kB
 * `server` runs each program N times in a row and prints what the process PID used of the processor for them:
 *     ROUND PROGRAM STATUS CPU_ns
 *
 * Programs are named by their place on the command line. Their order is another one in each round, so that none always
 * follows the same one and inherits its caches. Standard input is the file REQUEST, both outputs are /dev/null. Round 0 is
 * a warm-up, and is not printed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PROGRAMS = 64 };

extern char **environ;

static struct {
	long n;
	char **argv;
} programs[PROGRAMS];
static int count;
static posix_spawn_file_actions_t descriptors;
static const char *request;

static void die(const char *what)
{
	dprintf(STDERR_FILENO, "measure: %s: %s\n", what, strerror(errno));
	exit(1);
}

static long long nanoseconds(clockid_t clock)
{
	struct timespec time;

	if (clock_gettime(clock, &time) != 0)
		die("clock_gettime");
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static long long microseconds(struct timeval time)
{
	return time.tv_sec * 1000000LL + time.tv_usec;
}

/* Waits for its end: its status, and what it and those it waited for used. */
static int end_of(pid_t child, struct rusage *used)
{
	int status;

	while (wait4(child, &status, 0, used) < 0)
		if (errno != EINTR)
			die("wait4");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Starts a program in the fastest way there is, which is what a super-server should do. */
static pid_t start(char **argv)
{
	pid_t child;

	errno = posix_spawn(&child, argv[0], &descriptors, NULL, argv, environ);
	if (errno != 0)
		die(argv[0]);
	return child;
}

/*
 * Starts a program with a fork. Until its exec a child has the memory of its parent, and its peak is counted from there:
 * all of the parent's after posix_spawn, next to nothing after a fork.
 */
static pid_t start_forked(char **argv)
{
	pid_t child = fork();

	if (child < 0)
		die("fork");
	if (child == 0) {
		int in = open(request, O_RDONLY), out = open("/dev/null", O_WRONLY);

		dup2(in, STDIN_FILENO);
		dup2(out, STDOUT_FILENO);
		dup2(out, STDERR_FILENO);
		execv(argv[0], argv);
		_exit(127);
	}
	return child;
}

static void measure_alone(long round, int which)
{
	long long begin = nanoseconds(CLOCK_MONOTONIC), end;
	struct rusage used;
	int status = end_of(start(programs[which].argv), &used);

	end = nanoseconds(CLOCK_MONOTONIC);
	if (round > 0)
		printf("%ld %d %d %lld %lld %ld\n", round, which, status, end - begin,
		       microseconds(used.ru_utime) + microseconds(used.ru_stime), used.ru_minflt);
}

static void measure_peak(long round, int which)
{
	struct rusage used;
	int status = end_of(start_forked(programs[which].argv), &used);

	if (round > 0)
		printf("%ld %d %d %ld\n", round, which, status, used.ru_maxrss);
}

/* The processor time of the server, once it does nothing any more: it says goodbye after the client is gone. */
static long long settled(clockid_t server)
{
	static const struct timespec pause = { .tv_nsec = 5000000 };
	long long before, now = nanoseconds(server);

	do {
		before = now;
		nanosleep(&pause, NULL);
		now = nanoseconds(server);
	} while (now - before > 50000);
	return now;
}

static void measure_server(long round, int which, clockid_t server)
{
	struct rusage used;
	long long begin = settled(server);
	int status = 0;

	for (long i = 0; i < programs[which].n; i++)
		status = end_of(start(programs[which].argv), &used);
	if (round > 0)
		printf("%ld %d %d %lld\n", round, which, status, settled(server) - begin);
}

/* Another order of 0 .. count-1: Fisher and Yates, with a generator that needs no seed from outside. */
static void shuffle(int *order)
{
	static unsigned long long state = 1;

	for (int i = count - 1; i > 0; i--) {
		int other, kept = order[i];

		state = state * 6364136223846793005ULL + 1442695040888963407ULL;
		other = (int)((state >> 33) % (unsigned)(i + 1));
		order[i] = order[other];
		order[other] = kept;
	}
}

int main(int argc, char **argv)
{
	int order[PROGRAMS], at = 1;
	clockid_t server = 0;
	const char *mode;
	long rounds;

	if (argc < 5) {
		dprintf(STDERR_FILENO, "usage: see the head of measure.c\n");
		return 2;
	}
	mode = argv[at++];
	request = argv[at++];
	rounds = atol(argv[at++]);
	if (strcmp(mode, "server") == 0 && (errno = clock_getcpuclockid(atoi(argv[at++]), &server)) != 0)
		die("clock_getcpuclockid");
	while (at + 2 < argc && count < PROGRAMS) {
		argv[at++] = NULL;
		programs[count].n = atol(argv[at++]);
		programs[count].argv = argv + at;
		order[count] = count;
		count++;
		while (at < argc && strcmp(argv[at], "--") != 0)
			at++;
	}
	if (posix_spawn_file_actions_init(&descriptors) != 0 ||
	    posix_spawn_file_actions_addopen(&descriptors, STDIN_FILENO, request, O_RDONLY, 0) != 0 ||
	    posix_spawn_file_actions_addopen(&descriptors, STDOUT_FILENO, "/dev/null", O_WRONLY, 0) != 0 ||
	    posix_spawn_file_actions_adddup2(&descriptors, STDOUT_FILENO, STDERR_FILENO) != 0)
		die("posix_spawn_file_actions");

	for (long round = 0; round <= rounds; round++) {
		shuffle(order);
		for (int i = 0; i < count; i++) {
			int which = order[i];

			if (server != 0)
				measure_server(round, which, server);
			else if (round % programs[which].n != 0)
				continue;
			else if (strcmp(mode, "peak") == 0)
				measure_peak(round, which);
			else
				measure_alone(round, which);
		}
	}
	return fflush(stdout) == 0 ? 0 : 1;
}
