/*
 * The same as noask.c without a C library: what the kernel alone needs to make and remove a process. The difference is the
 * library's start, most of it the instruction CPUID, which on a virtual machine is a call of the hypervisor.
 *
 * Built with -nostdlib.
 */
#if defined __x86_64__
enum { READ = 0, WRITE = 1, EXIT = 231 };

static long call(long number, long first, const void *second, unsigned long third)
{
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(first), "S"(second), "d"(third)
			 : "rcx", "r11", "memory");
	return result;
}
#elif defined __aarch64__
enum { READ = 63, WRITE = 64, EXIT = 94 };

static long call(long number, long first, const void *second, unsigned long third)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = first;
	register const void *x1 __asm__("x1") = second;
	register unsigned long x2 __asm__("x2") = third;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
	return x0;
}
#else
#error "no system calls for this processor: add them here"
#endif

static char request[8 * 1024];

static int ends(long have)
{
	for (long at = 0; at + 4 <= have; at++)
		if (request[at] == '\r' && request[at + 1] == '\n' && request[at + 2] == '\r' && request[at + 3] == '\n')
			return 1;
	return 0;
}

void _start(void)
{
	static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: 3\r\n\r\nup\n";
	long have = 0, count;

	while ((count = call(READ, 0, request + have, sizeof request - (unsigned long)have)) > 0) {
		have += count;
		if (ends(have))
			break;
	}
	count = call(WRITE, 1, answer, sizeof answer - 1);
	call(EXIT, count < 0, 0, 0);
	for (;;)
		;
}
