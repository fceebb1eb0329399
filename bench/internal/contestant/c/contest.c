/*
 * A contestant in C. It does with each packet what the contestants in Go do.
 *
 *	contest LOOP INTERFACE MEMORY TIMEOUT-MS IMMEDIATE WORK-NS DELAYS [CODE JT JF K]...
 *
 * LOOP is pcap_loop, pcap_next_ex or bare. The last arguments are the filter. Commands come on
 * standard input, one a line, and one line of JSON answers each:
 *
 *	run MS		capture for that time
 *	touch SIZE	the cost of touching a packet of that size
 *	mark		nothing
 */
#include <sys/types.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <net/bpf.h>
#include <net/if.h>

#include <machine/atomic.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <pcap/pcap.h>

#define STAMP_AT 24 /* load.StampAt */

struct config {
	const char *loop, *ifname;
	int memory, timeout;
	bool immediate;
	int64_t work;
	size_t delays;
	struct bpf_program filter;
};

/* The same as contestant.Tally. */
static struct {
	uint64_t packets, bytes, sum;
	long work;
	int64_t *delays;
	size_t ndelays, most;
	bool slow;
} tally;

static volatile sig_atomic_t stopped;
static pcap_t *handle; /* NULL in the bare loop */

static int64_t
now(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ((int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec);
}

/*
 * contestant.touch. The compiler may not unroll the loop, nor take more than a word at a time: Go's
 * does not.
 */
static inline uint64_t
touch(const u_char *p, size_t n)
{
	uint64_t sum = 0;

	if (n < 8)
		return (0);
#pragma clang loop unroll(disable) vectorize(disable)
	for (size_t i = 0; i <= n - 8; i += 64)
		sum += *(const uint64_t *)(p + i);
	return (sum);
}

/* contestant.Spin */
static __attribute__((noinline)) uint64_t
spin(long n)
{
	uint64_t x = (uint64_t)n | 1;

	/* Without this the compiler calls spin once for all calls with the same n. */
	__asm__ volatile("" : "+r"(x));
	for (long i = 0; i < n; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
	}
	return (x);
}

static __attribute__((noinline)) void
slowly(const u_char *p, size_t n)
{
	int64_t sent;

	tally.packets++;
	tally.bytes += n;
	tally.sum += touch(p, n);
	if (tally.ndelays < tally.most && n >= STAMP_AT + 8) {
		memcpy(&sent, p + STAMP_AT, sizeof(sent));
		tally.delays[tally.ndelays++] = now(CLOCK_MONOTONIC) - sent;
	}
	if (tally.work > 0)
		tally.sum += spin(tally.work);
}

static __attribute__((noinline)) void
packet(const u_char *p, size_t n)
{
	if (tally.slow) {
		slowly(p, n);
		return;
	}
	tally.packets++;
	tally.bytes += n;
	tally.sum += touch(p, n);
}

static void
callback(u_char *user, const struct pcap_pkthdr *h, const u_char *p)
{
	(void)user;
	packet(p, h->caplen);
}

static void
alarmed(int sig)
{
	(void)sig;
	stopped = 1;
	if (handle != NULL)
		pcap_breakloop(handle);
}

/* The bare loop: the protocol of the lent buffers and nothing else, as the bare loop in Go. */
static struct {
	int fd, next;
	u_char *mem[2];
	int timeout;
} bare;

static void
bare_open(const struct config *c)
{
	struct bpf_zbuf z;
	struct ifreq ifr;
	struct bpf_program filter = c->filter;
	u_int mode = BPF_BUFMODE_ZBUF, one = 1;
	size_t size = (c->memory / 2) & ~(getpagesize() - 1);

	bare.timeout = c->timeout;
	if ((bare.fd = open("/dev/bpf", O_RDWR | O_CLOEXEC)) < 0)
		err(1, "/dev/bpf");
	if (ioctl(bare.fd, BIOCSETBUFMODE, &mode) < 0)
		err(1, "BIOCSETBUFMODE");
	for (int i = 0; i < 2; i++)
		if ((bare.mem[i] = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_ANON | MAP_SHARED, -1,
		    0)) == MAP_FAILED)
			err(1, "mmap");
	z = (struct bpf_zbuf){bare.mem[0], bare.mem[1], size};
	if (ioctl(bare.fd, BIOCSETZBUF, &z) < 0)
		err(1, "BIOCSETZBUF");
	if (ioctl(bare.fd, BIOCSETF, &filter) < 0)
		err(1, "BIOCSETF");
	if (c->immediate) {
		if (ioctl(bare.fd, BIOCIMMEDIATE, &one) < 0)
			err(1, "BIOCIMMEDIATE");
	} else {
		struct timeval tv = {c->timeout / 1000, c->timeout % 1000 * 1000};
		if (ioctl(bare.fd, BIOCSRTIMEOUT, &tv) < 0)
			err(1, "BIOCSRTIMEOUT");
	}
	memset(&ifr, 0, sizeof(ifr));
	strlcpy(ifr.ifr_name, c->ifname, sizeof(ifr.ifr_name));
	if (ioctl(bare.fd, BIOCSETIF, &ifr) < 0)
		err(1, "BIOCSETIF");
}

