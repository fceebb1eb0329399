/*
 * The yardstick of BenchmarkWalk: goes over buffers of bpf records. It has two loops. One calls a
 * function through a pointer for each packet, as libpcap does, with the packet header that users of
 * pcap(3) get. The other has the same work in its body and calls nothing.
 *
 * usage: walk processor
 *        walk FILE SLOT-BYTES
 *
 * The first names the processor. The second maps FILE, which has slots of that length. A slot has
 * the length of its records in the first page, and the records behind that page.
 *
 * It answers lines on its standard input. For "call START" and "body START" it goes over the slots
 * from number START on, round and round. It prints the ns per packet of the fastest stretch, and
 * which slot would be next. Other work of the machine only adds time. For "sum-call 0" and
 * "sum-body 0" it goes over each slot once, and prints what it counted.
 */
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#else
#include <sys/utsname.h>
#endif

#ifndef ALIGNMENT
#define ALIGNMENT 8 /* of a record: BPF_ALIGNMENT */
#endif
#define HEAD    4096    /* where the records of a slot begin */
#define STRETCH 16384   /* packets that one reading of the clock is about */
#define TURN    2000000 /* ns */

struct xhdr {
	int64_t sec;
	uint64_t frac;
	uint32_t caplen, datalen;
	uint16_t hdrlen;
};

struct pkthdr {
	struct timeval ts;
	uint32_t caplen, len;
};

typedef void (*handler)(unsigned char *, const struct pkthdr *, const unsigned char *);

struct sum {
	uint64_t packets, bytes, first;
};

static void
count(unsigned char *user, const struct pkthdr *h, const unsigned char *data)
{
	struct sum *s = (struct sum *)user;

	s->packets++;
	s->bytes += h->len;
	s->first += data[0];
}

/* Both lengths are in variables of their own, or the compiler would load them again after the call. */
static void __attribute__((noinline))
walk_call(const unsigned char *p, const unsigned char *end, handler cb, struct sum *s)
{
	while (p < end) {
		const struct xhdr *h = (const struct xhdr *)p;
		uint32_t caplen = h->caplen, hdrlen = h->hdrlen;
		struct pkthdr ph;

		ph.ts.tv_sec = h->sec;
		ph.ts.tv_usec = (suseconds_t)((1000000 * (h->frac >> 32)) >> 32);
		ph.caplen = caplen;
		ph.len = h->datalen;
		cb((unsigned char *)s, &ph, p + hdrlen);
		p += (hdrlen + caplen + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
	}
}

static void __attribute__((noinline))
walk_body(const unsigned char *p, const unsigned char *end, handler cb, struct sum *s)
{
	(void)cb;
	while (p < end) {
		const struct xhdr *h = (const struct xhdr *)p;
		uint32_t caplen = h->caplen, hdrlen = h->hdrlen;

		s->packets++;
		s->bytes += h->datalen;
		s->first += p[hdrlen];
		p += (hdrlen + caplen + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
	}
}

static uint64_t
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int
processor(void)
{
#if defined(__x86_64__) || defined(__i386__)
	unsigned a, b, c, d, family, model, i, r[12];
	char vendor[13] = "", brand[49] = "";
	const char *name = brand;

	__cpuid(0, a, b, c, d);
	memcpy(vendor, &b, 4);
	memcpy(vendor + 4, &d, 4);
	memcpy(vendor + 8, &c, 4);
	__cpuid(1, a, b, c, d);
	family = a >> 8 & 15;
	model = a >> 4 & 15;
	if (family == 6 || family == 15)
		model |= a >> 12 & 0xf0;
	if (family == 15)
		family += a >> 20 & 0xff;
	for (i = 0; i < 3; i++)
		__cpuid(0x80000002 + i, r[4 * i], r[4 * i + 1], r[4 * i + 2], r[4 * i + 3]);
	memcpy(brand, r, 48);
	while (*name == ' ')
		name++;
	printf("%s, %s family %u model %u%s\n", name, vendor, family, model,
	    c >> 31 ? ", in a virtual machine" : "");
#else
	struct utsname u;

	if (uname(&u) < 0)
		return 1;
	printf("%s\n", u.machine);
#endif
	return 0;
}

/* Goes over one slot by the loop that the name asks for. */
static void
slot(const unsigned char *b, int call, handler cb, struct sum *s)
{
	uint64_t length;

	memcpy(&length, b, sizeof length);
	b += HEAD;
	if (call)
		walk_call(b, b + length, cb, s);
	else
		walk_body(b, b + length, cb, s);
}

int
main(int argc, char **argv)
{
	size_t size, n, at;
	const unsigned char *buf;
	struct stat st;
	struct sum s = {0, 0, 0};
	handler volatile cb = count;
	char word[9];
	int fd;

	if (argc == 2 && strcmp(argv[1], "processor") == 0)
		return processor();
	if (argc != 3 || (size = strtoul(argv[2], 0, 10)) == 0)
		return 2;
	if ((fd = open(argv[1], O_RDONLY)) < 0 || fstat(fd, &st) < 0)
		return 1;
	n = (size_t)st.st_size / size;
	buf = mmap(0, n * size, PROT_READ, MAP_SHARED, fd, 0);
	if (n == 0 || buf == MAP_FAILED)
		return 1;
	while (scanf("%8s %zu", word, &at) == 2) {
		int sums = strncmp(word, "sum-", 4) == 0;
		int call = strcmp(sums ? word + 4 : word, "call") == 0;
		double best = 1e9, ns;
		uint64_t start = now(), begin, end;

		memset(&s, 0, sizeof s);
		if (sums) {
			for (at = 0; at < n; at++)
				slot(buf + at * size, call, cb, &s);
			printf("%ju %ju %ju\n", (uintmax_t)s.packets, (uintmax_t)s.bytes,
			    (uintmax_t)s.first);
			fflush(stdout);
			continue;
		}
		do {
			s.packets = 0;
			begin = now();
			for (; s.packets < STRETCH; at++)
				slot(buf + at % n * size, call, cb, &s);
			end = now();
			ns = (double)(end - begin) / (double)s.packets;
			if (ns < best)
				best = ns;
		} while (end - start < TURN);
		printf("%.4f %zu\n", best, at % n);
		fflush(stdout);
	}
	return 0;
}
