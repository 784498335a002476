/* SPDX-License-Identifier: Apache-2.0 */
/* What help, man pages and completion all say of the table. */
#ifndef WEFT_CLI_DESCRIBE_H
#define WEFT_CLI_DESCRIBE_H

#include "base/buf.h"
#include "cli/cmds.h"

/* "namespace NS", "NS/NAME", "batch": without brackets. `text` has 64 bytes. */
const char *weft_argument_usage(const struct weft_argument *argument, char *text);
/* "weft service list [namespace NS] [name NAME]" */
int weft_command_usage(const struct weft_command *command, struct weft_buf *out);
/* "`tcp`, `udp`", or "" */
int weft_argument_choices(const struct weft_argument *argument, struct weft_buf *out);
/* "string", "number", "array of objects": the JSON type of a column. */
const char *weft_column_json_type(const struct weft_column *column);
/* What the command needs, as a sentence; NULL: nothing. */
const char *weft_command_needs(const struct weft_command *command);
/* What the command prints as JSON, as a sentence; NULL: it has no JSON form. */
const char *weft_command_json(const struct weft_command *command);

#endif