static void
bare_run(void)
{
	struct pollfd pfd = {.fd = bare.fd, .events = POLLIN};

	while (!stopped) {
		struct bpf_zbuf_header *h = (struct bpf_zbuf_header *)bare.mem[bare.next];
		u_int gen = atomic_load_acq_int(&h->bzh_kernel_gen);
		struct bpf_zbuf z;

		if (gen != h->bzh_user_gen) {
			u_char *p = (u_char *)(h + 1), *end = p + h->bzh_kernel_len;
			while (p < end) {
				struct bpf_hdr *r = (struct bpf_hdr *)p;
				packet(p + r->bh_hdrlen, r->bh_caplen);
				p += BPF_WORDALIGN(r->bh_hdrlen + r->bh_caplen);
			}
			atomic_store_rel_int(&h->bzh_user_gen, gen);
			bare.next ^= 1;
			continue;
		}
		if (poll(&pfd, 1, bare.timeout) < 0 && errno != EINTR)
			err(1, "poll");
		if (atomic_load_acq_int(&h->bzh_kernel_gen) != h->bzh_user_gen)
			continue;
		if (ioctl(bare.fd, BIOCROTZBUF, &z) < 0)
			err(1, "BIOCROTZBUF");
	}
}

static void
pcap_fail(int status, const char *what)
{
	errx(1, "%s: %s: %s", what, pcap_statustostr(status), pcap_geterr(handle));
}

/* pcap_use opens libpcap's handle, and returns whether it has lent buffers. */
static bool
pcap_use(const struct config *c, int pieces)
{
	char text[PCAP_ERRBUF_SIZE];
	struct bpf_program filter = c->filter;
	u_int mode = 0;
	int status;

	if ((handle = pcap_create(c->ifname, text)) == NULL)
		errx(1, "pcap_create: %s", text);
	pcap_set_snaplen(handle, 262144);
	pcap_set_timeout(handle, c->timeout);
	pcap_set_immediate_mode(handle, c->immediate);
	pcap_set_buffer_size(handle, c->memory / pieces);
	if ((status = pcap_activate(handle)) < 0)
		pcap_fail(status, "pcap_activate");
	if ((status = pcap_setfilter(handle, &filter)) < 0)
		pcap_fail(status, "pcap_setfilter");
	if (ioctl(pcap_fileno(handle), BIOCGETBUFMODE, &mode) < 0)
		err(1, "BIOCGETBUFMODE");
	return (mode == BPF_BUFMODE_ZBUF);
}

static void
loop_run(void)
{
	int status;

	while (!stopped)
		if ((status = pcap_loop(handle, -1, callback, NULL)) < 0 && status != PCAP_ERROR_BREAK)
			pcap_fail(status, "pcap_loop");
}

static void
next_run(void)
{
	while (!stopped) {
		struct pcap_pkthdr *h;
		const u_char *p;
		int status = pcap_next_ex(handle, &h, &p);

		if (status == 1)
			packet(p, h->caplen);
		else if (status < 0 && status != PCAP_ERROR_BREAK)
			pcap_fail(status, "pcap_next_ex");
	}
}

static int
earlier(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x < y ? -1 : x > y);
}

static int64_t
nanoseconds(struct timeval to, struct timeval from)
{
	timersub(&to, &from, &to);
	return ((int64_t)to.tv_sec * 1000000000 + (int64_t)to.tv_usec * 1000);
}

/* The names in the answer are those of trial.Result. */
static void
run(void (*loop)(void), int ms)
{
	struct itimerval after = {.it_value = {ms / 1000, ms % 1000 * 1000}};
	struct rusage was, is;
	uint64_t packets = tally.packets, bytes = tally.bytes;
	int64_t begin, took, spent;
	size_t n;

	tally.ndelays = 0;
	stopped = 0;
	getrusage(RUSAGE_SELF, &was);
	spent = now(CLOCK_PROCESS_CPUTIME_ID);
	begin = now(CLOCK_MONOTONIC);
	setitimer(ITIMER_REAL, &after, NULL);
	loop();
	took = now(CLOCK_MONOTONIC) - begin;
	spent = now(CLOCK_PROCESS_CPUTIME_ID) - spent;
	getrusage(RUSAGE_SELF, &is);
	n = tally.ndelays;
	if (n > 0)
		qsort(tally.delays, n, sizeof(*tally.delays), earlier);
	printf("{\"Elapsed\":%" PRId64 ",\"Packets\":%" PRIu64 ",\"Bytes\":%" PRIu64
	    ",\"CPU\":%" PRId64 ",\"User\":%" PRId64 ",\"System\":%" PRId64
	    ",\"Voluntary\":%ld,\"Involuntary\":%ld"
	    ",\"RSS\":%ld,\"Delays\":%zu,\"P50\":%" PRId64 ",\"P99\":%" PRId64 ",\"Max\":%" PRId64 "}\n",
	    took, tally.packets - packets, tally.bytes - bytes,
	    spent, nanoseconds(is.ru_utime, was.ru_utime), nanoseconds(is.ru_stime, was.ru_stime),
	    is.ru_nvcsw - was.ru_nvcsw, is.ru_nivcsw - was.ru_nivcsw, is.ru_maxrss * 1024, n,
	    n ? tally.delays[n / 2] : 0, n ? tally.delays[n * 99 / 100] : 0,
	    n ? tally.delays[n - 1] : 0);
}

