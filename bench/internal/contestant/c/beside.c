/*
 * What libpcap does in a situation. The test that starts this program makes the situation.
 *
 *	beside SITUATION INTERFACE TIMEOUT-MS BUFFER
 *
 * It prints "ready MODE VERSION", a line "packet" for each packet, and "end" with what libpcap
 * returned. In the situation "drops" it reads nothing before a line comes on standard input.
 */
#include <sys/types.h>
#include <sys/ioctl.h>

#include <net/bpf.h>

#include <err.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pcap/pcap.h>

static pcap_t *handle;

static void
callback(u_char *user, const struct pcap_pkthdr *h, const u_char *p)
{
	(void)user, (void)h, (void)p;
	puts("packet");
}

static void
alarmed(int sig)
{
	(void)sig;
	pcap_breakloop(handle);
}

/* A thread breaks the loop when a line comes. */
static void *
breaker(void *arg)
{
	char line[16];

	(void)arg;
	if (fgets(line, sizeof(line), stdin) != NULL)
		pcap_breakloop(handle);
	return (NULL);
}

int
main(int argc, char **argv)
{
	char text[PCAP_ERRBUF_SIZE], line[16];
	const char *what;
	struct sigaction act = {.sa_handler = alarmed};
	u_int mode = 0;
	int status;

	if (argc != 5)
		errx(2, "usage: beside situation interface timeout buffer");
	what = argv[1];
	setvbuf(stdout, NULL, _IOLBF, 0);
	if ((handle = pcap_create(argv[2], text)) == NULL)
		errx(1, "pcap_create: %s", text);
	pcap_set_snaplen(handle, 65535);
	pcap_set_timeout(handle, atoi(argv[3]));
	pcap_set_buffer_size(handle, atoi(argv[4]));
	if ((status = pcap_activate(handle)) < 0)
		errx(1, "pcap_activate: %s: %s", pcap_statustostr(status), pcap_geterr(handle));
	if (strcmp(what, "nonblock") == 0 && pcap_setnonblock(handle, 1, text) < 0)
		errx(1, "pcap_setnonblock: %s", text);
	if (strcmp(what, "fork") == 0) {
		pid_t child = fork();

		if (child < 0)
			err(1, "fork");
		if (child == 0) {
			/* It lives as long as the test. */
			while (fgets(line, sizeof(line), stdin) != NULL)
				continue;
			_exit(0);
		}
	}
	if (ioctl(pcap_fileno(handle), BIOCGETBUFMODE, &mode) < 0)
		err(1, "BIOCGETBUFMODE");
	printf("ready %s %s\n", mode == BPF_BUFMODE_ZBUF ? "lent" : "buffered", pcap_lib_version());

	if (strcmp(what, "breakloop") == 0) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, breaker, NULL) != 0)
			errx(1, "pthread_create");
	}
	if (strcmp(what, "nonblock") == 0)
		status = pcap_dispatch(handle, -1, callback, NULL);
	else if (strcmp(what, "drops") == 0) {
		struct pcap_stat st;

		if (fgets(line, sizeof(line), stdin) == NULL)
			return (1);
		sigaction(SIGALRM, &act, NULL); /* without SA_RESTART */
		alarm(1);
		status = pcap_loop(handle, -1, callback, NULL);
		pcap_stats(handle, &st);
		printf("end received %u dropped %u\n", st.ps_recv, st.ps_drop);
		return (0);
	} else
		status = pcap_loop(handle, -1, callback, NULL);
	if (status == PCAP_ERROR)
		printf("end error: %s\n", pcap_geterr(handle));
	else
		printf("end returned %d\n", status);
	return (0);
}
