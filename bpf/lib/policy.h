/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The arithmetic of a policy set (abi/maps.h, struct weft_policy), free of maps and helpers, so that a host test can hold it
 * against an evaluator that works from the configuration. lib/judge.h does the look-ups.
 */
#ifndef WEFT_LIB_POLICY_H
#define WEFT_LIB_POLICY_H

#include <stdbool.h>

#include "weft/abi/maps.h"

#define WEFT_POLICY_WORDS (WEFT_POLICY_MAX_CLAUSES / 64)

/* What the three look-ups answered: clauses that the source, the address and the port do not contradict. */
struct weft_policy_seen {
	const struct weft_clauses *source;
	const struct weft_clauses *addr; /* NULL: not known yet */
	const struct weft_clauses *port;
};

#define WEFT_POLICY_DENIED 0x01u
#define WEFT_POLICY_DRY_DENIED 0x02u /* those in dry-run, if they were in force, would have denied it */

/*
 * Deny comes first; what no ALLOW policy speaks of is allowed; else one clause has to. While the address is not known only
 * what holds for every address is denied: a clause that denies some is not counted, one that allows some is.
 */
static inline __attribute__((always_inline)) __u32 weft_policy_decide(const struct weft_policy *policy,
								     const struct weft_policy_seen *seen)
{
	__u64 deny = 0, allow = 0, dry_deny = 0, dry_allow = 0;
	__u32 verdict = 0;

	for (int i = 0; i < WEFT_POLICY_WORDS; i++) {
		__u64 may = seen->source->word[i] & seen->port->word[i];
		__u64 must = may & (seen->addr ? seen->addr->word[i] : policy->every_address.word[i]);

		if (seen->addr)
			may = must;
		deny |= must & policy->deny.word[i];
		allow |= may & policy->allow.word[i];
		dry_deny |= must & policy->dry_deny.word[i];
		dry_allow |= may & policy->dry_allow.word[i];
	}
	if (deny || ((policy->flags & WEFT_POLICY_F_ALLOW) && !allow))
		verdict |= WEFT_POLICY_DENIED;
	if (dry_deny || ((policy->flags & WEFT_POLICY_F_DRY_ALLOW) && !dry_allow))
		verdict |= WEFT_POLICY_DRY_DENIED;
	return verdict;
}

#endif
