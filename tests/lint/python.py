#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Python compiles without a warning."""

import warnings

from lint import files, main


def check(root):
    said = []
    scripts = [f for f in files(root, "scripts/*") if f.read_bytes().startswith(b"#!/usr/bin/python3")]
    for file in files(root, "*.py") + scripts:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                compile(file.read_text(), str(file), "exec")
        except (SyntaxError, Warning) as error:
            said.append(f"{file.relative_to(root)}:{getattr(error, 'lineno', 1)}: {error}")
    return said


main(check)
