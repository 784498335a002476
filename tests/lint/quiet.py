#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Library folders never print: they hand errors up, and the one who knows the context says them."""

import re

from lint import files, main, without_comments

LIBRARIES = ("base", "event", "conf", "model", "kernel", "net", "ctl", "export")
# The one place that writes to stderr for all.
EXEMPT = ("userspace/base/log.c",)
WORDS = re.compile(r"\b(v?f?printf|f?puts|f?putc|putchar|perror|v?syslog|sd_journal_\w+|stdout|stderr)\b")


def check(root):
    said = []
    for file in files(root, *(f"userspace/{f}/*.[ch]" for f in LIBRARIES)):
        name = str(file.relative_to(root))
        if name in EXEMPT:
            continue
        text = without_comments(file.read_text())
        text = re.sub(r"__attribute__\(\(format\([^)]*\)\)\)", "", text)
        for number, line in enumerate(text.splitlines(), 1):
            word = WORDS.search(line)
            if word:
                said.append(f"{name}:{number}: a library does not print: {word[1]}")
    return said


main(check)
