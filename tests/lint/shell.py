#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Shell scripts have nothing that shellcheck would say."""

import subprocess

from lint import files, main


def is_shell(file):
    with open(file, "rb") as head:
        return head.readline(64).startswith((b"#!/bin/sh", b"#!/bin/bash", b"#!/usr/bin/env bash"))


def check(root):
    scripts = [f for f in files(root, "*") if is_shell(f)]
    if not scripts:
        return [f"{root}: no shell script was found"]
    done = subprocess.run(["shellcheck", "--format=gcc", *scripts], capture_output=True, text=True, check=False)
    return [line.replace(f"{root}/", "") for line in (done.stdout + done.stderr).splitlines()]


main(check)
