/* SPDX-License-Identifier: Apache-2.0 */
/* Man pages and completion, made from the table by the build: `weft --generate man DIR`, `weft --generate completion DIR`. */
#ifndef WEFT_CLI_GENERATE_H
#define WEFT_CLI_GENERATE_H

#include "base/err.h"

/* `directory` is made if it is missing. 0 or -errno with `err`; files written before stay. */
int weft_generate(const char *what, const char *directory, struct weft_err *err);

#endif
