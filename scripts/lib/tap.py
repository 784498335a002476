# SPDX-License-Identifier: Apache-2.0
"""What a test's output says about its cases, so that a crash after good lines is never green."""

import re

LINE = re.compile(r"^\s*(not )?ok\b *(\d*)[ -]*(.*?)(?:\s#\s*(SKIP)\b\s*(.*)|\s#.*)?$", re.IGNORECASE)
PLAN = re.compile(r"1\.\.(\d+)(?:\s*#\s*SKIP\s*(.*))?")


def cases(name, lines, good, skip=False):
    """(passed, failed, [(case, reason)] skipped) of a test: the lines of a TAP test, or the test as a whole. `good` is whether its
    exit was, `skip` whether it said by its exit that it cannot run."""
    plan = next(filter(None, map(PLAN.match, lines)), None)
    if not plan:
        if skip:
            return 0, 0, [(name, (lines or ["no reason given"])[-1])]
        return (1, 0, []) if good else (0, 1, [])
    if plan[1] == "0":
        return (0, 0, [(name, plan[2] or "no reason given")]) if good else (0, 1, [])
    passed, failed, skipped = 0, 0, []
    for match in filter(None, map(LINE.match, lines)):
        if match[4]:
            skipped.append((f"{name}: {match[3]}", match[5] or "no reason given"))
        elif match[1]:
            failed += 1
        else:
            passed += 1
    # Less than was planned, or a bad end after good lines: a crash must not look green.
    failed += max(int(plan[1]) - passed - failed - len(skipped), 0)
    if not good and not failed:
        failed = 1
    return passed, failed, skipped
