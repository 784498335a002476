/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever weft.sock answers, to every command that asks the agent. First byte: which command; the rest is what it is told,
 * as it comes, until it hangs up. What is printed without an error is JSON again.
 */
#include <assert.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/agent.h"
#include "cli/cmds.h"

#define ANSWER_MAX 65536 /* what a socket holds without a reader */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* By the table, so that a new command that needs the agent is fuzzed at once. */
static const struct weft_command *command_of(uint8_t byte)
{
	size_t count = 0;

	for (int pass = 0; pass < 2; pass++)
		for (size_t i = 0, seen = 0; i < weft_commands_count; i++) {
			if (!(weft_commands[i].needs & (WEFT_NEEDS_AGENT | WEFT_USES_AGENT)) ||
			    (weft_commands[i].needs & WEFT_NEEDS_WEFTD))
				continue;
			if (pass == 0)
				count++;
			else if (seen++ == byte % count)
				return &weft_commands[i];
		}
	abort();
}

static const uint8_t *answer;
static size_t answer_size;
static int peer = -1;

/* libc's, for the commands: the agent is a pair of sockets that holds its answer already. */
int connect(int fd, const struct sockaddr *name, socklen_t size)
{
	int pair[2];

	(void)name;
	(void)size;
	weft_closep(&peer);
	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	peer = pair[1];
	assert(send(peer, answer, answer_size, MSG_DONTWAIT) == (ssize_t)answer_size);
	assert(shutdown(peer, SHUT_WR) == 0);
	assert(dup3(pair[0], fd, O_CLOEXEC) == fd);
	close(pair[0]);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct weft_options options = { .json = true, .run = "/nonexistent", .pins = "/nonexistent", .state = "/nonexistent" };
	weft_free_on_exit char *printed = NULL;
	size_t printed_size = 0;
	struct weft_output output = { .ops = &weft_output_json_ops };
	struct weft_context context = { .options = &options, .output = &output, .program = "weft" };
	const struct weft_command *command;
	struct weft_args args = { 0 };
	struct weft_err err = { "" };
	int r;

	if (size < 1 || size > ANSWER_MAX)
		return 0;
	answer = data + 1;
	answer_size = size - 1;
	command = command_of(data[0]);
	/* A command is never run without what it requires. */
	for (const struct weft_argument *argument = command->arguments; argument && argument->sentence; argument++)
		if (argument->required)
			args.text[argument->slot] = "namespace/name";
	if (data[0] & 0x80)
		output.ops = &weft_output_text_ops;
	for (const struct weft_argument *argument = command->arguments; argument && argument->sentence; argument++)
		if (argument->required)
			args.text[argument->slot] = "a/b";
	output.to = open_memstream(&printed, &printed_size);
	assert(output.to);
	weft_output_begin(&output, command->form, command->columns);
	r = command->run(&context, &args, &err);
	if (r == 0)
		assert(weft_output_end(&output) == 0);
	weft_output_drop(&output);
	fclose(output.to);
	assert(r >= 0 || err.text[0]);
	if (r == 0 && command->form != WEFT_FORM_STREAM && output.ops == &weft_output_json_ops) {
		weft_json_on_exit struct json_object *again = json_tokener_parse(printed);

		assert(again);
	}
	weft_closep(&peer);
	peer = -1;
	return 0;
}
