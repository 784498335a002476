#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Every header compiles alone, so that the order of includes never matters."""

import concurrent.futures
import os
import subprocess

from lint import BUILD, ROOT, files, main

# X-macro lists say what they need in their first comment and are included by what defines the macro.
LISTS = "include/weft/lists/"


def compiles(root, file):
    name = str(file.relative_to(root))
    if name.startswith("bpf/"):
        command = ["clang", "-target", "bpf", "-D__TARGET_ARCH_x86", "-std=gnu17", f"-I{root}/bpf", f"-I{root}/bpf/vmlinux", "-I/usr/include/x86_64-linux-gnu"]
    else:
        command = ["cc", "-std=gnu17", f"-I{root}/userspace", f"-I{BUILD}", f"-I{BUILD}/bpf"]
    command += ["-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wno-unused-function", "-Wno-unused-parameter", "-Werror", f"-I{root}/include", "-fsyntax-only", "-x", "c", "-"]
    done = subprocess.run(command, input=f'#include "{file}"\n', capture_output=True, text=True, check=False, cwd=ROOT)
    return f"{name}:1: does not compile alone: {done.stderr.strip()[:600]}" if done.returncode else None


def check(root):
    headers = [f for f in files(root, "include/weft/**/*.h", "userspace/*/*.h", "bpf/lib/*.h", "bpf/maps/*.h", "bpf/vmlinux/*.h")
               if not str(f.relative_to(root)).startswith(LISTS)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return [s for s in pool.map(lambda f: compiles(root, f), headers) if s]


main(check)
