/* SPDX-License-Identifier: Apache-2.0 */
/* The small mesh that golden tests look at. */
#ifndef WEFT_TESTS_CLI_FIXTURE_H
#define WEFT_TESTS_CLI_FIXTURE_H

#define FIXTURE_NOW_NS 100000000000000ull /* a day and some hours after boot */

#endif
