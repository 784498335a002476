/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Constants of the programs that the loader sets before they are loaded. The
 * verifier sees them as known values and drops the branches they close, so a
 * program may name a helper that this kernel does not have. Map sizes are not
 * here: programs ask the map, whose look-up answers NULL past its end.
 *
 * WEFT_CONFIG(type, name, default, "sentence")
 */
WEFT_CONFIG(bool, weft_config_set_retval, false, "bpf_set_retval is there: a refusal is ECONNREFUSED, else EPERM")
WEFT_CONFIG(bool, weft_config_sockops_netns, false, "sockops may ask for the netns cookie: the server's side knows its pod by it")
