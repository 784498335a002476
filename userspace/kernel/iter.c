/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/iter.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

/* Far more than are needed unless sockets come and go faster than they can be read. */
#define PASSES_MAX 12
#define QUIET_PASSES 3
#define PART 32768

static int read_all(int link, struct weft_buf *output, size_t size, unsigned int *ret_reads)
{
	weft_close_on_exit int stream = bpf_iter_create(link);
	unsigned int reads = 0;
	char part[PART];
	ssize_t got;
	int r = 0;

	if (stream < 0)
		return -errno;
	while (r == 0 && (got = read(stream, part, size)) != 0) {
		if (got > 0) {
			r = output ? weft_buf_add(output, part, (size_t)got) : 0;
			reads++;
		} else if (errno != EINTR &&
			   errno != EAGAIN) { /* EAGAIN: it walked long without printing and wants to be asked again */
			r = -errno;
		}
	}
	*ret_reads = reads;
	return r;
}

int weft_iter_run(int link, struct weft_buf *output)
{
	unsigned int reads;

	return read_all(link, output, PART, &reads);
}

static int by_cookie(const void *a, const void *b)
{
	const struct weft_conn *left = a, *right = b;

	return (left->cookie > right->cookie) - (left->cookie < right->cookie);
}

static size_t count_of(const struct weft_buf *conns)
{
	return conns->size / sizeof(struct weft_conn);
}

static void sort(struct weft_buf *conns)
{
	if (conns->size)
		qsort(conns->data, count_of(conns), sizeof(struct weft_conn), by_cookie);
}

int weft_iter_merge(struct weft_buf *all, struct weft_buf *pass, __u64 before_ns)
{
	size_t known = count_of(all), size = all->size;
	int older = 0;

	sort(pass);
	for (size_t i = 0; i < count_of(pass); i++) {
		const struct weft_conn *conn = (const struct weft_conn *)pass->data + i;
		struct weft_conn *same = NULL;

		if (i && conn[-1].cookie == conn->cookie)
			continue;
		if (known)
			same = bsearch(conn, all->data, known, sizeof(*conn), by_cookie);
		if (same) {
			*same = *conn;
			continue;
		}
		if (weft_buf_add(all, conn, sizeof(*conn)) < 0) {
			all->size = size;
			return -ENOMEM;
		}
		older += conn->start_ns < before_ns;
	}
	sort(all);
	return older;
}

/*
 * The kernel goes on in its next read at the place by number within a hash bucket: a socket that went away before that
 * place hides another, one that came shows one again. So a list of more than one read is
 * read until several passes in a row find no connection that was there before the first and that no pass had found. Each
 * pass reads in steps of another size, else the same sockets would stand at the steps' ends every time.
 */
int weft_iter_conns(int link, struct weft_buf *conns)
{
	weft_buf_done_on_exit struct weft_buf all = WEFT_BUF_INIT, pass = WEFT_BUF_INIT;
	struct timespec now;
	unsigned int reads, quiet = 0;
	__u64 begin_ns;
	int r, found;

	clock_gettime(CLOCK_MONOTONIC, &now);
	begin_ns = (__u64)now.tv_sec * 1000000000u + (__u64)now.tv_nsec;
	for (unsigned int i = 0; i < PASSES_MAX; i++) {
		weft_buf_clear(&pass);
		r = read_all(link, &pass, PART - i * 17 * sizeof(struct weft_conn), &reads);
		if (r == 0 && pass.size % sizeof(struct weft_conn))
			r = -EPROTO;
		if (r < 0)
			return r;
		found = weft_iter_merge(&all, &pass, begin_ns);
		if (found < 0)
			return found;
		if (i == 0 && reads <= 1)
			break;
		quiet = found == 0 ? quiet + 1 : 0;
		if (quiet == QUIET_PASSES)
			break;
	}
	return all.size ? weft_buf_add(conns, all.data, all.size) : 0;
}

int weft_iter_netns(struct weft_netns_list *list)
{
	int r = weft_netns_list_named(list);

	return r < 0 ? r : weft_netns_list_processes(list);
}

struct inside {
	const int *links;
	size_t count;
	int (*run)(int link, struct weft_buf *output);
	struct weft_buf *output;
};

static int run_inside(void *context)
{
	const struct inside *inside = context;
	int r = 0;

	for (size_t i = 0; r == 0 && i < inside->count; i++)
		r = inside->run(inside->links[i], inside->output);
	return r;
}

int weft_iter_inside(int netns, const int *links, size_t count, int (*run)(int link, struct weft_buf *output), struct weft_buf *output)
{
	struct inside inside = { links, count, run, output };

	return weft_netns_run(netns, run_inside, &inside);
}

int weft_iter_everywhere(const struct weft_netns_list *list, const int *links, size_t count, int (*run)(int link, struct weft_buf *output),
			 struct weft_buf *output)
{
	size_t before = output ? output->size : 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < list->count; i++)
		r = weft_iter_inside(list->netns[i].fd, links, count, run, output);
	if (r < 0 && output)
		output->size = before;
	return r;
}
