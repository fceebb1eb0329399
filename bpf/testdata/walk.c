/*
 * The yardstick of BenchmarkWalk: goes over a buffer of bpf records and calls a function through a
 * pointer for each, with the packet header that pcap(3) users get. Prints ns per packet of the fastest walk:
 * whatever else the machine does only adds.
 * usage: walk BUFFER-BYTES PACKET-BYTES MILLISECONDS
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

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

static uint64_t
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void __attribute__((noinline))
walk(const unsigned char *p, const unsigned char *end, handler cb, unsigned char *user)
{
	while (p < end) {
		const struct xhdr *h = (const struct xhdr *)p;
		struct pkthdr ph;

		ph.ts.tv_sec = h->sec;
		ph.ts.tv_usec = (suseconds_t)((1000000 * (h->frac >> 32)) >> 32);
		ph.caplen = h->caplen;
		ph.len = h->datalen;
		cb(user, &ph, p + h->hdrlen);
		p += (h->hdrlen + ph.caplen + 7) & ~(size_t)7;
	}
}

int
main(int argc, char **argv)
{
	size_t size = argc > 3 ? strtoul(argv[1], 0, 10) : 0, room = size - 32;
	size_t pkt = argc > 3 ? strtoul(argv[2], 0, 10) : 0;
	uint64_t limit = argc > 3 ? strtoul(argv[3], 0, 10) * 1000000 : 0;
	unsigned char *buf = aligned_alloc(4096, size);
	size_t at = 0;
	struct sum s = {0, 0, 0};
	handler volatile cb = count;
	uint64_t start, begin, best = UINT64_MAX, packets = 0;

	if (limit == 0 || buf == NULL)
		return 2;
	memset(buf, 1, size);
	while (at + 26 + pkt <= room) {
		struct xhdr h = {1, 1, (uint32_t)pkt, (uint32_t)pkt, 26};
		memcpy(buf + 32 + at, &h, sizeof h);
		at = (at + 26 + pkt + 7) & ~(size_t)7;
	}
	start = now();
	do {
		uint64_t before = s.packets, took;

		begin = now();
		walk(buf + 32, buf + 32 + at, cb, (unsigned char *)&s);
		took = now() - begin;
		packets = s.packets - before;
		if (took < best)
			best = took;
	} while (begin - start < limit);
	printf("%.4f\n", (double)best / (double)packets);
	return s.bytes == 0 || s.first == 0;
}
