/* SPDX-License-Identifier: GPL-2.0-only */
/* lists/config.h as read-only data of the object; what the loader writes there is a constant to the verifier. */
#ifndef WEFT_LIB_CONFIG_H
#define WEFT_LIB_CONFIG_H

#include "weft/abi/types.h"
#include <bpf/bpf_helpers.h>

#define WEFT_CONFIG(type, name, value, sentence) const volatile type name __weak = value;
#include "weft/lists/config.h"
#undef WEFT_CONFIG

#endif