/* contestant.TouchCost */
static void
touch_cost(size_t size)
{
	const int turns = 20000;
	u_char *p = malloc(size);
	uint64_t was = tally.sum, packets = tally.packets, bytes = tally.bytes;
	int64_t begin, took;

	for (size_t i = 0; i < size; i++)
		p[i] = (u_char)i;
	begin = now(CLOCK_MONOTONIC);
	for (int i = 0; i < turns / 8; i++) {
		packet(p, size);
		packet(p, size);
		packet(p, size);
		packet(p, size);
		packet(p, size);
		packet(p, size);
		packet(p, size);
		packet(p, size);
	}
	took = now(CLOCK_MONOTONIC) - begin;
	printf("{\"Elapsed\":%" PRId64 ",\"Packets\":%" PRIu64 ",\"Bytes\":%" PRIu64 ",\"Sum\":%" PRIu64
	    "}\n", took, tally.packets - packets, tally.bytes - bytes, tally.sum - was);
	free(p);
}

/* contestant.Spins */
static long
calibrate(int64_t work)
{
	const long n = 200000;
	int64_t best = INT64_MAX;

	for (int i = 0; i < 5; i++) {
		int64_t begin = now(CLOCK_PROCESS_CPUTIME_ID), took;

		tally.sum += spin(n);
		took = now(CLOCK_PROCESS_CPUTIME_ID) - begin;
		if (took < best)
			best = took;
	}
	return ((long)(n * work / best));
}

int
main(int argc, char **argv)
{
	struct config c;
	struct sigaction act = {.sa_handler = alarmed};
	void (*loop)(void);
	char line[64];
	bool lent = true;
	int instructions = (argc - 8) / 4;

	if (argc < 12)
		errx(2, "usage: contest loop interface memory timeout immediate work delays filter...");
	c = (struct config){.loop = argv[1], .ifname = argv[2], .memory = atoi(argv[3]),
	    .timeout = atoi(argv[4]), .immediate = atoi(argv[5]) != 0, .work = atoll(argv[6]),
	    .delays = (size_t)atoll(argv[7])};
	c.filter.bf_len = (u_int)instructions;
	c.filter.bf_insns = calloc((size_t)instructions, sizeof(struct bpf_insn));
	for (int i = 0; i < instructions; i++) {
		char **a = argv + 8 + 4 * i;
		c.filter.bf_insns[i] = (struct bpf_insn){(u_short)atoi(a[0]), (u_char)atoi(a[1]),
		    (u_char)atoi(a[2]), (bpf_u_int32)strtoul(a[3], NULL, 10)};
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	sigaction(SIGALRM, &act, NULL); /* without SA_RESTART */
	if (c.work > 0)
		tally.work = calibrate(c.work);
	if (c.delays > 0) {
		tally.most = c.delays;
		tally.delays = calloc(c.delays, sizeof(*tally.delays));
	}
	tally.slow = c.work > 0 || c.delays > 0;

	if (strcmp(c.loop, "bare") == 0) {
		bare_open(&c);
		loop = bare_run;
	} else {
		/* Lending has two buffers; read(2) has two of the kernel and libpcap's own. */
		lent = pcap_use(&c, 2);
		if (!lent) {
			pcap_close(handle);
			lent = pcap_use(&c, 3);
		}
		loop = strcmp(c.loop, "pcap_loop") == 0 ? loop_run : next_run;
	}
	printf("{\"Version\":\"%s\",\"Lent\":%s}\n", pcap_lib_version(), lent ? "true" : "false");
	while (fgets(line, sizeof(line), stdin) != NULL) {
		int n;

		if (sscanf(line, "run %d", &n) == 1)
			run(loop, n);
		else if (sscanf(line, "touch %d", &n) == 1)
			touch_cost((size_t)n);
		else
			printf("{}\n");
	}
	return (0);
}
